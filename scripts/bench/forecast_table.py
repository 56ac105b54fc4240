"""The table and the JSON line of scripts/bench-forecast: forecast_table.py SERIES.json NAME=FILE.jsonl ... (ours first)."""

import json
import os
import platform
import statistics
import sys

series = {s["name"]: s for s in json.load(open(sys.argv[1]))}
runs = dict(pair.split("=", 1) for pair in sys.argv[2:])


def judge(file):
    squares, naive, errors, ms, inside, covered = {}, {}, 0, [], 0, 0
    for line in open(file):
        row = json.loads(line)
        s = series[row["name"]]
        values, origin = s["values"], row["origin"]
        last = next(v for v in reversed(values[:origin]) if v is not None)
        want = values[origin]
        if "error" in row:
            errors += 1
        else:
            ms.append(row["ms"])
        if s["constant"]:
            errors += "error" not in row and abs(row["mean"] - want) > 1e-9
            continue
        mean = row.get("mean", last)  # the last value where there was an error
        squares.setdefault(row["name"], []).append((mean - want) ** 2)
        naive.setdefault(row["name"], []).append((last - want) ** 2)
        if "low" in row:
            covered += 1
            inside += row["low"] <= want <= row["high"]
    ratio = {n: (sum(squares[n]) / sum(naive[n])) ** 0.5 for n in squares}
    mean_of = lambda short: statistics.fmean(r for n, r in ratio.items() if short is None or series[n]["short"] == short)
    ms.sort()
    return {"all": mean_of(None), "long": mean_of(False), "short": mean_of(True), "errors": errors,
            "median_ms": statistics.median(ms), "p95_ms": ms[int(0.95 * len(ms))], "coverage": inside / max(covered, 1),
            "ratios": ratio}


judged = {name: judge(file) for name, file in runs.items()}
print(f"{'RMSE / naive':28} {'all':>7} {'long':>7} {'short':>7} {'errors':>7} {'ms median':>10} {'ms p95':>9} {'coverage':>9}")
for name, j in judged.items():
    print(f"{name:28} {j['all']:7.3f} {j['long']:7.3f} {j['short']:7.3f} {j['errors']:7d} {j['median_ms']:10.3f} "
          f"{j['p95_ms']:9.3f} {100 * j['coverage']:8.1f}%")
if "--by-series" in os.environ.get("BENCH_FORECAST", ""):
    for kind in dict.fromkeys(n.split("/")[-1] for n in judged["ours"]["ratios"]):
        means = [statistics.fmean(r for n, r in j["ratios"].items() if n.split("/")[-1] == kind) for j in judged.values()]
        print(f"  {kind:26}" + "".join(f" {m:7.3f}" for m in means))

ours = judged.pop("ours")
best = {part: min(j[part] for j in judged.values()) for part in ("long", "short")}
goals = {"long": ours["long"] <= best["long"] + 0.01, "short": ours["short"] <= best["short"] + 0.01,
         "errors": ours["errors"] == 0, "median_ms": ours["median_ms"] <= 0.5, "coverage": 0.92 <= ours["coverage"] <= 0.98}
plain = lambda j: {k: round(v, 4) for k, v in j.items() if k != "ratios"}
print(json.dumps({
    "name": "forecast", "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
    "ours": plain(ours), "peers": {n: plain(j) for n, j in judged.items()},
    "ratios": {"long_to_best": round(ours["long"] / best["long"], 4), "short_to_best": round(ours["short"] / best["short"], 4),
               **{f"times_faster_than_{n}": round(j["median_ms"] / ours["median_ms"], 1) for n, j in judged.items()}},
    "goals": goals, "goals_met": all(goals.values())}))
