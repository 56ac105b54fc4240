"""The runs of `scripts/eval-templates` and their table.

    python eval_templates.py FOLDER RELEASE_DIR SCRATCH LINES SEED

GA is the share of messages whose group holds exactly the messages of one label (Zhu et al., "Tools and Benchmarks for
Automated Log Parsing", ICSE-SEIP 2019). FGA is the harmonic mean of the shares of groups and of labels that match
(Jiang et al., "A Large-Scale Evaluation for Log Parsing Techniques", ISSTA 2024).
"""

import collections
import csv
import json
import logging
import os
import pathlib
import platform
import re
import resource
import subprocess
import sys
import time

from drain3 import TemplateMiner

folder, release, scratch = (pathlib.Path(argument) for argument in sys.argv[1:4])
speed_lines, seed = int(sys.argv[4]), int(sys.argv[5])
ours = release / "analyze-logs"
GOALS = {"ga": 0.92, "fga": 0.93, "lines_per_s": 1e6}
WEEKS = 5
GOALS_CORRECTED = {"ga": 0.90, "fga": 0.93}
logging.disable(logging.WARNING)
csv.field_size_limit(1 << 24)


def score(labels, groups):
    """GA and FGA of a grouping."""
    by_label, by_group = collections.defaultdict(list), collections.defaultdict(list)
    for line, (label, group) in enumerate(zip(labels, groups, strict=True)):
        by_label[label].append(line)
        by_group[group].append(line)
    wanted = {tuple(lines) for lines in by_label.values()}
    right = [lines for lines in by_group.values() if tuple(lines) in wanted]
    ga = sum(map(len, right)) / len(labels)
    fga = 2 * len(right) / (len(by_group) + len(by_label))
    return ga, fga


def run_ours(path, out):
    """Groups of the messages in a file, and the processor seconds of the whole program, which has one thread."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([ours, "templates", path, "--out", out, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    with open(out, newline="", encoding="utf-8") as file:
        return [row["template_id"] for row in csv.DictReader(file)], seconds


def run_drain3(messages):
    """Groups by Drain3 with its defaults, and the processor seconds inside it."""
    miner = TemplateMiner()
    start = time.process_time()
    groups = [miner.add_log_message(message)["cluster_id"] for message in messages]
    return groups, time.process_time() - start


def read(path):
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        rows = list(csv.DictReader(file))
    label = "EventId" if rows and "EventId" in rows[0] else "EventTemplate"
    return [" ".join(row["Content"].splitlines()) for row in rows], [row[label] for row in rows]


def evaluate(suffix):
    """Scores of each log that has a labelled file with this suffix, both tools."""
    results, everything = {}, []
    for path in sorted(folder.glob(f"*/*_2k.log_structured{suffix}.csv")):
        messages, labels = read(path)
        text = scratch / "messages.txt"
        text.write_text("".join(message + "\n" for message in messages), encoding="utf-8")
        groups, _ = run_ours(text, scratch / "rows.csv")
        drain, seconds = run_drain3(messages)
        results[path.parent.name] = (score(labels, groups), score(labels, drain), len(messages) / seconds)
        everything += messages
    return results, everything


def table(title, results):
    print(f"\n{title:14}{'ours GA':>9}{'FGA':>8}{'Drain3 GA':>12}{'FGA':>8}{'lines/s':>10}")
    for name, (mine, drain, speed) in results.items():
        print(f"{name:14}{mine[0]:9.3f}{mine[1]:8.3f}{drain[0]:12.3f}{drain[1]:8.3f}{speed:10,.0f}")
    means = [sum(result[tool][metric] for result in results.values()) / len(results)
             for tool in (0, 1) for metric in (0, 1)]
    print(f"{'mean':14}{means[0]:9.3f}{means[1]:8.3f}{means[2]:12.3f}{means[3]:8.3f}")
    return means


def speed(messages):
    """Lines a second of one core for the whole program, reading and writing included, best of three."""
    text = scratch / "many.txt"
    with open(text, "w", encoding="utf-8") as file:
        for line in range(speed_lines):
            file.write(messages[line % len(messages)] + "\n")
    size = text.stat().st_size
    return max(speed_lines / run_ours(text, scratch / "rows.csv")[1] for _ in range(3)), size / speed_lines


def error_of(line):
    """The error of a generated line, whatever its dialect."""
    entry = json.loads(line)
    for part in (entry.get("error"), entry.get("err"), entry.get("status")):
        if isinstance(part, dict):
            part = part.get("message")
        if part and part not in ("ok", "error"):
            return " ".join(part.splitlines())
    return None


def planted():
    """Planted templates of 20 messages or more, those that come back whole, and groups of three or more of other messages."""
    counts = collections.Counter()
    for week in range(seed, seed + WEEKS):
        log, truth = scratch / "week.jsonl", scratch / "truth.json"
        generate = ["--out", log, "--truth", truth, "--draw", "--seed", str(week), "--mb", "40"]
        subprocess.run([release / "examples/generate_logs", *generate], check=True)
        with open(log, encoding="utf-8") as file:
            messages = [message for message in map(error_of, file) if message]
        text = scratch / "messages.txt"
        text.write_text("".join(message + "\n" for message in messages), encoding="utf-8")
        groups, _ = run_ours(text, scratch / "rows.csv")
        facts = json.loads(truth.read_text())["planted"]
        wanted = {fact["template"].replace("\n", " ") for fact in facts if "template" in fact}
        shapes = [re.compile(template) for template in sorted(wanted)]
        labels = [next((shape.pattern for shape in shapes if shape.fullmatch(message)), None) for message in messages]
        of_label, of_group = collections.Counter(labels), collections.Counter(groups)
        for (group, label), count in collections.Counter(zip(groups, labels, strict=True)).items():
            if label is None:
                counts["noise_groups"] += count >= 3
            elif of_label[label] >= 20:
                counts["whole"] += count == of_label[label] == of_group[group]
        counts["planted"] += sum(size >= 20 for label, size in of_label.items() if label)
        counts["noise"] += of_label[None]
    return counts


results, messages = evaluate("")
if not results:
    sys.exit(f"no */*_2k.log_structured.csv under {folder}")
ga, fga, drain_ga, drain_fga = table("labels", results)
drain_speed = sorted(result[2] for result in results.values())[len(results) // 2]
ours_speed, width = speed(messages)
print(f"\n{ours_speed:,.0f} lines of {width:.0f} bytes per second of one core, start to end; Drain3 {drain_speed:,.0f} (median)")
mine = {"ga": ga, "fga": fga, "lines_per_s": ours_speed}
peer = {"ga": drain_ga, "fga": drain_fga, "lines_per_s": drain_speed}
goals = {name: mine[name] >= goal for name, goal in GOALS.items()}
corrected, _ = evaluate("_corrected")
if corrected:
    ga, fga, drain_ga, drain_fga = table("corrected", corrected)
    mine |= {"ga_corrected": ga, "fga_corrected": fga}
    peer |= {"ga_corrected": drain_ga, "fga_corrected": drain_fga}
    goals |= {f"{name}_corrected": mine[f"{name}_corrected"] >= goal for name, goal in GOALS_CORRECTED.items()}
drawn = planted()
print(f"\n{drawn['whole']} of {drawn['planted']} planted templates whole, {drawn['noise_groups']} groups of noise ({drawn['noise']:,} unique messages)")
mine |= {"planted": drawn["planted"], "planted_whole": drawn["whole"], "noise_groups": drawn["noise_groups"]}
goals |= {"planted_whole": drawn["whole"] == drawn["planted"] > 0, "noise_groups": drawn["noise_groups"] == 0}
for name, met in goals.items():
    print(f"{'met   ' if met else 'MISSED'} {name}")
print(json.dumps({
    "name": "eval-templates",
    "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
    "logs": len(results),
    "ours": {name: round(value, 4) for name, value in mine.items()},
    "peers": {"drain3": {name: round(value, 4) for name, value in peer.items()}},
    "ratios": {"drain3_speed": round(ours_speed / drain_speed, 1)},
    "goals_met": goals,
}))
sys.exit(0 if all(goals.values()) else 1)
