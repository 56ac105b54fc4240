"""What `scripts/soak-synergy` runs.

    python soak_synergy.py SCRATCH PROGRAMS MINUTES SEED
    python soak_synergy.py --write DATABASE SEED        (the writer, a process of its own)
"""

import contextlib
import http.client
import http.server
import json
import os
import pathlib
import platform
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time

METRICS = ["roi", "efficiency", "resilience", "antifragility", "reliability", "maintainability", "throughput"]
EFFECTS = [0.8, 0.5, 0.0, -0.4, 0.3, 0.0, 0.0]
SCRAPES_A_SECOND = 20


def write(path, seed):
    """One to three rows in a transaction, four times a second, until killed."""
    draw = random.Random(seed)
    db = sqlite3.connect(path, timeout=30)
    while True:
        with contextlib.suppress(sqlite3.OperationalError), db:  # the table is away now and then
            for _ in range(draw.randint(1, 3)):
                deltas = [draw.gauss(0, 1) for _ in METRICS]
                entry = {f"synergy_{name}": delta for name, delta in zip(METRICS, deltas)}
                entry["roi_delta"] = sum(e * d for e, d in zip(EFFECTS, deltas)) + draw.gauss(0, 1.7)
                db.execute("INSERT INTO synergy_history (source_menace_id, entry) VALUES ('soak', ?)", (json.dumps(entry),))
        time.sleep(0.25)


class Hook(http.server.BaseHTTPRequestHandler):
    """A webhook: remembers when each alert came."""

    alerts = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.alerts.append((time.monotonic(), body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Scraper(threading.Thread):
    """Asks an exporter for its page, and when it did not answer."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.answered, self.failures, self.last = port, 0, [], ""
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(1 / SCRAPES_A_SECOND):
            began = time.monotonic()
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/metrics")
                answer = connection.getresponse()
                page = answer.read().decode()
                connection.close()
                if answer.status != 200 or "synergy_exporter_uptime_seconds" not in page:
                    raise OSError(f"status {answer.status}")
                self.answered, self.last = self.answered + 1, page
            except (OSError, http.client.HTTPException) as error:
                self.failures.append((began, time.monotonic(), repr(error)))


class Soak:
    def __init__(self, scratch, programs, seed):
        self.scratch, self.home = scratch, scratch / "home"
        self.program = pathlib.Path(programs).resolve() / "synergy-weights"
        self.data = self.home / "sandbox_data"
        self.data.mkdir(parents=True)
        self.database = self.data / "synergy_history.db"
        self.draw = random.Random(seed)
        self.hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        threading.Thread(target=self.hook.serve_forever, daemon=True).start()
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SYNERGY", "SANDBOX", "NIGHTSHIFT", "AUTO_TRAIN"))}
        self.environment = clean | {"NOTIFICATION_WEBHOOK": f"http://127.0.0.1:{self.hook.server_port}/hook"}
        self.ports = {"exporter": free_port(), "witness": free_port()}
        self.commands = {
            "trainer": ["auto-train", "--interval", "1"],
            "exporter": ["export-metrics", "--port", str(self.ports["exporter"])],
            # Never killed: its memory is looked at over the whole time.
            "witness": ["export-metrics", "--port", str(self.ports["witness"])],
        }
        self.running, self.kills, self.down = {}, dict.fromkeys(("trainer", "exporter", "writer"), 0), []
        self.outages, self.memory, self.log = [], [], open(scratch / "log", "w")

    def ours(self, home, *arguments):
        return [self.program, "--home", home, *arguments]

    def start(self, name):
        if name == "writer":
            command = [sys.executable, __file__, "--write", self.database, str(self.draw.getrandbits(32))]
        else:
            command = self.ours(self.home, *self.commands[name])
        self.running[name] = subprocess.Popen(command, env=self.environment, stdout=self.log, stderr=self.log)

    def answers(self, name):
        """Waits until an exporter answers."""
        for _ in range(600):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.ports[name]), timeout=5).close()
                return time.monotonic()
            time.sleep(0.05)
        sys.exit(f"the {name} does not answer; see {self.log.name}")

    def kill(self, name):
        gone = time.monotonic()
        self.running[name].send_signal(signal.SIGKILL)
        self.running[name].wait()
        self.kills[name] += 1
        time.sleep(self.draw.uniform(0, 1))
        self.start(name)
        if name == "exporter":
            self.down.append((gone, self.answers(name)))

    def outage(self):
        """The table is away for longer than a cycle of the trainer."""
        db = sqlite3.connect(self.database, timeout=30)
        began = time.monotonic()
        db.execute("ALTER TABLE synergy_history RENAME TO hidden")
        time.sleep(3)
        db.execute("ALTER TABLE hidden RENAME TO synergy_history")
        db.close()
        self.outages.append((began, time.monotonic() + 1))

    def remember(self):
        status = pathlib.Path(f"/proc/{self.running['witness'].pid}/status").read_text()
        self.memory.append(int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]))

    def train_to_the_end(self, home):
        """What a history leaves behind: weights, progress, the learner's bits; and the number of rows."""
        while True:
            done = subprocess.run(self.ours(home, "auto-train", "--run-once", "--json"), env=self.environment, capture_output=True)
            if done.returncode == 3:
                break
            if done.returncode != 0:
                sys.exit(done.stderr.decode())
        data = home / "sandbox_data"
        files = ["synergy_weights.json", "last_ts.json", "last_ts.json.learner"]
        return {name: (data / name).read_bytes() for name in files}

    def run(self, minutes):
        db = sqlite3.connect(self.database)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE synergy_history (id INTEGER PRIMARY KEY AUTOINCREMENT, source_menace_id TEXT NOT NULL, entry TEXT NOT NULL)")
        db.commit()
        db.close()
        for name in ("writer", "trainer", "exporter", "witness"):
            self.start(name)
        scrapers = {}
        for name in self.ports:
            self.answers(name)
            scrapers[name] = Scraper(self.ports[name])
            scrapers[name].start()
        end = time.monotonic() + 60 * minutes
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, self.draw.expovariate(1 / 4)))
            what = self.draw.choices(["trainer", "exporter", "writer", "outage"], [5, 3, 2, 1])[0]
            self.outage() if what == "outage" else self.kill(what)
            self.remember()
        for scraper in scrapers.values():
            scraper.ended.set()
            scraper.join()
        codes = {}
        self.running.pop("writer").kill()
        for name, process in self.running.items():
            process.terminate()
            codes[name] = process.wait(timeout=60)
        return scrapers, codes


def summary(soak, scrapers, codes):
    during = lambda moment, spans, slack=0.0: any(a - slack <= moment <= b + slack for a, b in spans)
    overlaps = lambda a, b, spans: any(a <= end and b >= begin for begin, end in spans)
    failed = [f for f in scrapers["exporter"].failures if not overlaps(f[0], f[1], soak.down)] + scrapers["witness"].failures
    alerts = [when for when, body in Hook.alerts if "synergy_weight_update_failure" in body]
    seen = sum(any(during(when, [outage], 0.2) for when in alerts) for outage in soak.outages)
    elsewhere = [body for when, body in Hook.alerts if not during(when, soak.outages, 0.2)]
    left = soak.train_to_the_end(soak.home)
    undisturbed = soak.scratch / "undisturbed"
    (undisturbed / "sandbox_data").mkdir(parents=True)
    source = sqlite3.connect(soak.database)
    rows, newest = source.execute("SELECT count(*), max(id) FROM synergy_history").fetchone()
    source.execute("VACUUM INTO ?", (str(undisturbed / "sandbox_data" / "synergy_history.db"),))
    same = left == soak.train_to_the_end(undisturbed)
    growth = max(soak.memory[-1], soak.memory[len(soak.memory) // 2]) - max(soak.memory[: max(3, len(soak.memory) // 10)])
    ours = {
        "rows": rows, "last_id": json.loads(left["last_ts.json"])["last_id"], "kills": soak.kills, "outages": len(soak.outages),
        "outages_alerted": seen, "alerts": len(Hook.alerts), "alerts_outside_outages": elsewhere[:3],
        "scrapes": sum(s.answered for s in scrapers.values()), "scrapes_failed_while_up": failed[:5],
        "exporter_rss_kib": [soak.memory[0], soak.memory[len(soak.memory) // 2], soak.memory[-1]], "exit_codes": codes,
        "weights": json.loads(left["synergy_weights.json"]),
    }
    met = {
        "each_row_once": same and ours["last_id"] == newest,
        "scrapes_answered": not failed and scrapers["witness"].answered > 0,
        "memory_flat": growth <= 2048,
        "alerts_seen": seen == len(soak.outages) and not elsewhere,
        "ended_well": set(codes.values()) == {0},
    }
    return ours, met


def main():
    if sys.argv[1] == "--write":
        write(sys.argv[2], int(sys.argv[3]))
    scratch, programs, minutes, seed = pathlib.Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    soak = Soak(scratch, programs, seed)
    try:
        scrapers, codes = soak.run(minutes)
    finally:
        for process in soak.running.values():
            if process.poll() is None:
                process.kill()
    ours, met = summary(soak, scrapers, codes)
    print(f"{minutes:g} minutes: {ours['rows']} rows, killed " + ", ".join(f"the {n} {c} times" for n, c in ours["kills"].items()))
    print(f"weights, progress and learner as without disturbance: {'yes' if met['each_row_once'] else 'NO'}")
    print(f"{ours['scrapes']} scrapes answered, {len(ours['scrapes_failed_while_up'])} failed while the exporter was up")
    print(f"memory of the exporter that was never killed, KiB: {ours['exporter_rss_kib']}")
    print(f"{ours['outages_alerted']} of {ours['outages']} outages of the history reached the webhook ({ours['alerts']} alerts)\n")
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
    print(json.dumps({"name": "soak-synergy", "machine": machine, "seed": seed, "minutes": minutes, "ours": ours, "goals_met": met}))
    if not all(met.values()):
        log = pathlib.Path.cwd() / "soak-synergy.log"
        shutil.copy(soak.log.name, log)
        print(f"what the programs said: {log}", file=sys.stderr)
        sys.exit(1)


main()
