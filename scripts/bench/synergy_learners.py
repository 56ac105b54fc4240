"""The tables of `scripts/bench-synergy`.

    python synergy_learners.py SCRATCH PROGRAMS SEED RUNS

The world: seven metric deltas x with pairwise correlation .36, ROI delta = beta.x + noise, beta = (.8, .5, 0, -.4, .3, 0, 0),
R2 = .3. Weights w are judged by their cosine with max(beta, 0), and by the regret 1 - E[beta.x(argmax w.x)] /
E[max beta.x] over 20,000 fixed sets of eight candidates.
"""

import json
import os
import pathlib
import platform
import subprocess
import sys
import time

import numpy as np
from sklearn.linear_model import RidgeCV

import synergy_sb3

METRICS = ["roi", "efficiency", "resilience", "antifragility", "reliability", "maintainability", "throughput"]
BETA = np.array([0.8, 0.5, 0.0, -0.4, 0.3, 0.0, 0.0])
MIX = np.linalg.cholesky(np.full((7, 7), 0.36) + 0.64 * np.eye(7))
SIGNAL = BETA @ MIX @ MIX.T @ BETA
SETS = np.random.default_rng(20_000).standard_normal((20_000, 8, 7)) @ MIX.T
DEEP = ["dqn", "double_dqn", "td3", "sac"]


def world(seed, rows, r2=0.3):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 7)) @ MIX.T
    noise = rng.standard_normal(rows)
    return (x, noise) if r2 == 0 else (x, x @ BETA + np.sqrt(SIGNAL * (1 - r2) / r2) * noise)


def cosine(w):
    helpful = np.maximum(BETA, 0)
    return float(w @ helpful / max(np.linalg.norm(w) * np.linalg.norm(helpful), 1e-300))


def regret(w):
    value = SETS @ BETA
    taken = np.argmax(SETS @ w, axis=1)
    return float(1 - value[np.arange(len(value)), taken].mean() / value.max(axis=1).mean())


def one_core():
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


class Ours:
    """The program, as its users run it."""

    def __init__(self, scratch, programs):
        self.program, self.scratch, self.count = programs / "synergy-weights", scratch, 0

    def history(self, x, y):
        path = self.scratch / "history.json"
        rows = [{f"synergy_{m}": v for m, v in zip(METRICS, r)} | {"roi_delta": d} for r, d in zip(x.tolist(), y.tolist())]
        path.write_text(json.dumps(rows))
        return path

    def learn(self, history, learner, seed, *flags):
        """What `train --json` prints, with the wall seconds of the whole process."""
        self.count += 1
        home = self.scratch / f"home{self.count}"
        home.mkdir()
        command = [self.program, "--home", home, "--path", home / "weights.json", "train", history, "--learner", learner]
        command += ["--seed", str(seed), "--json", *flags]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("SYNERGY", "SANDBOX", "NIGHTSHIFT"))}
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=environment, preexec_fn=one_core)
        wall = time.perf_counter() - started
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout.splitlines()[-1]) | {"wall": wall}


def credit(x, y, rate=0.1):
    """The first rule of the original: w += rate * roi_delta * delta, within 0..10."""
    w = np.ones(7)
    for row, reward in zip(x, y):
        w = np.clip(w + rate * reward * row, 0, 10)
    return w


def tabular(x, y):
    """The original's default: a table keyed by exact states, which never come again; weights become the last TD errors."""
    return np.clip(y[-1] * x[-1], 0, 10)


def score(weights):
    return {"cosine": float(np.mean([cosine(w) for w in weights])), "regret": float(np.mean([regret(w) for w in weights]))}


def vector(result):
    return np.array([result["weights"][m] for m in METRICS], float)


def offline(ours, seed, runs):
    """Recovery by the default learner and its peers, for three lengths of history."""
    peers = {
        "ridge": lambda x, y: np.maximum(RidgeCV(np.geomspace(0.1, 100, 10)).fit(x, y).coef_, 0),
        "original, first rule": credit,
        "original, default": tabular,
        "unit weights": lambda x, y: np.ones(7),
    }
    table = {}
    for rows in (50, 200, 1000):
        # Fifty rows say little, and from world to world very different things.
        count = runs * max(1, 200 // rows)
        worlds = [world(seed * 10_000 + rows + 7 * run, rows) for run in range(count)]
        learned = [vector(ours.learn(ours.history(x, y), "actor_critic", run)) for run, (x, y) in enumerate(worlds)]
        table[rows] = {"actor_critic": score(learned)}
        table[rows] |= {name: score([rule(x, y) for x, y in worlds]) for name, rule in peers.items()}
    return table


def deep(ours, seed, runs):
    """The deep learners at 200 rows, adopted and alone, and SB3 on the same problem."""
    worlds = [world(seed * 20_000 + 11 * run, 200) for run in range(runs)]
    table = {}
    for learner in DEEP:
        for name, flags in ((learner, []), (f"{learner} --from-scratch", ["--from-scratch"])):
            results = [ours.learn(ours.history(x, y), learner, run, *flags) for run, (x, y) in enumerate(worlds)]
            seconds = [result["wall"] for result in results]
            table[name] = score([vector(r) for r in results])
            table[name] |= {"seconds": float(np.median(seconds)), "slowest": max(seconds)}
    for learner in ("dqn", "td3", "sac", "a2c"):
        results = [synergy_sb3.learn(learner, x, y, run) for run, (x, y) in enumerate(worlds[:3])]
        table[f"SB3 {learner}"] = score([w for w, _ in results])
        table[f"SB3 {learner}"] |= {"seconds": float(np.median([s for _, s in results])), "slowest": max(s for _, s in results)}
    return table


def noise(ours, seed, runs):
    """Rows that say nothing: the largest move of a weight, and what the report says."""
    moves, words = [], set()
    for run in range(runs):
        result = ours.learn(ours.history(*world(seed * 30_000 + run, 200, 0)), "actor_critic", run)
        moves.append(float(np.abs(vector(result) - 1).max()))
        words.add(json.dumps(result.get("evidence")))
    return {"largest_move": max(moves), "said": "no evidence" in " ".join(words) and "strong" not in " ".join(words)}


def lengths(programs, seed, runs):
    """Histories of noise of many lengths: which share moved a weight by more than a quarter; and recovery over many worlds."""
    done = subprocess.run([programs / "examples" / "noise", str(seed), str(runs), str(runs)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def report(offline, deep, noise, loop, many):
    print(f"{'offline, R2 = .3':34}" + "".join(f"{f'n = {n}':>18}" for n in offline))
    for name in offline[50]:
        cells = (f"{offline[n][name]['cosine']:.3f} / {offline[n][name]['regret']:.3f}" for n in offline)
        print(f"  {name:32}" + "".join(f"{cell:>18}" for cell in cells))
    print(f"\n{'n = 200':34}{'cosine / regret':>18}{'seconds':>10}{'slowest':>10}")
    for name, row in deep.items():
        print(f"  {name:32}{row['cosine']:>10.3f} / {row['regret']:.3f}{row['seconds']:>10.2f}{row['slowest']:>10.2f}")
    print(f"\nclosed loop, a change half way (regret before / after): {loop['regret'][0]:.3f} / {loop['regret'][1]:.3f}", end="")
    print(f", unit weights {loop['regret_unit'][0]:.3f} / {loop['regret_unit'][1]:.3f}")
    print(f"200 rows of noise: no weight moved by more than {noise['largest_move']:.0%}\n")
    print(f"{'rows of noise':34}" + "".join(f"{n:>7}" for n in many["noise_rows"]))
    for name, key in (("  a weight moved over 25 %", "moved"), ("  and had moved before, or did", "ever_moved")):
        print(f"{name:34}" + "".join(f"{share:>7.1%}" for share in many[key]))
    cells = (f"n = {row['rows']}: {row['cosine']:.3f} / {row['regret']:.3f}" for row in many["recovery"])
    print(f"actor_critic over {many['worlds']} other worlds, {', '.join(cells)}\n")


def goals(offline, deep, noise, loop, many):
    """Every goal by name, and whether it was met."""
    met = {}
    for rows, least, most in ((50, 0.85, 0.13), (200, 0.95, 0.08), (1000, 0.985, 0.06)):
        got = offline[rows]["actor_critic"]
        met[f"recovery_{rows}"] = round(got["cosine"], 3) >= least and round(got["regret"], 3) <= most
    for learner in DEEP:
        adopted, alone = deep[learner], deep[f"{learner} --from-scratch"]
        met[f"{learner}_adopted"] = adopted["cosine"] >= 0.93 and adopted["regret"] <= 0.09
        # Nobody has set a bar for sac alone: its row informs.
        if learner != "sac":
            met[f"{learner}_alone"] = alone["cosine"] >= (0.89 if learner == "td3" else 0.87)
        met[f"{learner}_time"] = max(adopted["seconds"], alone["seconds"]) <= 0.5
        met[f"{learner}_against_sb3"] = speed(deep, learner) >= 8
    met["loop"] = round(loop["regret"][0], 3) <= 0.09 and round(loop["regret"][1], 3) <= 0.18
    met["noise"] = noise["largest_move"] <= 0.25 and noise["said"]
    # One in twenty at every length, with two standard errors for the draw.
    met["noise_of_any_length"] = max(many["moved"]) <= 0.05 + 2 * (0.05 * 0.95 / many["noise_runs"]) ** 0.5
    return met


def speed(deep, learner):
    """How many times as long SB3 takes, without the start of Python; SB3 has no Double DQN."""
    peer = deep[f"SB3 {'dqn' if learner == 'double_dqn' else learner}"]["seconds"]
    return peer / max(deep[learner]["seconds"], deep[f"{learner} --from-scratch"]["seconds"])


def main():
    scratch, programs = map(pathlib.Path, sys.argv[1:3])
    seed, runs = map(int, sys.argv[3:5])
    ours = Ours(scratch, programs)
    results = [offline(ours, seed, runs), deep(ours, seed, max(runs // 2, 3)), noise(ours, seed, runs)]
    loop = subprocess.run(
        [programs / "examples" / "closed_loop", str(seed), str(4 * runs), "1000", "actor_critic"],
        capture_output=True, text=True, check=True,
    )
    results += [json.loads(loop.stdout), lengths(programs, seed, 20 * runs)]
    report(*results)
    met = goals(*results)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
    print(json.dumps({
        "name": "synergy", "machine": machine, "seed": seed,
        "ours": {"offline": {n: t["actor_critic"] for n, t in results[0].items()},
                 "deep": {k: v for k, v in results[1].items() if not k.startswith("SB3")}, "noise": results[2], "loop": results[3], "lengths": results[4]},
        "peers": {"offline": {n: {k: v for k, v in t.items() if k != "actor_critic"} for n, t in results[0].items()},
                  "deep": {k: v for k, v in results[1].items() if k.startswith("SB3")}},
        "ratios": {f"{learner}_sb3_over_ours_seconds": round(speed(results[1], learner), 1) for learner in DEEP},
        "goals_met": met,
    }))
    sys.exit(0 if all(met.values()) else 1)


main()
