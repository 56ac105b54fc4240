#!/usr/bin/env python3
"""An external trainer for `train-lora --engine command`: TRL's SFTTrainer with PEFT.

One process:     python3 trl_train.py {job} {out}
Several GPUs:    accelerate launch --num_processes 4 trl_train.py {job} {out}
                 torchrun --standalone --nproc_per_node 4 trl_train.py {job} {out}

Trains on the ids and labels of the job, so that the masks are Nightshift's own. Writes the PEFT folder, the
curve, and last of all result.json; rank 0 alone writes. Goes on from the newest checkpoint of an earlier try.
"""

import hashlib
import json
import os
import pathlib
import sys
import time

import peft
import torch
import transformers
import trl
from datasets import Dataset
from safetensors import safe_open

SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def rows(path, part):
    """The job's rows as lists of ids and labels; -100 is not learned."""
    with safe_open(path, framework="pt") as file:
        ids, labels, offsets = (file.get_tensor(f"{part}.{name}").tolist() for name in ("ids", "labels", "offsets"))
    cuts = list(zip(offsets, offsets[1:]))
    return {"input_ids": [ids[a:b] for a, b in cuts], "labels": [labels[a:b] for a, b in cuts]}


def collate(features):
    """Pads to the right; padding is not learned and not seen."""
    longest = max(len(feature["input_ids"]) for feature in features)
    pad = lambda values, filler: values + [filler] * (longest - len(values))
    return {
        "input_ids": torch.tensor([pad(feature["input_ids"], 0) for feature in features]),
        "labels": torch.tensor([pad(feature["labels"], -100) for feature in features]),
        "attention_mask": torch.tensor([pad([1] * len(feature["input_ids"]), 0) for feature in features]),
    }


class Curve(transformers.TrainerCallback):
    """metrics.jsonl: one line a step."""

    def __init__(self, path):
        self.path = path

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or "loss" not in (logs or {}):
            return
        line = {"step": state.global_step, "loss": logs["loss"], "lr": logs.get("learning_rate"),
                "grad_norm": logs.get("grad_norm")}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


class InOrder(trl.SFTTrainer):
    """Keeps the order of the job where it asks for that."""

    def _get_train_sampler(self, *args, **kwargs):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def main():
    job_dir, out = (pathlib.Path(argument) for argument in sys.argv[1:3])
    job = json.loads((job_dir / "job.json").read_text())
    assert job["schema"] == 1, "another contract than this script was written for"
    lora, optim = job["lora"], job["optim"]
    started = time.time()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    micro = max(1, min(optim["micro_batch"], optim["window"] // world))
    accumulation = max(1, optim["window"] // (micro * world))
    data = rows(job_dir / "tokens.safetensors", "train")
    cuda = torch.cuda.is_available()
    out.mkdir(parents=True, exist_ok=True)

    model = transformers.AutoModelForCausalLM.from_pretrained(
        job["base"]["path"], dtype=torch.bfloat16 if cuda else torch.float32)
    if job["init_adapter"]:
        model = peft.PeftModel.from_pretrained(model, job["init_adapter"], is_trainable=True)
        config = None
    else:
        config = peft.LoraConfig(
            task_type="CAUSAL_LM", r=lora["r"], lora_alpha=lora["alpha"], lora_dropout=lora["dropout"],
            target_modules=lora["targets"], use_rslora=lora["rslora"], use_dora=lora["dora"])
    settings = trl.SFTConfig(
        output_dir=job["checkpoints"], seed=job["seed"], data_seed=job["seed"],
        per_device_train_batch_size=micro, gradient_accumulation_steps=accumulation,
        learning_rate=optim["lr"], lr_scheduler_type=SCHEDULES[optim["schedule"]], warmup_steps=optim["warmup_steps"],
        num_train_epochs=optim["epochs"],
        max_steps=optim["max_steps"] if optim["max_steps"] < optim["schedule_steps"] else -1,
        weight_decay=optim["weight_decay"], max_grad_norm=optim["clip"], adam_beta1=optim["betas"][0],
        adam_beta2=optim["betas"][1], adam_epsilon=optim["eps"], max_length=None, packing=False,
        dataset_kwargs={"skip_prepare_dataset": True}, remove_unused_columns=False, gradient_checkpointing=cuda,
        bf16=cuda, use_cpu=not cuda, logging_steps=1, report_to=[], save_strategy="steps", save_steps=100,
        save_total_limit=1, save_only_model=False, dataloader_num_workers=0)
    trainer = (trl.SFTTrainer if job["data"]["shuffle"] else InOrder)(
        model=model, args=settings, train_dataset=Dataset.from_dict(data), data_collator=collate, peft_config=config,
        processing_class=transformers.AutoTokenizer.from_pretrained(job["base"]["path"]),
        callbacks=[Curve(out / "metrics.jsonl")])
    done = trainer.train(resume_from_checkpoint=bool(job["resume_from"]) or None)
    trainer.accelerator.wait_for_everyone()
    if not trainer.is_world_process_zero():
        return

    adapter = out / "adapter"
    trainer.accelerator.unwrap_model(trainer.model).save_pretrained(adapter)
    digest = hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()
    result = {
        "schema": 1, "status": "done", "steps": done.global_step,
        "scored_tokens": sum(label != -100 for row in data["labels"] for label in row),
        "wall_s": time.time() - started, "best_step": None,
        "trainer": f"trl {trl.__version__}, peft {peft.__version__}", "adapter_sha256": digest}
    # Written beside and renamed: whoever sees result.json sees a whole adapter.
    (out / "result.tmp").write_text(json.dumps(result))
    os.replace(out / "result.tmp", out / "result.json")


if __name__ == "__main__":
    main()
