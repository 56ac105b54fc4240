"""The runs of scripts/eval-detection: eval_detection.py TARGET DIR WEEKS SEED MB VERBOSE."""

import json
import os
import platform
import re
import subprocess
import sys
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

TARGET, DIR = Path(sys.argv[1]), Path(sys.argv[2])
WEEKS, SEED, MB, VERBOSE = int(sys.argv[3]), int(sys.argv[4]), sys.argv[5], sys.argv[6] == "yes"
SLACK = timedelta(hours=3)
FACTS = {
    "recurring_error", "slow_operation", "timeout_pattern", "high_cost_operation", "inefficient_chain", "successful_pattern"
}


def week(seed, clean):
    """The truth of a week and what was reported of it."""
    log, truth = DIR / "week.jsonl", DIR / "truth.json"
    arguments = ["--out", log, "--truth", truth, "--draw", "--seed", seed, "--mb", MB, *(["--clean"] if clean else [])]
    subprocess.run([str(a) for a in [TARGET / "examples/generate_logs", *arguments]], check=True)
    environment = {**os.environ, "NIGHTSHIFT_HOME": str(DIR / "home")}
    (DIR / "home").mkdir(exist_ok=True)
    found = subprocess.run([TARGET / "analyze-logs", "analyze", log, "--json"], check=True, capture_output=True, env=environment)
    log.unlink()
    return json.loads(truth.read_text())["planted"], json.loads(found.stdout)


def equal(ours, theirs):
    if isinstance(theirs, float):
        return isinstance(ours, (int, float)) and abs(ours - theirs) < 1e-3
    return ours == theirs


def counted(pattern, entry):
    """Whether a finding says the numbers and names of a fact."""
    metadata = pattern["metadata"]
    if pattern["occurrences"] != entry["occurrences"]:
        return False
    if not all(equal(metadata.get(name), value) for name, value in entry.get("metadata", {}).items()):
        return False
    if "template" in entry:
        lines = [line["excerpt"] for line in metadata["evidence"]]
        return bool(lines) and all(re.fullmatch(entry["template"], line) for line in lines)
    return True


def true(pattern, entry):
    """Whether this entry of the truth is what the pattern is about."""
    if pattern["pattern_type"] != entry["pattern_type"]:
        return False
    mine = {pattern["operation"]}
    theirs = {entry["operation"]}
    if "other" in entry:
        mine.add(pattern["metadata"].get("metric"))
        theirs.add(entry["other"])
    if mine != theirs or ("occurrences" in entry and not counted(pattern, entry)):
        return False
    if not pattern["first_seen"] or not pattern["last_seen"]:
        return True
    a, b = (datetime.fromisoformat(pattern[name]) for name in ("first_seen", "last_seen"))
    c, d = (datetime.fromisoformat(entry[name]) for name in ("from", "until"))
    return a <= d + SLACK and c <= b + SLACK


class Row:
    """Sums of a kind of finding."""

    def __init__(self):
        self.planted = self.found = self.reported = self.right = self.clean = self.alarms = 0

    def __add__(self, other):
        row = Row()
        row.__dict__ = {name: value + getattr(other, name) for name, value in self.__dict__.items()}
        return row

    def recall(self):
        return self.found / self.planted if self.planted else None

    def precision(self):
        return self.right / self.reported if self.reported else None

    def json(self):
        return {**self.__dict__, "recall": self.recall(), "precision": self.precision()}

    def line(self, name):
        say = lambda value: "-" if value is None else f"{value:.3f}"
        return (
            f"{name:22} {self.planted:8} {self.found:6} {say(self.recall()):>7} {self.reported:9} {self.right:6}"
            f" {say(self.precision()):>10} {self.clean:15} {self.alarms:7}"
        )


def evaluate(seed, clean, rows):
    """Adds a week; its wrong findings, entries and seconds."""
    truth, report = week(seed, clean)
    say = lambda *words: print(*words) if VERBOSE else None
    wrong = 0
    for entry in truth:
        if not entry["secondary"] and not clean:
            row = rows.setdefault(entry["pattern_type"], Row())
            hit = any(true(pattern, entry) for pattern in report["patterns"])
            row.planted, row.found = row.planted + 1, row.found + hit
            if not hit:
                say("missed", seed, json.dumps({name: value for name, value in entry.items() if name != "secondary"}))
    for pattern in report["patterns"]:
        row = rows.setdefault(pattern["pattern_type"], Row())
        good = any(true(pattern, entry) for entry in truth)
        wrong += not good
        if clean:
            row.clean, row.alarms = row.clean + 1, row.alarms + (not good)
        else:
            row.reported, row.right = row.reported + 1, row.right + good
        if not good:
            say("alarm " if clean else "false ", seed, pattern["pattern_type"], pattern["operation"], pattern["description"])
    return wrong, report["entries"], report["seconds"]


def main():
    rows, weeks, alarms = {}, [], []
    for seed in range(SEED, SEED + WEEKS):
        weeks.append(evaluate(seed, False, rows))
        alarms.append(evaluate(seed, True, rows)[0])
    told, sums = {}, {}
    print(
        f"{'pattern_type':22} {'planted':>8} {'found':>6} {'recall':>7} {'reported':>9} {'right':>6} {'precision':>10}"
        f" {'on clean weeks':>15} {'alarms':>7}"
    )
    for name, of in [("counted", lambda kind: kind in FACTS), ("told by hours", lambda kind: kind not in FACTS)]:
        sums[name] = Row()
        for kind in sorted(filter(of, rows)):
            told[kind] = rows[kind].json()
            sums[name] += rows[kind]
            print(rows[kind].line(kind))
        print(sums[name].line(f"= {name}"))
    sums["all"] = sums["counted"] + sums["told by hours"]
    print(sums["all"].line("= all"))
    mean = lambda place: sum(week[place] for week in weeks) / WEEKS
    by_week = sums["all"].alarms / WEEKS
    print(
        f"{WEEKS} weeks of {MB} MB from seed {SEED}; {mean(1):.0f} entries and {mean(2):.3f} s a week;"
        f" {by_week:.2f} false alarms a clean week, at most {max(alarms)}"
    )
    reaches = lambda value: value is not None and value >= 0.95
    goals = {"alarms_a_clean_week_at_most_1": by_week <= 1}
    for name, row in sums.items():
        goals[f"recall_at_least_0.95 ({name})"] = reaches(row.recall())
        goals[f"precision_at_least_0.95 ({name})"] = reaches(row.precision())
    for name, met in goals.items():
        print(f"{'met   ' if met else 'MISSED'} {name}")
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "kernel": platform.release()}
    ours = {**{name: row.json() for name, row in sums.items()}, "alarms_a_clean_week": by_week, "types": told}
    print(json.dumps({"name": "eval-detection", "machine": machine, "ours": ours, "peers": {}, "ratios": {}, "goals_met": goals}))
    sys.exit(not all(goals.values()))


main()
