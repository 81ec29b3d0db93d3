#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The governor's place in the cgroups of this host: a leaf of our own, limits that hold, traffic counted to the byte."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

PROBE = os.path.join(os.environ["RINGSIDE_BUILD"], "tests", "governor_probe")
NAME = f"rs-gov-{os.getpid()}"


class Probe:
    def __init__(self, *before):
        self.p = subprocess.Popen([*before, PROBE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, command):
        self.p.stdin.write(command + "\n")
        self.p.stdin.flush()
        line = self.p.stdout.readline()
        assert line, f"'{command}' got no answer (exit {self.p.poll()})"
        return json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.stdin.close()
        if self.p.wait(20):
            raise AssertionError(f"the probe ended with {self.p.returncode}")


def mounts():
    """controller ("" for cgroup2) -> mount point"""
    found = {}
    for line in open("/proc/self/mountinfo"):
        left, right = line.split(" - ")
        kind, _, opts = right.split(" ", 2)
        point = left.split(" ")[4]
        if kind == "cgroup2":
            found[""] = point
        elif kind == "cgroup":
            for c in opts.strip().split(","):
                found[c] = point
    return found


def groups(pid):
    """controller -> directory of that process"""
    at, points = {}, mounts()
    for line in open(f"/proc/{pid}/cgroup"):
        _, names, path = line.rstrip("\n").split(":", 2)
        for c in names.split(","):
            if c in points:
                at[c] = points[c].rstrip("/") + path
    return at


def read(*path):
    with open(os.path.join(*path)) as f:
        return f.read().strip()


def leaves():
    found = []
    for c, d in groups("self").items():
        found += [os.path.join(d, e) for e in os.listdir(d) if e.startswith(NAME)]
    return found


def check_leaf_and_limits():
    with Probe() as p:
        here = groups("self")
        got = p(f"enter {NAME}")
        print(got["describe"], "| lost:", got["lost"] or "nothing")
        at = groups(p.p.pid)
        leaf = f"{NAME}-{p.p.pid}"
        memory = at.get("memory", at.get(""))
        cpu = at.get("cpu", at.get(""))
        for d in {memory, cpu}:
            assert os.path.basename(d) == leaf, f"{d} isn't the leaf {leaf}"
        # Never beside our own group: a limit of whoever started us must go on to hold.
        assert os.path.dirname(memory) == (here.get("memory") or here[""]).rstrip("/")
        assert read(memory, "cgroup.procs") == str(p.p.pid)
        if got["v2"]:
            assert os.stat(at[""]).st_ino == got["v2_id"]

        assert p(f"limits 500 {100 << 20}") == {"result": 0, "error": ""}
        if "memory" in at:
            assert read(memory, "memory.limit_in_bytes") == str(164 << 20)
            assert read(cpu, "cpu.cfs_quota_us") == "50000"
        else:
            assert read(memory, "memory.max") == str(164 << 20)
            assert read(cpu, "cpu.max") == "50000 100000"
        assert p(f"limits 1 {1 << 30}")["result"] == 0
        if "memory" in at:  # 10 % is more than 64 MiB here; 1 ms is the kernel's least quota
            assert read(memory, "memory.limit_in_bytes") == str((1 << 30) * 11 // 10 // 4096 * 4096)
            assert read(cpu, "cpu.cfs_quota_us") == "1000"
        assert p("limits 0 0")["result"] == 0
        if "memory" in at:
            assert int(read(memory, "memory.limit_in_bytes")) > 1 << 60
            assert read(cpu, "cpu.cfs_quota_us") == "-1"
        else:
            assert read(memory, "memory.max") == "max" and read(cpu, "cpu.max").startswith("max")
        p("leave")
        assert groups(p.p.pid) == here, "not back where it came from"
        assert not leaves(), f"left behind: {leaves()}"


def check_quota_holds_every_thread():
    with Probe() as p:
        p(f"enter {NAME}")
        assert p("limits 500 0")["result"] == 0
        a, start = p("take 0"), time.monotonic()
        p("burn 2000")
        b, wall = p("take 0"), time.monotonic() - start
        cores = (b["cpu_ns"] - a["cpu_ns"]) / 1e9 / wall
        print(f"two threads under a quota of 0.5: {cores:.2f} cores, held in {b['held'] - a['held']} of "
              f"{b['periods'] - a['periods']} periods, measured {b['cpu']} millicores")
        assert 0.1 < cores < 0.65, cores
        assert b["cpu_valid"] and abs(b["cpu"] / 1000 - cores) < 0.15
        assert b["throttled"] > 0.5


def check_memory():
    with Probe() as p, tempfile.TemporaryDirectory(prefix="rs-gov-") as d:
        p(f"enter {NAME}")
        a = p("take 0")
        p(f"file 64 {d}/cache")
        b = p("take 0")
        p("grow 48")
        c = p("take 0")
        print(f"mem {a['mem'] >> 20} MiB, with 64 MiB of page cache {b['mem'] >> 20}, with 48 MiB more {c['mem'] >> 20}")
        assert a["mem_valid"] and not a["mem_is_rss"]
        assert b["mem"] - a["mem"] < 24 << 20, "page cache was counted"
        assert 44 << 20 < c["mem"] - b["mem"] < 60 << 20


def counted(p, before):
    """Bytes between two samples: the rates times the time, exact because both are a second or more apart."""
    after = p("take 0")
    s = (after["at"] - before["at"]) / 1e9
    return after["net_valid"], after["rx"] * s, after["tx"] * s


def check_traffic():
    sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sink.bind(("127.0.0.1", 0))
    port = sink.getsockname()[1]
    with Probe() as p:
        p("socket")
        got = p(f"enter {NAME}")
        if not got["v2"]:
            print("no cgroup2 leaf here:", got["lost"])
            return
        assert got["net"] == "", got["net"]
        before = p("take 0")
        assert not before["net_valid"], "a rate from one sample"
        assert p(f"udp {port} 1000 1000")["sent"] == 1000
        time.sleep(1.1)
        valid, rx, tx = counted(p, before)
        # 1000 bytes of data, 8 of UDP, 20 of IP. A rate is whole bytes per second: two of rounding at most.
        print(f"1000 datagrams of 1000 bytes: sent {tx:.0f}, received {rx:.0f}")
        assert valid and abs(tx - 1028000) < 3 and rx == 0, (rx, tx)
        # Sockets belong to the cgroup in which they were made: hence cgroup_enter() before the first one.
        before = p("take 0")
        time.sleep(1.0)
        before = p("take 0")
        assert p(f"old-udp {port} 1000 1000")["sent"] == 1000
        time.sleep(1.1)
        valid, rx, tx = counted(p, before)
        assert valid and rx == 0 and tx == 0, (rx, tx)
    sink.close()


def check_interface():
    """In a network namespace of its own, so that no other traffic of this host is in the figure."""
    with Probe("unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$0"') as p:
        p(f"enter {NAME}")
        before = p("take 1")
        assert not before["net_valid"]
        p("udp 9 1000 1000")
        time.sleep(1.1)
        after = p("take 1")
        s = (after["at"] - before["at"]) / 1e9
        # 14 bytes of Ethernet header each; the port is closed, so the answers (576 at most) come on top.
        print(f"busiest interface {after['interface']}: {after['tx'] * s:.0f} bytes sent in {s:.2f} s")
        assert after["net_valid"] and after["interface"] == "lo"
        assert 1042000 - 3 <= after["tx"] * s < 1042000 + 1000 * 600


def check_stale_leaf():
    p = Probe()
    p(f"enter {NAME}")
    p.p.send_signal(signal.SIGKILL)
    p.p.wait()
    assert leaves(), "a killed daemon can't have cleaned up"
    with Probe() as q:
        q(f"enter {NAME}")
        left = {os.path.basename(x) for x in leaves()}
        assert left == {f"{NAME}-{q.p.pid}"}, left
    assert not leaves()


def check_side_by_side():
    with Probe() as p, Probe() as q:
        p(f"enter {NAME}")
        q(f"enter {NAME}")
        p("limits 250 0")
        assert groups(p.p.pid) != groups(q.p.pid)
        p("leave")
        assert os.path.isdir(groups(q.p.pid)[""])


def check_refused():
    """Read-only cgroups, then none at all: it runs on and says what is lost."""
    each = "for m in $(awk '$(NF-2) ~ /^cgroup/ {print $5}' /proc/self/mountinfo); do "
    ro = each + "mount -o remount,bind,ro $m; done"
    none = each + "umount -l $m; done"
    for prepare, wanted in ((ro, "can't be written"), (none, "no cgroup is visible")):
        with Probe("unshare", "-m", "--propagation", "private", "sh", "-c", f'{prepare} && exec "$0"') as p:
            got = p(f"enter {NAME}")
            print(got["describe"], "| lost:", got["lost"])
            assert wanted in got["describe"], got
            assert "limits rest on the governor's own checks alone" in got["lost"], got
            p("take 0")
            p("burn 300")
            time.sleep(0.8)
            u = p("take 0")
            assert u["cpu_valid"] and u["mem_valid"] and u["cpu"] > 50, u
            # Nothing to set is nothing to fail.
            assert p("limits 500 1000000")["result"] == 0
    with Probe() as p:
        here = groups("self")
        p(f"stay {NAME}")
        assert groups(p.p.pid) == here, "told not to manage, moved all the same"


def main():
    if os.getuid():
        print("needs root")
        sys.exit(77)
    try:
        for check in (check_leaf_and_limits, check_quota_holds_every_thread, check_memory, check_traffic,
                      check_interface, check_stale_leaf, check_side_by_side, check_refused):
            check()
            print("ok", re.sub("^check_", "", check.__name__))
    finally:
        for d in leaves():
            try:
                os.rmdir(d)
            except OSError:
                pass


if __name__ == "__main__":
    main()
