#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Run time measured a part of the time: counts come out right, and the kernel measures no longer than it is asked to."""
import contextlib
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ringside import Daemon, equal, need_root, skip, true

STEADY = 6  # seconds after a plugin's start in which all is measured
SPAN = 16   # four periods


def measures(pid):
    """Whether the process has the kernel measure right now: it holds a file for that."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/{pid}/fd/{fd}") == "anon_inode:bpf-stats":
                return True
    return False


def send(seconds, pid=0):
    """Signals to ourselves at a steady rate; how many, and in what share of the time the daemon had them measured."""
    n = looks = seen = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(53):
            os.kill(os.getpid(), signal.SIGUSR1)
        n += 53
        if pid:
            looks += 1
            seen += measures(pid)
        time.sleep(0.02)
    return n, seen / max(looks, 1)


def cost(d):
    return d.sql("SELECT prog_id, run_count, run_time FROM plugin_programs WHERE plugin = 'signal'")[0]


def run(options):
    """Sent, counted by the daemon, share of the time in which was measured; all in the steady span."""
    with Daemon(options) as d:
        d.cli("plugin", "enable", "signal")
        send(STEADY)
        was = cost(d)
        if not was["run_count"]:
            skip("the run time of BPF programs isn't measured here")
        sent, share = send(SPAN, d.pid)
        now = cost(d)
        true(now["run_time"] > was["run_time"], "run time grows")
        return sent, now["run_count"] - was["run_count"], share


def main():
    need_root()
    with open("/proc/sys/kernel/bpf_stats_enabled") as f:
        if f.read().strip() == "1":
            skip("kernel.bpf_stats_enabled is on: all is measured here")
    signal.signal(signal.SIGUSR1, lambda *a: None)
    said = []
    sent, counted, share = run("")
    # Signals of others count too; a scheduler's whim makes a window a little longer.
    true(0.7 * sent < counted < 1.5 * sent, f"{sent} signals, estimated {counted}")
    true(0.02 < share < 0.15, f"measured in {share:.3f} of the time; wanted a sixteenth")
    said.append(f"sampled: {sent} sent, {counted} estimated from {share:.3f} of the time")
    for options in ('bpf_stats = "always"\n', 'kernel_cpu_limit = "0.001"\nlimit_action = "report"\n'):
        sent, counted, share = run(options)
        equal(share, 1.0, f"{options!r}: measured all the time")
        true(counted >= sent, f"{options!r}: {sent} signals, {counted} counted")
        said.append(f"{options.split(' ')[0]}: {sent} sent, {counted} counted")
    print("; ".join(said))


main()
