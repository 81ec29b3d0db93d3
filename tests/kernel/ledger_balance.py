#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The loss ledger, balanced to the row: each event of an overload is a row or is told, in the kernel, the daemon, the store and on a full disk."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ringside as t  # noqa: E402
from eventload import EventLoad  # noqa: E402

# Plugin (its table has the same name): options, workload, how often, events each time.
PLUGINS = {
    "signal": ([], "signal", 30011, 1),
    "exec": (["exits=false"], "exec", 1009, 1),
    "vfs": ([], "open", 30011, 1),
    "tcp": ([], "connect", 2003, 2),
    "bind": ([], "bind", 10007, 1),
}
KERNEL = ("submitted", "ring_full", "map_full", "kernel_error", "filtered", "sampled")
COLUMNS = (*KERNEL, "seen", "received", "decode_errors", "left_out", "no_memory", "rows", "stored", "queue_full", "disk")


def ledger(d, plugin):
    sums = ", ".join(f"coalesce(sum({c}), 0) AS {c}" for c in COLUMNS)
    got = d.sql(f"SELECT {sums} FROM ledger WHERE plugin = '{plugin}'")[0]
    last = d.sql(f"SELECT waiting FROM ledger WHERE plugin = '{plugin}' ORDER BY ts DESC LIMIT 1")
    got["waiting"] = last[0]["waiting"] if last else 0
    return got


def lost(d, plugin):
    return {r["stage"]: r["lost"] for r in d.sql(f"SELECT stage, sum(lost) AS lost FROM loss WHERE plugin = '{plugin}' GROUP BY stage")}


def settled(d, plugin, n, timeout=40):
    """The ledger once all n events, and all rows that the plugin made, are accounted for."""
    def check():
        p, got = d.plugin(plugin), ledger(d, plugin)
        return got if got["seen"] - got["filtered"] >= n and got["rows"] == p["rows"] and got["waiting"] == 0 and got["stored"] + got["queue_full"] + got["disk"] == got["rows"] else None
    try:
        return t.wait_until(check, timeout, "a settled ledger", 0.5)
    except AssertionError:
        print(f"{plugin}: {d.plugin(plugin)}\n{ledger(d, plugin)}\n{lost(d, plugin)}", file=sys.stderr)
        raise


def check_equations(d, plugin, n):
    got, told = settled(d, plugin, n), lost(d, plugin)
    t.equal(got["seen"], sum(got[c] for c in KERNEL), f"{plugin}: seen in the kernel")
    t.equal(got["received"], got["submitted"], f"{plugin}: what went through the ring")
    t.equal(got["rows"] + got["decode_errors"] + got["left_out"] + got["no_memory"], got["received"], f"{plugin}: what became of it")
    t.equal(d.one(f"SELECT count(*) FROM {plugin}"), got["stored"], f"{plugin}: rows that are there")
    for stage, column in (("ring_full",) * 2, ("map_full",) * 2, ("kernel_error",) * 2, ("sampled",) * 2, ("queue_full",) * 2, ("disk",) * 2,
                          ("no_memory",) * 2, ("decode", "decode_errors")):
        t.equal(told.get(stage, 0), got[column], f"{plugin}: {stage} in the tables loss and ledger")
    return got


def stderr_of(d, *args):
    return subprocess.run([t.CLI, "--socket", d.socket, *args], capture_output=True, text=True, timeout=60, check=True).stderr


def check_told(d, table, got):
    """The answer says what is missing from it, in the time that it is about."""
    err = stderr_of(d, "sql", f"SELECT count(*) FROM {table}")
    lost = got["ring_full"] + got["sampled"] + got["map_full"] + got["kernel_error"]
    t.contains(err, f"incomplete: {lost:,} of {got['stored'] + lost:,} rows of {table} are known to be lost", "note")
    t.contains(err, f"ring_full {got['ring_full']}", "note")
    err = stderr_of(d, "sql", f"SELECT count(*) FROM {table} WHERE ts > now_ns() + 1000000000")
    t.equal(err, "", "an answer about a time in which nothing was lost")


def check_watch(d, table, load, n):
    """A watcher is told of what it will never see."""
    watcher = subprocess.Popen([t.CLI, "--socket", d.socket, "-o", "json", "watch", table, "--for", "8s"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    check_ring(d, table, load, n, 2 * n)
    out, err = watcher.communicate(timeout=30)
    told = sum(int(x.replace(",", "")) for x in re.findall(r"incomplete: ([\d,]+) rows of " + table, err))
    t.equal(len(out.splitlines()) + told, n, f"rows of the watcher and rows that it was told of: {err}")


def check_ring(d, plugin, load, n, events):
    """A daemon that stands still while its ring runs over; events: so many since the plugin was enabled."""
    d.process.send_signal(signal.SIGSTOP)
    try:
        load.run(n)
    finally:
        d.process.send_signal(signal.SIGCONT)
    got = check_equations(d, plugin, events)
    t.true(got["ring_full"] > 0, f"{plugin}: nothing was lost: {got}")
    t.equal(got["seen"] - got["filtered"], events, f"{plugin}: each event is told")
    print(f"{plugin}: {events} events: {got['stored']} stored, {got['ring_full']} ring_full, {got['sampled']} sampled")
    return got


def program(home):
    return shutil.copy("/bin/true", os.path.join(home, "rs-ledger-true"))


def each_plugin():
    with t.Daemon() as d:
        for plugin, (options, kind, n, each) in PLUGINS.items():
            # A child is known by the name that nobody else's has.
            with tempfile.TemporaryDirectory(prefix="ringside-ledger-") as home, EventLoad(kind, program(home) if kind == "exec" else None) as load:
                only = ["comms=rs-ledger-true"] if kind == "exec" else [f"pids={load.pid}"]
                d.enable(plugin, "ring_size=64KiB", *options, *only)
                check_told(d, plugin, check_ring(d, plugin, load, n, n * each))
                if plugin == "signal":
                    check_watch(d, plugin, load, n)
                d.cli("plugin", "disable", plugin)


@contextlib.contextmanager
def small_disk():
    """A file system of 48 MiB."""
    path = tempfile.mkdtemp(prefix="ringside-ledger-")
    t.run("mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", path)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=False)
        os.rmdir(path)


def fill(path):
    with open(path, "wb", buffering=0) as f, contextlib.suppress(OSError):
        while True:
            f.write(bytes(65536))
    with open(path, "ab", buffering=0) as f, contextlib.suppress(OSError):
        while True:
            f.write(bytes(512))


def full_disk():
    """Rows that the store can't take: its queue runs over, the rest is given up, and the ledger, which couldn't be stored either, is whole afterwards."""
    with small_disk() as disk, EventLoad("signal") as load:
        config = '[store]\nqueue_batches = 16\nreserve_bytes = "0"\n[store.flow]\nmax_bytes = "16MiB"\n[store.audit]\nmax_bytes = "16MiB"\n'
        with t.Daemon(config, state=os.path.join(disk, "state")) as d:
            d.enable("signal", "ring_size=16MiB", f"pids={load.pid}")
            load.run(1009)
            settled(d, "signal", 1009)
            before = d.one("SELECT count(*) FROM signal")
            t.equal(before, 1009, "rows before")
            fill(disk + "/ballast")
            load.run(40009, 20000)
            time.sleep(3)
            os.unlink(disk + "/ballast")
            got = settled(d, "signal", 41018, 60)
            told = lost(d, "signal")
            t.equal(got["rows"] + got["ring_full"] + got["sampled"], 41018, "each event is told")
            t.true(got["disk"] > 0, f"nothing was given up: {got}")
            for stage in ("disk", "queue_full"):
                t.equal(told.get(stage, 0), got[stage], f"{stage} in the tables loss and ledger")
            print(f"full disk: {got['stored']} stored, {got['disk']} disk, {got['queue_full']} queue_full, {got['ring_full']} ring_full")


def main():
    t.need_root()
    t.need_programs("unshare", "mount")
    if "RINGSIDE_LEDGER_NS" not in os.environ:
        # Its mounts are gone with it.
        env = dict(os.environ, RINGSIDE_LEDGER_NS="1")
        os.execvpe("unshare", ["unshare", "-m", sys.executable, os.path.abspath(__file__)], env)
    each_plugin()
    full_disk()


if __name__ == "__main__":
    main()
