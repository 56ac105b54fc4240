"""The runs of `scripts/bench-decode`: `serve` over HTTP beside llama.cpp, in turns.

    python compare_decoding.py FOLDER SERVE TRAIN_LORA TOKENS THREADS ROUNDS

FOLDER holds the model that make_20m.py made. Each round starts both sides anew; the ratio is formed round by round.
"""

import http.client
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import transformers

folder, serve, train_lora = (pathlib.Path(argument).resolve() for argument in sys.argv[1:4])
tokens, threads, rounds = (int(argument) for argument in sys.argv[4:7])
here = pathlib.Path(__file__).resolve().parent
RUNS = 3

tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
prompt = "the night shift reads what the model answered during the day and finds failed answers"
(folder / "prompt.json").write_text(json.dumps(tokenizer(prompt, add_special_tokens=False)["input_ids"]))
subprocess.run([train_lora, "export", "--base", folder / "model", "--out", folder / "model.gguf", "--quiet"], check=True)


def ours():
    home = folder / "home"
    home.mkdir(exist_ok=True)
    (home / "nightshift.yaml").write_text(f"serve: {{workers: 1, threads: {threads}, record: false, follow: false}}\n")
    ready = home / "ready"
    ready.unlink(missing_ok=True)
    server = subprocess.Popen(
        [serve, "--home", home, "--base", folder / "model", "--listen", "127.0.0.1:0", "--ready-file", ready, "--quiet"],
        stdout=subprocess.DEVNULL,
    )
    try:
        while not ready.exists():
            time.sleep(0.01)
            if server.poll() is not None:
                sys.exit("serve did not start")
        address = json.loads(ready.read_text())["address"]
        return [rate(address) for _ in range(RUNS)]
    finally:
        server.terminate()
        server.wait()


def rate(address):
    """Tokens per second behind the first one, as a client sees them: a long answer less one of a single token. (Random
    weights choose tokens without a text, so the pieces of a stream say nothing.)"""
    (first, one), (whole, count) = ask(address, 1), ask(address, tokens)
    if count < tokens // 2:
        sys.exit(f"the model ended after {count} tokens: take another --seed")
    return (count - one) / (whole - first)


def ask(address, limit):
    """Seconds until the whole answer is there, and its tokens."""
    body = {"model": "base", "prompt": prompt, "max_tokens": limit, "temperature": 0}
    connection = http.client.HTTPConnection(address)
    began = time.perf_counter()
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    return time.perf_counter() - began, answer["usage"]["completion_tokens"]


def llama():
    """The faster of its two kinds of attention, by its own clock."""
    command = [sys.executable, here / "decode_llama.py", folder / "model.gguf", folder / "prompt.json", tokens, threads, RUNS]
    run = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        sys.exit(run.stdout + run.stderr)
    return [rate for rates in json.loads(run.stdout.splitlines()[-1])["rates"].values() for rate in rates]


print(f"{'round':<6} {'serve tokens/s':>15} {'llama.cpp tokens/s':>19} {'ratio':>6}")
ratios, best_ours, best_llama = [], [], []
for number in range(1, rounds + 1):
    mine, theirs = max(ours()), max(llama())
    ratios.append(mine / theirs)
    best_ours.append(mine)
    best_llama.append(theirs)
    print(f"{number:<6} {mine:>15.0f} {theirs:>19.0f} {ratios[-1]:>6.2f}", flush=True)
ratio = statistics.median(ratios)
print(json.dumps({
    "name": "bench-decode", "machine": platform.platform(), "cores": os.cpu_count(), "threads": threads,
    "ours": {"tokens_per_s": statistics.median(best_ours)},
    "peers": {"xllamacpp": importlib.metadata.version("xllamacpp"), "tokens_per_s": statistics.median(best_llama)},
    "ratios": {"decode": ratio}, "goals_met": ratio >= 1.0,
}))
sys.exit(0 if ratio >= 1.0 else 1)
