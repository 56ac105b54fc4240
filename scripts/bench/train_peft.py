"""LoRA training with PEFT and torch's AdamW on a CPU, as `scripts/bench-train` measures it.

    python train_peft.py JOB.json

The job: model, rows, adapter (a PEFT folder to begin with), mode (padded | packed | packed256 | packed1024), dtype,
threads, batch, accumulation, lr, epochs, max_steps. Prints one JSON object: loss, tokens and seconds of each optimiser
step, the speed without the first step, peak memory, and seconds from the start of Python to the end of the first step.

Same semantics as ours: a step takes batch x accumulation rows in the order of the file, its loss is the sum of the
answer tokens' NLL over their number, linear decay to zero, clip 1.0, no weight decay.
"""

import time

STARTED = time.time()

import json
import math
import pathlib
import resource
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

job = json.load(open(sys.argv[1]))
torch.set_num_threads(job["threads"])
dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[job["dtype"]]
tokenizer = AutoTokenizer.from_pretrained(job["model"])
model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=dtype, attn_implementation="sdpa")
model = PeftModel.from_pretrained(model, job["adapter"], is_trainable=True)
model.config.use_cache = False


def encode(row):
    """Token ids and labels; scored are the answer and the end-of-turn token, not the newline behind it."""
    turns = [{"role": "user", "content": row["instruction"]}, {"role": "assistant", "content": row["output"]}]
    prompt = tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    assert whole.startswith(prompt)
    head = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer = tokenizer(whole[len(prompt):], add_special_tokens=False)["input_ids"]
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends]) | {tokenizer.eos_token_id}
    end = next(at for at, token in enumerate(answer) if token in ends)
    return head + answer[: end + 1], [-100] * len(head) + answer[: end + 1]


def batches(rows):
    """Forward passes of one window: (ids, labels, positions or None, attention mask or None)."""
    if job["mode"] == "padded":
        for at in range(0, len(rows), job["batch"]):
            part = rows[at : at + job["batch"]]
            length = max(len(ids) for ids, _ in part)
            pad = lambda values, with_: torch.tensor([v + [with_] * (length - len(v)) for v in values])
            ids = pad([ids for ids, _ in part], 0)
            mask = pad([[1] * len(ids) for ids, _ in part], 0)
            yield ids, pad([labels for _, labels in part], -100), None, mask
        return
    limit = {"packed": None, "packed256": 256, "packed1024": 1024}[job["mode"]]
    bins = []
    if limit is None:
        bins = [rows[at : at + job["batch"]] for at in range(0, len(rows), job["batch"])]
    else:
        # Best fit, longest first: what TRL calls bfd.
        room = []
        for row in sorted(rows, key=lambda row: -len(row[0])):
            fits = [at for at in range(len(bins)) if room[at] >= len(row[0])]
            at = min(fits, key=lambda at: room[at], default=None)
            if at is None:
                bins.append([row])
                room.append(limit - len(row[0]))
            else:
                bins[at].append(row)
                room[at] -= len(row[0])
    for part in bins:
        ids = [token for ids, _ in part for token in ids]
        # The first token of a sequence is predicted from another sequence: not scored (it never is here).
        labels = [label for _, labels in part for label in [-100] + labels[1:]]
        positions = [at for ids, _ in part for at in range(len(ids))]
        yield tuple(torch.tensor([values]) for values in (ids, labels, positions)) + (None,)


rows = [encode(json.loads(line)) for line in open(job["rows"], encoding="utf-8")]
window = job["batch"] * job["accumulation"]
total = math.ceil(len(rows) / window) * job["epochs"]
parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimiser = torch.optim.AdamW(parameters, lr=job["lr"], weight_decay=0.0)
model.train()
steps, first_step_s = [], None
for step in range(min(total, job["max_steps"])):
    at = step % math.ceil(len(rows) / window) * window
    part = rows[at : at + window]
    began = time.perf_counter()
    scored = sum(label != -100 for _, labels in part for label in labels[1:])
    for group in optimiser.param_groups:
        group["lr"] = job["lr"] * (total - step) / total
    optimiser.zero_grad(set_to_none=True)
    nll = 0.0
    for ids, labels, positions, mask in batches(part):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = model(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(
            logits[0 if mask is None else slice(None), :-1].float().reshape(-1, logits.shape[-1]),
            labels[:, 1:].reshape(-1),
            ignore_index=-100,
            reduction="sum",
        )
        (loss / scored).backward()
        nll += loss.item()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimiser.step()
    steps.append({"loss": nll / scored, "tokens": sum(len(ids) for ids, _ in part), "seconds": time.perf_counter() - began})
    first_step_s = first_step_s or time.time() - STARTED
rest = steps[1:]
print(json.dumps({
    "steps": steps,
    "tokens_per_s": sum(step["tokens"] for step in rest) / sum(step["seconds"] for step in rest),
    "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "first_step_s": first_step_s,
    "trainable": sum(parameter.numel() for parameter in parameters),
}))
