# SPDX-License-Identifier: Apache-2.0
"""A daemon under everything at once: events at a rate, queries, watchers that come and go, plugins that come and go, a disk that
fills and frees. Its memory and descriptors stay, and each event is a row or is told."""

import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import ringside as t
from eventload import EventLoad

# Plugins that are switched on and off all the time; the events that are counted come from another one.
STORM = ("exec", "bash", "dnsflow", "vfs", "tcp", "netflow")
QUERIES = (
    "SELECT name, count(*) AS n FROM signal WHERE ts > ago('5m') GROUP BY name",
    "SELECT tpid, count(*) AS n FROM signal GROUP BY tpid ORDER BY n DESC LIMIT 5",
    "SELECT * FROM signal ORDER BY ts DESC LIMIT 50",
    "SELECT event, count(*) AS n FROM daemon_events GROUP BY event",
    "SELECT plugin, sum(lost) AS lost FROM loss GROUP BY plugin",
    "SELECT count(*) AS n FROM segments",
    "SELECT name, rows, rows_dropped FROM plugins",
)
LEDGER = ("seen", "filtered", "submitted", "ring_full", "map_full", "kernel_error", "sampled", "received", "decode_errors",
          "left_out", "no_memory", "rows", "stored", "queue_full", "disk")
DISK_MIB = 160
CONFIG = """cpu_limit = "2"
mem_limit = "2GiB"
[store]
reserve_bytes = "0"
[store.flow]
max_bytes = "32MiB"
[store.audit]
max_bytes = "64MiB"
"""


class Ledger:
    """Sums of the table ledger, read before the ring can turn over."""

    def __init__(self, d):
        self.d, self.ts, self.sums, self.waiting = d, 0, dict.fromkeys(LEDGER, 0), 0

    def read(self):
        rows = self.d.sql(f"SELECT CAST(ts AS TEXT) AS at, waiting, {', '.join(LEDGER)} FROM ledger WHERE plugin = 'signal' AND ts > {self.ts} ORDER BY ts")
        for row in rows:
            self.ts = int(row["at"])
            self.waiting = row["waiting"]
            for c in LEDGER:
                self.sums[c] += row[c] or 0
        return self.sums


class Soak:
    def __init__(self, d, disk, rng):
        self.d, self.disk, self.rng = d, disk, rng
        self.stop = threading.Event()
        self.failures = []
        self.counts = dict.fromkeys(("queries", "watchers", "switches", "fills"), 0)
        self.ledger = Ledger(d)

    def loop(self, what, pause):
        def run():
            while not self.stop.wait(self.rng.uniform(pause / 2, pause * 1.5)):
                try:
                    what()
                except Exception as e:
                    self.failures.append(f"{what.__name__}: {e!r}")
                    return
        return threading.Thread(target=run, name=what.__name__)

    def query(self):
        self.d.sql(self.rng.choice(QUERIES), timeout=120)
        self.counts["queries"] += 1

    def watch(self):
        p = subprocess.Popen([t.CLI, "--socket", self.d.socket, "-o", "json", "watch", "signal"], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        self.stop.wait(self.rng.uniform(0.1, 2))
        if self.rng.random() < 0.5:
            p.kill()
        else:
            p.terminate()
        p.wait(20)
        self.counts["watchers"] += 1

    def switch(self):
        name = self.rng.choice(STORM)
        self.d.cli("plugin", self.rng.choice(("enable", "disable")), name, code=None, timeout=120)
        self.counts["switches"] += 1

    def fill(self):
        ballast = self.disk + "/ballast"
        with open(ballast, "wb", buffering=0) as f, contextlib.suppress(OSError):
            while True:
                f.write(bytes(65536))
        self.stop.wait(self.rng.uniform(0.2, 3))
        os.unlink(ballast)
        self.counts["fills"] += 1

    def read_ledger(self):
        self.ledger.read()


def balance(s, made, timeout=60):
    """Waits until all that was made is accounted for, and checks the equations."""
    def settled():
        got = s.ledger.read()
        return got if got["seen"] - got["filtered"] >= made and got["stored"] + got["queue_full"] + got["disk"] == got["rows"] else None
    try:
        got = t.wait_until(settled, timeout, "a ledger that is settled", 0.5)
    except AssertionError:
        print(f"made {made}, ledger {s.ledger.sums}, waiting {s.ledger.waiting}, plugin {s.d.plugin('signal')}", file=sys.stderr)
        raise
    t.equal(got["seen"] - got["filtered"], made, "signals seen of those made")
    t.equal(got["submitted"] + got["ring_full"] + got["map_full"] + got["kernel_error"] + got["sampled"] + got["filtered"],
            got["seen"], "what became of them in the kernel")
    t.equal(got["rows"] + got["decode_errors"] + got["left_out"] + got["no_memory"], got["submitted"], "what became rows")
    return got


def steady(samples, what, slack):
    """The last third is not above the one before it."""
    third = len(samples) // 3
    before, after = statistics.median(samples[third:2 * third]), statistics.median(samples[2 * third:])
    t.true(after <= before * 1.1 + slack, f"{what} grows: {before:.0f}, then {after:.0f}: {samples}")
    return before, after


def soak(seconds, rate, slack_kib):
    """Returns one line of figures; raises AssertionError. The caller has a mount namespace of its own."""
    disk = tempfile.mkdtemp(prefix="ringside-soak-")
    t.run("mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", disk)
    # A sanitizer keeps freed memory for a while; that isn't the daemon's.
    env = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=8:detect_leaks=1:exitcode=99"}
    try:
        with EventLoad("signal") as load, t.Daemon(CONFIG, state=disk + "/state", env=env) as d:
            d.enable("signal", "ring_size=16MiB", f"pids={load.pid}")
            return under_load(d, disk, load, seconds, rate, slack_kib)
    finally:
        subprocess.run(["umount", "-l", disk], check=False)
        os.rmdir(disk)


def under_load(d, disk, load, seconds, rate, slack_kib):
    s = Soak(d, disk, random.Random(37))
    threads = [s.loop(s.query, 0.4), s.loop(s.query, 1), s.loop(s.watch, 0.3), s.loop(s.watch, 0.5), s.loop(s.switch, 0.6),
               s.loop(s.fill, 7), s.loop(s.read_ledger, 1.5)]
    rss, fds, made = [], [], 0
    fds_before = d.fds()
    for th in threads:
        th.start()
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not s.failures:
            part = rate * 2
            load.run(part, rate)
            made += part
            rss.append(d.rss_kib())
            fds.append(d.fds())
    finally:
        s.stop.set()
        for th in threads:
            th.join()
    t.true(not s.failures, "; ".join(s.failures))
    for name in STORM:
        d.cli("plugin", "disable", name, code=None)
    got = balance(s, made)
    have = d.one("SELECT count(*) FROM signal")
    t.true(have <= got["stored"], f"{have} rows in the ring, {got['stored']} were stored")
    # Meanwhile they come and go with the plugins: what counts is that all of them went.
    t.wait_until(lambda: d.fds() <= fds_before + 8, 30, f"descriptors as before: {fds_before}, now {d.fds()}")
    before, after = steady(rss, "memory (KiB)", slack_kib)
    events = {r["event"]: r["n"] for r in d.sql("SELECT event, count(*) AS n FROM daemon_events GROUP BY event")}
    t.true(not {"quarantined", "damaged"} & set(events), f"damage: {events}")
    lost = {c: got[c] for c in ("ring_full", "sampled", "queue_full", "disk") if got[c]}
    return (f"{made} signals in {seconds} s ({rate}/s): {got['stored']} stored, not stored and told: {lost or 'none'}; RSS {before / 1024:.0f} "
            f"then {after / 1024:.0f} MiB, descriptors {fds_before} before, {max(fds)} at most, {d.fds()} after; {s.counts}")


def enter():
    """Into a mount namespace of our own: its mounts are gone with it."""
    t.need_root()
    t.need_programs("unshare", "mount")
    if "RINGSIDE_SOAK_NS" not in os.environ:
        os.execvpe("unshare", ["unshare", "-m", "--propagation", "private", sys.executable, *sys.argv],
                   dict(os.environ, RINGSIDE_SOAK_NS="1"))
