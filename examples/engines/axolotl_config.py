#!/usr/bin/env python3
"""Renders a job as an axolotl config and a dataset of ids and labels.

usage: axolotl_config.py JOB OUT CONFIG.yml

axolotl takes rows that hold input_ids, attention_mask and labels as they are, so no template or mask of its own
comes in between, and nothing is dropped for its length.
"""

import json
import pathlib
import struct
import sys


def tensors(path):
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + length])
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            yield name, [value for (value,) in struct.iter_unpack("<q", raw[8 + length + begin:8 + length + end])]


def main():
    job_dir, out, config_path = (pathlib.Path(argument) for argument in sys.argv[1:4])
    job = json.loads((job_dir / "job.json").read_text())
    lora, optim = job["lora"], job["optim"]
    values = dict(tensors(job_dir / "tokens.safetensors"))
    work = out / "axolotl"
    work.mkdir(parents=True, exist_ok=True)
    with (work / "rows.jsonl").open("w") as file:
        for begin, end in zip(values["train.offsets"], values["train.offsets"][1:]):
            ids = values["train.ids"][begin:end]
            row = {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": values["train.labels"][begin:end]}
            file.write(json.dumps(row) + "\n")
    longest = max(end - begin for begin, end in zip(values["train.offsets"], values["train.offsets"][1:]))
    config = {
        "base_model": job["base"]["path"],
        "adapter": "lora", "lora_r": lora["r"], "lora_alpha": lora["alpha"], "lora_dropout": lora["dropout"],
        "lora_target_modules": lora["targets"], "peft_use_rslora": lora["rslora"], "peft_use_dora": lora["dora"],
        "datasets": [{"path": str(work / "rows.jsonl"), "ds_type": "json", "type": ""}],
        "dataset_prepared_path": str(work / "prepared"), "output_dir": str(work / "model"),
        # Its default drops rows without a word; here none can be too long.
        "sequence_len": longest, "excess_length_strategy": "raise", "sample_packing": False, "pad_to_sequence_len": False,
        "micro_batch_size": optim["micro_batch"],
        "gradient_accumulation_steps": max(1, optim["window"] // optim["micro_batch"]),
        "num_epochs": optim["epochs"], "max_steps": optim["max_steps"], "learning_rate": optim["lr"],
        "lr_scheduler": {"constant": "constant_with_warmup"}.get(optim["schedule"], optim["schedule"]),
        "warmup_steps": optim["warmup_steps"], "optimizer": "adamw_torch", "weight_decay": optim["weight_decay"],
        "max_grad_norm": optim["clip"], "logging_steps": 1, "save_strategy": "epoch", "save_total_limit": 1,
        "save_safetensors": True, "val_set_size": 0, "seed": job["seed"], "bf16": "auto",
    }
    # JSON is YAML.
    config_path.write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()
