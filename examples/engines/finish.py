#!/usr/bin/env python3
"""Writes result.json for a trainer that knows nothing of Nightshift: the last step of its command.

usage: finish.py JOB OUT ADAPTER TRAINER STEPS [TRAINER_STATE.json]

Copies the two files of the PEFT folder ADAPTER to OUT/adapter, turns the log history of a transformers
trainer_state.json into metrics.jsonl, and counts the labels of the job: the trainer must have used its ids, or a
mask that is the same. Needs the Python standard library only.
"""

import hashlib
import json
import os
import pathlib
import shutil
import struct
import sys


def scored_tokens(path):
    """Labels above -100 in `train.labels`, read without any package."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    begin, end = json.loads(raw[8:8 + length])["train.labels"]["data_offsets"]
    return sum(label != -100 for (label,) in struct.iter_unpack("<q", raw[8 + length + begin:8 + length + end]))


def main():
    job, out, source = (pathlib.Path(argument) for argument in sys.argv[1:4])
    trainer, steps = sys.argv[4], int(sys.argv[5])
    adapter = out / "adapter"
    adapter.mkdir(parents=True, exist_ok=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if (source / name).resolve() != (adapter / name).resolve():
            shutil.copyfile(source / name, adapter / name)
    if len(sys.argv) > 6:
        state = json.loads(pathlib.Path(sys.argv[6]).read_text())
        steps = state.get("global_step", steps)
        lines = [json.dumps({"step": entry["step"], "loss": entry["loss"], "lr": entry.get("learning_rate"),
                             "grad_norm": entry.get("grad_norm")})
                 for entry in state["log_history"] if "loss" in entry]
        (out / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    digest = hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()
    result = {"schema": 1, "status": "done", "steps": steps, "scored_tokens": scored_tokens(job / "tokens.safetensors"),
              "wall_s": 0.0, "best_step": None, "trainer": trainer, "adapter_sha256": digest}
    (out / "result.tmp").write_text(json.dumps(result))
    os.replace(out / "result.tmp", out / "result.json")


if __name__ == "__main__":
    main()
