"""The runs of `scripts/bench-train` and their table.

    python compare_training.py FOLDER TRAIN_LORA STEPS THREADS

FOLDER holds what make_20m.py made. Runs of ours and of PEFT alternate; every f32 run must have the same losses.
"""

import json
import os
import pathlib
import platform
import subprocess
import sys
import time

folder, ours, steps, threads = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
here = pathlib.Path(__file__).parent
BATCH, ACCUMULATION, LR, EPOCHS = 4, 8, 5e-5, 3
# Losses of the f32 modes agree to this, relative; other arithmetic is another rounding, not another result.
EQUAL, CLOSE = 1e-4, 2e-2


def peft(mode, dtype):
    job = {
        "model": str(folder / "model"), "rows": str(folder / "rows.jsonl"), "adapter": str(folder / "adapter"),
        "mode": mode, "dtype": dtype, "threads": threads, "batch": BATCH, "accumulation": ACCUMULATION,
        "lr": LR, "epochs": EPOCHS, "max_steps": steps,
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    command = [sys.executable, "-W", "ignore", str(here / "train_peft.py"), str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        sys.exit(f"PEFT, {mode} {dtype}:\n{run.stderr}")
    return json.loads(run.stdout.splitlines()[-1])


def train(*flags, window=(BATCH, ACCUMULATION), count=steps):
    out = folder / "out"
    command = [
        ours, "--base", folder / "model", "--data", folder / "rows.jsonl", "--init-adapter", folder / "adapter",
        "--out", out, "--no-shuffle", "--batch-size", window[0], "--gradient-accumulation", window[1],
        "--learning-rate", LR, "--num-epochs", EPOCHS, "--max-steps", count, "--threads", threads, "--json", *flags,
    ]
    began = time.time()
    run = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, cwd=folder)
    if run.returncode != 0:
        sys.exit(f"train-lora {flags}:\n{run.stdout}{run.stderr}")
    metrics = json.loads((out / "training_metrics.json").read_text())
    subprocess.run(["rm", "-r", str(out)], check=True)
    return {
        "steps": metrics["steps"], "tokens_per_s": metrics["tokens_per_s"],
        "peak_rss_bytes": metrics["peak_rss_bytes"],
        "first_step_s": metrics["steps"][0]["at_s"] - began,
    }


def evaluate():
    command = [ours, "evaluate", "--base", folder / "model", "--data", folder / "rows.jsonl", "--threads", threads, "--json"]
    run = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True, cwd=folder)
    return json.loads(run.stdout.splitlines()[-1])["tokens_per_s"]


PACKED = ("--packing", "--pack-len", 1024)
RUNS = [
    ("ours f32 packed", lambda: train(*PACKED)),
    ("peft f32 packed 1024", lambda: peft("packed1024", "f32")),
    ("ours f32 padded", train),
    ("peft f32 padded", lambda: peft("padded", "f32")),
    ("ours bf16 packed", lambda: train("--dtype", "bf16", *PACKED)),
    ("peft bf16 packed 1024", lambda: peft("packed1024", "bf16")),
    ("ours nf4 packed", lambda: train("--quantize", "nf4", *PACKED)),
    ("peft f32 packed 256", lambda: peft("packed256", "f32")),
    ("peft bf16 packed 256", lambda: peft("packed256", "bf16")),
    ("peft bf16 padded", lambda: peft("padded", "bf16")),
]

results = {name: run() for name, run in RUNS}
reference = [step["loss"] for step in results["peft f32 padded"]["steps"]]


def difference(result):
    return max(abs(step["loss"] - loss) / loss for step, loss in zip(result["steps"], reference, strict=True))


print(f"{'run':<24} {'tokens/s':>9} {'peak MB':>8} {'first step s':>13} {'max rel. d loss':>16}")
for name, result in results.items():
    print(
        f"{name:<24} {result['tokens_per_s']:>9.0f} {result['peak_rss_bytes'] / 1e6:>8.0f}"
        f" {result['first_step_s']:>13.2f} {difference(result):>16.1e}"
    )
speed = {name: result["tokens_per_s"] for name, result in results.items()}
memory = {name: result["peak_rss_bytes"] for name, result in results.items()}
best = lambda side, figures: max(value for name, value in figures.items() if name.startswith(side))
evaluation = evaluate()
ratios = {
    "f32_packed_tokens_per_s": speed["ours f32 packed"] / best("peft f32 packed", speed),
    "fastest_tokens_per_s": best("ours", speed) / best("peft", speed),
    "f32_peak_rss": memory["ours f32 packed"] / memory["peft f32 packed 1024"],
    "nf4_peak_rss": memory["ours nf4 packed"] / memory["peft f32 packed 1024"],
    "evaluation_to_training": evaluation / speed["ours f32 packed"],
}
goals = {
    "f32_packed_tokens_per_s": (1.6, 2.0), "fastest_tokens_per_s": (1.0, 1.2), "f32_peak_rss": (1 / 3, 1 / 3),
    "nf4_peak_rss": (1 / 5, 1 / 5), "evaluation_to_training": (2.0, 2.0),
}
print(f"\n{'ratio':<28} {'measured':>9} {'floor':>7} {'goal':>7}")
met = {}
for name, (floor, goal) in goals.items():
    below = name.endswith("rss")
    met[name] = ratios[name] <= floor if below else ratios[name] >= floor
    print(f"{name:<28} {ratios[name]:>9.2f} {floor:>7.2f} {goal:>7.2f}{'' if met[name] else '   MISSED'}")
# A step of one row: what a program costs before it computes, not how long a large step takes.
first = train(window=(1, 1), count=1)["first_step_s"]
met["first_step_s"] = first <= 0.5
print(f"first optimiser step (one row) {first:.2f} s after the start (0.5 wanted), evaluation {evaluation:.0f} tokens/s")
for name, result in results.items():
    met[f"losses {name}"] = difference(result) <= (EQUAL if "f32" in name else CLOSE)
import peft as peft_package, torch, transformers

print(json.dumps({
    "name": "bench-train", "machine": platform.platform(), "threads": threads, "cores": os.cpu_count(),
    "ours": {name: {k: v for k, v in r.items() if k != "steps"} for name, r in results.items() if name.startswith("ours")},
    "peers": {
        "peft": peft_package.__version__, "torch": torch.__version__, "transformers": transformers.__version__,
        **{name: {k: v for k, v in r.items() if k != "steps"} for name, r in results.items() if name.startswith("peft")},
    },
    "ratios": ratios, "goals_met": all(met.values()), "met": met,
}))
sys.exit(0 if all(met.values()) else 1)
