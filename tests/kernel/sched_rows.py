#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""509 waits for a CPU of either kind are that many rows with their length and who had it; sums agree with the kernel's; what is lost is counted."""
# timeout: 300
import collections
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ringside import Daemon, contains, equal, need_root, skip, true, wait_until, workload

N = 509
SPIN_US = 400


def load(cpu, n=N):
    """Runs the workload to its end: its pid, and what it said of each part."""
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    p = subprocess.Popen([workload("schedload"), str(cpu), str(n), str(SPIN_US)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    out, err = p.communicate(timeout=120)
    if "real time" in err:
        skip("real-time threads aren't allowed here")
    equal(p.returncode, 0, err)
    parts = {}
    for line in out.splitlines():
        name, value = line.split()
        if name in ("woken", "preempted"):
            part = parts[name] = collections.defaultdict(list)
        else:
            part[name].append(int(value))
    return p.pid, parts


def rows(d, where, n):
    query = f"SELECT * FROM sched WHERE {where} ORDER BY ts"
    got = wait_until(lambda: len(r := d.sql(query)) >= n and r, 20, f"{n} rows where {where}", 0.2)
    equal(len(got), n, f"rows where {where}")
    return got


def facts(got, *columns):
    return {tuple(r[c] for c in columns) for r in got}


def waits(d, cpu):
    began = time.time_ns()
    pid, parts = load(cpu)
    ended = time.time_ns()
    what = ("pid", "tid", "next_pid", "comm", "uid", "ppid", "cpu", "prev_pid", "prev_tid", "prev_comm", "next_prio", "prev_prio", "wakeup_tracked", "sample_rate")
    for name, woken in (("woken", True), ("preempted", False)):
        part = parts[name]
        low, high = part["low"][0], part["high"][0]
        got = rows(d, f"pid = {pid} AND tid = {low} AND prev_tid = {high} AND wakeup_tracked = {woken:d} AND runq_latency_ns >= {SPIN_US * 1000 * 3 // 4}", N)
        # SCHED_FIFO 10 and 50
        equal(facts(got, *what), {(pid, low, pid, "schedload", 0, os.getpid(), cpu, pid, high, "schedload", 89, 49, woken, 1)}, name)
        # The one that preempts doesn't sleep any more after the last time, it ends.
        equal([r["prev_state"] for r in got], [1] * (N - 1) + [1 if woken else 128], f"{name}: the other sleeps")
        true(all(began <= r["ts"] <= ended for r in got), f"{name}: times")
        if woken:
            # By the clock of the one that waited: from before it was woken to after it ran.
            true(all(SPIN_US * 750 <= r["runq_latency_ns"] <= w for r, w in zip(got, part["wait"])), "lengths")
        else:
            true(all(SPIN_US * 750 <= r["runq_latency_ns"] < 100e6 for r in got), "lengths")


def context_switches():
    with open("/proc/stat") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("ctxt "))


def sums(cpu):
    """Rows of runq: all switches between enable and disable, and the waits that the test makes."""
    with Daemon() as d:
        before = context_switches()
        d.enable("sched", "interval=1s", "threshold=1h")
        first = context_switches()
        load(cpu)
        time.sleep(1.2)
        last = context_switches()
        d.cli("plugin", "disable", "sched")
        after = context_switches()
        got = d.sql("SELECT * FROM runq")
        true(last - first <= sum(r["switches"] for r in got) <= after - before, "switches")
        true(all(r["woken"] + r["preempted"] + r["untracked"] <= r["switches"] for r in got), "waits and switches")
        true(all(r["wait"] >= r["wait_max"] for r in got), "sum and longest")
        true(all(r["p50"] <= r["p95"] <= r["p99"] for r in got), "percentiles")
        ours = [r for r in got if r["cpu"] == cpu]
        true(sum(r["preempted"] for r in ours) >= N and sum(r["woken"] for r in ours) >= N, "counts")
        true(sum(r["wait"] for r in ours) >= 2 * N * SPIN_US * 750, "waits")
        true(max(r["wait_max"] for r in ours) >= SPIN_US * 750, "longest")
        share = sum(r["untracked"] for r in got) / sum(r["switches"] for r in got)
        true(share < 0.05, f"{share:.3f} of the waits unknown")
        equal(d.sql("SELECT * FROM sched"), [], "rows below the threshold")


def options(d, cpu):
    for options in ("exclude_comms=schedload", "comms=other", "uids=65534"):
        d.cli("plugin", "set", "sched", "comms=", "exclude_comms=", "uids=")
        d.cli("plugin", "set", "sched", options)
        before = d.plugin("sched")["filtered"]
        pid, _ = load(cpu, 53)
        wait_until(lambda: d.plugin("sched")["filtered"] >= before + 106, 10, "filtered")
        equal(d.sql(f"SELECT * FROM sched WHERE pid = {pid} AND comm = 'schedload'"), [], options)
    d.cli("plugin", "set", "sched", "comms=", "exclude_comms=", "uids=", "threshold=1s")
    pid, _ = load(cpu, 53)
    equal(d.sql(f"SELECT * FROM sched WHERE pid = {pid}"), [], "threshold")
    contains(d.cli("plugin", "set", "sched", "threshold=10us", code=1), "100us", "threshold")


def loss(cpu):
    """A ring that nobody reads: each event is a row or is counted."""
    with Daemon() as d:
        d.enable("sched", "ring_size=64KiB", "threshold=200us", "comms=schedload")
        d.process.send_signal(signal.SIGSTOP)
        try:
            pid, _ = load(cpu)
        finally:
            d.process.send_signal(signal.SIGCONT)
        lost = wait_until(lambda: d.plugin("sched")["kernel_drops"], 10, "kernel_drops")
        wait_until(lambda: d.one(f"SELECT count(*) FROM sched WHERE pid = {pid}") + lost >= 2 * N, 10, "the others")
        true(0 < lost < 2 * N, f"{lost} lost")
        wait_until(lambda: d.one("SELECT sum(lost) FROM loss WHERE plugin = 'sched'") == lost, 5, "the loss in its table")


def main():
    need_root()
    cpu = max(os.sched_getaffinity(0))
    with Daemon() as d:
        d.enable("sched", "ring_size=4MiB", "threshold=200us", "interval=1s")
        waits(d, cpu)
        plugin = d.plugin("sched")
        equal((plugin["kernel_drops"], plugin["decode_errors"], plugin["rows_dropped"]), (0, 0, 0), "losses")
        options(d, cpu)
    sums(cpu)
    loss(cpu)


if __name__ == "__main__":
    main()
