"""The runs of scripts/eval-detection: eval_detection.py TARGET DIR WEEKS SEED MB VERBOSE."""

import json
import os
import platform
import subprocess
import sys
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

TARGET, DIR = Path(sys.argv[1]), Path(sys.argv[2])
WEEKS, SEED, MB, VERBOSE = int(sys.argv[3]), int(sys.argv[4]), sys.argv[5], sys.argv[6] == "yes"
SLACK = timedelta(hours=3)
NO_ALARM = {"successful_pattern", "skill"}


def week(seed, clean):
    """The truth of a week and what was reported of it."""
    log, truth = DIR / "week.jsonl", DIR / "truth.json"
    arguments = ["--out", log, "--truth", truth, "--draw", "--seed", seed, "--mb", MB]
    subprocess.run([str(a) for a in [TARGET / "examples/generate_logs", *arguments, *(["--clean"] if clean else [])]], check=True)
    environment = {**os.environ, "NIGHTSHIFT_HOME": str(DIR / "home")}
    (DIR / "home").mkdir(exist_ok=True)
    found = subprocess.run([TARGET / "analyze-logs", "analyze", log, "--json"], check=True, capture_output=True, env=environment)
    log.unlink()
    return json.loads(truth.read_text())["planted"], json.loads(found.stdout)


def span(entry, first, last):
    return datetime.fromisoformat(entry[first]), datetime.fromisoformat(entry[last])


def true(pattern, entry):
    """Whether this entry of the truth is what the pattern is about."""
    if pattern["pattern_type"] != entry["pattern_type"]:
        return False
    mine = {pattern["operation"]}
    theirs = {entry["operation"]}
    if "other" in entry:
        mine.add(pattern["metadata"].get("metric"))
        theirs.add(entry["other"])
    if mine != theirs:
        return False
    if not pattern["first_seen"] or not pattern["last_seen"]:
        return True
    a, b = span(pattern, "first_seen", "last_seen")
    c, d = span(entry, "from", "until")
    return a <= d + SLACK and c <= b + SLACK


def main():
    planted, found, reported, right, alarms, alarms_by_week = Counter(), Counter(), Counter(), Counter(), Counter(), []
    seconds = entries = 0
    for number in range(WEEKS):
        truth, report = week(SEED + number, clean=False)
        seconds, entries = seconds + report["seconds"], entries + report["entries"]
        patterns = [p for p in report["patterns"] if p["pattern_type"] not in NO_ALARM]
        for entry in truth:
            if not entry["secondary"]:
                planted[entry["pattern_type"]] += 1
                hit = any(true(pattern, entry) for pattern in patterns)
                found[entry["pattern_type"]] += hit
                if VERBOSE and not hit:
                    print("missed", SEED + number, json.dumps({k: entry[k] for k in ("pattern_type", "operation", "from", "note")}))
        for pattern in patterns:
            reported[pattern["pattern_type"]] += 1
            good = any(true(pattern, entry) for entry in truth)
            right[pattern["pattern_type"]] += good
            if VERBOSE and not good:
                print("false ", SEED + number, pattern["pattern_type"], pattern["operation"], pattern["description"])
        truth, report = week(SEED + number, clean=True)
        patterns = [p for p in report["patterns"] if p["pattern_type"] not in NO_ALARM]
        alarms.update(pattern["pattern_type"] for pattern in patterns)
        alarms_by_week.append(len(patterns))
        if VERBOSE:
            for pattern in patterns:
                print("alarm ", SEED + number, pattern["pattern_type"], pattern["operation"], pattern["description"])
    share = lambda part, of: part / of if of else None
    say = lambda value: "-" if value is None else f"{value:.3f}"
    print(f"{'pattern_type':20} {'planted':>8} {'found':>6} {'recall':>7} {'reported':>9} {'precision':>10} {'alarms, clean':>14}")
    rows = {}
    for kind in sorted(planted.keys() | reported.keys() | alarms.keys()):
        recall, precision = share(found[kind], planted[kind]), share(right[kind], reported[kind])
        rows[kind] = {"planted": planted[kind], "recall": recall, "reported": reported[kind], "precision": precision, "clean_alarms": alarms[kind]}
        print(f"{kind:20} {planted[kind]:8} {found[kind]:6} {say(recall):>7} {reported[kind]:9} {say(precision):>10} {alarms[kind]:14}")
    recall, precision = share(found.total(), planted.total()), share(right.total(), reported.total())
    print(f"{'all':20} {planted.total():8} {found.total():6} {say(recall):>7} {reported.total():9} {say(precision):>10} {alarms.total():14}")
    by_week = alarms.total() / WEEKS
    print(f"{WEEKS} weeks of {MB} MB from seed {SEED}; {entries / WEEKS:.0f} entries and {seconds / WEEKS:.3f} s a week; {by_week:.2f} false alarms a clean week, at most {max(alarms_by_week)}")
    goals = {
        "recall_at_least_0.95": recall is not None and recall >= 0.95,
        "precision_at_least_0.95": precision is not None and precision >= 0.95,
        "alarms_a_clean_week_at_most_1": by_week <= 1,
    }
    for name, met in goals.items():
        print(f"{'met   ' if met else 'MISSED'} {name}")
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "kernel": platform.release()}
    ours = {"recall": recall, "precision": precision, "alarms_a_clean_week": by_week, "types": rows}
    print(json.dumps({"name": "eval-detection", "machine": machine, "ours": ours, "peers": {}, "ratios": {}, "goals_met": goals}))
    sys.exit(not all(goals.values()))


main()
