#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""1,009 calls of bind(2) of each kind are that many rows with address, port and error; what is lost is counted."""
# timeout: 300
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ringside import Daemon, equal, need_programs, need_root, netns, true, wait_until, workload

N = 1009
NS = "rs-bind-a"


def load(kind, home, n=N, **kw):
    """Runs the workload to its end; its pid and the words of the lines that it printed."""
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    p = subprocess.Popen(["ip", "netns", "exec", NS, workload("bindload"), kind, str(n), home], stdout=subprocess.PIPE, text=True, env=env, **kw)
    out, _ = p.communicate(timeout=120)
    equal(p.returncode, 0, f"bindload {kind}")
    return p.pid, [line.split(" ", 1) for line in out.splitlines()]


def rows(d, where, n):
    query = f"SELECT * FROM bind WHERE {where} AND comm = 'bindload' ORDER BY ts"  # ip binds, too
    got = wait_until(lambda: len(r := d.sql(query)) >= n and r, 20, f"{n} rows where {where}", 0.2)
    equal(len(got), n, f"rows where {where}")
    return got


def facts(got, *columns):
    return {tuple(r[c] for c in columns) for r in got}


def kinds(d, home):
    ports = list(range(10000, 10000 + N))
    what = ("family", "type", "transport", "protocol", "addr", "path", "bound_dev_if", "ephemeral", "error_raw", "error")
    # kind: the columns above, the ports (None: those that the workload says)
    cases = {
        "tcp": (("inet", "stream", "tcp", 6, "127.0.0.1", None, 0, True, 0, None), None),
        "udp6": (("inet6", "dgram", "udp", 17, "::1", None, 0, True, 0, None), None),
        "mapped": (("inet6", "stream", "tcp", 6, "127.0.0.7", None, 0, False, 0, None), ports),
        "wildcard": (("inet6", "stream", "tcp", 6, "::", None, 0, False, 0, None), ports),
        "device": (("inet", "dgram", "udp", 17, "127.0.0.1", None, 1, False, 0, None), ports),
        "inuse": (("inet", "dgram", "udp", 17, "127.0.0.1", None, 0, False, 98, "EADDRINUSE"), [9999] * N),
        "foreign": (("inet", "stream", "tcp", 6, "192.0.2.1", None, 0, False, 99, "EADDRNOTAVAIL"), ports),
        "foreign_mapped": (("inet6", "stream", "tcp", 6, "192.0.2.1", None, 0, False, 99, "EADDRNOTAVAIL"), ports),
        "untouched": (("inet", "stream", "tcp", 6, "192.0.2.1", None, 0, False, 99, "EADDRNOTAVAIL"), ports),
        "file": ((None, None, None, 0, "127.0.0.1", None, 0, False, 88, "ENOTSOCK"), ports),
        "closed": ((None, None, None, 0, "127.0.0.1", None, 0, False, 9, "EBADF"), ports),
    }
    for kind, (want, numbers) in cases.items():
        began = time.time_ns()
        pid, said = load(kind, home)
        ended = time.time_ns()
        if kind == "inuse":  # one that holds the port
            got = [r for r in rows(d, f"pid = {pid}", N + 1) if r["error_raw"]]
        else:
            got = rows(d, f"pid = {pid}", N)
        equal(facts(got, *what), {want}, kind)
        equal([r["port"] for r in got], numbers or [int(v) for k, v in said if k == "port"], f"{kind}: ports")
        equal(facts(got, "pid", "tid", "comm", "ppid", "uid", "gid", "sample_rate"), {(pid, pid, "bindload", os.getpid(), 0, 0, 1)}, f"{kind}: process")
        inode = os.stat(f"/run/netns/{NS}").st_ino
        equal(facts(got, "netns"), {(None if want[0] is None else inode,)}, f"{kind}: network namespace")
        true(all(began <= r["ts"] <= ended and 0 < r["duration"] < ended - began for r in got), f"{kind}: times")
        if kind == "closed":
            equal(facts(got, "fd"), {(9999,)}, "descriptor")
    pid, _ = load("raw", home)
    got = rows(d, f"pid = {pid}", N)
    equal(facts(got, "family", "type", "transport", "protocol", "addr", "port", "error_raw"), {("inet", "raw", "raw", 253, "127.0.0.1", None, 0)}, "raw")


def others(d, home):
    """Families that aren't IP."""
    what = ("family", "type", "transport", "addr", "port", "error_raw", "error")
    long = os.path.join(home, "d" * (107 - len(home) - 2 - 4))  # the longest that have room for a NUL
    os.mkdir(long)
    pid, _ = load("unix", long)
    got = rows(d, f"pid = {pid}", N)
    equal(facts(got, *what), {("unix", "stream", None, None, None, 0, None)}, "unix")
    equal([r["path"] for r in got], [f"{long}/{i}" for i in range(N)], "paths")
    pid, _ = load("abstract", home)
    equal([r["path"] for r in rows(d, f"pid = {pid}", N)], [f"@rs-bind-{i}" for i in range(N)], "abstract names")
    pid, said = load("autobind", home)
    equal([r["path"] for r in rows(d, f"pid = {pid}", N)], ["@" + v for _, v in said], "names that the kernel chose")
    pid, _ = load("netlink", home)
    got = rows(d, f"pid = {pid}", N)
    equal(facts(got, *what, "protocol"), {("netlink", "raw", None, None, None, 0, None, 0)}, "netlink")
    equal([r["path"] for r in got], [f"pid {70000 + i} groups 0x1" for i in range(N)], "netlink addresses")
    pid, _ = load("missing_dir", home)
    got = rows(d, f"pid = {pid}", N)
    equal(facts(got, *what), {("unix", "stream", None, None, None, 2, "ENOENT")}, "no such directory")
    equal([r["path"] for r in got], [f"/no/such/{i}" for i in range(N)], "paths that failed")
    pid, _ = load("short", home)
    got = rows(d, f"pid = {pid}", 2 * N)
    equal(sorted(facts(got, "family", "addr", "port", "path", "error")), [("inet", None, None, None, "EFAULT"), ("inet", None, None, None, "EINVAL")],
          "cut off and unreadable")


def who(d, home):
    """Another user, threads, a pid namespace."""
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    p = subprocess.Popen(["ip", "netns", "exec", NS, "setpriv", "--reuid=65534", "--regid=65533", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all",
                          workload("bindload"), "privileged", "53", home], env=env)
    equal(p.wait(60), 0, "privileged")
    got = rows(d, f"pid = {p.pid}", 53)
    equal(facts(got, "uid", "gid", "addr", "port", "error"), {(65534, 65533, "127.0.0.1", 80, "EACCES")}, "another user")
    pid, said = load("threads", home)
    got = rows(d, f"pid = {pid}", 4 * N)
    for tid in [int(v) for k, v in said if k == "tid"]:
        equal(len([r for r in got if r["tid"] == tid]), N, f"thread {tid}")
    equal(sorted(r["port"] for r in got), sorted(int(v) for k, v in said if k == "port"), "ports of threads")
    p = subprocess.Popen(["ip", "netns", "exec", NS, "unshare", "--pid", "--fork", workload("bindload"), "tcp", "53", home], env=env, stdout=subprocess.DEVNULL)
    equal(p.wait(60), 0, "pid namespace")
    got = rows(d, f"ppid = {p.pid}", 53)
    true(all(r["pid"] > 1 and r["pidns_id"] != os.stat("/proc/self/ns/pid").st_ino for r in got), "pid namespace")


def filters(d, home):
    for options, n in (({"comms": "bindload"}, 53), ({"comms": "other"}, 0), ({"exclude_comms": "bindload"}, 0), ({"uids": "65534"}, 0),
                       ({"exclude_uids": "65534"}, 53)):
        clear = {k: "" for k in ("comms", "exclude_comms", "uids", "exclude_uids")}
        d.cli("plugin", "set", "bind", *(f"{k}={v}" for k, v in {**clear, **options}.items()))
        before = d.plugin("bind")["filtered"]
        pid, _ = load("tcp", home, 53)
        if n:
            rows(d, f"pid = {pid}", n)
        else:
            wait_until(lambda: d.plugin("bind")["filtered"] >= before + 53, 10, "filtered")
            equal(d.one(f"SELECT count(*) FROM bind WHERE pid = {pid} AND comm = 'bindload'"), 0, str(options))
    d.cli("plugin", "set", "bind", *(f"{k}=" for k in clear))


def loss(home):
    """A ring for a few hundred events that nobody reads: each one is a row or is counted."""
    with Daemon() as d:
        d.enable("bind", "ring_size=64KiB", "comms=bindload")
        d.process.send_signal(signal.SIGSTOP)
        try:
            pid, _ = load("tcp", home)
        finally:
            d.process.send_signal(signal.SIGCONT)
        lost = wait_until(lambda: d.plugin("bind")["kernel_drops"], 10, "kernel_drops")
        true(0 < lost < N, f"{lost} lost")
        rows(d, f"pid = {pid}", N - lost)
        wait_until(lambda: d.one("SELECT sum(lost) FROM loss WHERE plugin = 'bind'") == lost, 5, "the loss in its table")


def main():
    need_root()
    need_programs("ip", "setpriv", "unshare")
    home = os.path.realpath(tempfile.mkdtemp(prefix="ringside-bind-"))
    os.chmod(home, 0o755)
    try:
        with netns(NS):
            with Daemon() as d:
                d.enable("bind", "ring_size=4MiB")
                kinds(d, home)
                others(d, home)
                who(d, home)
                filters(d, home)
                plugin = d.plugin("bind")
                equal((plugin["kernel_drops"], plugin["decode_errors"], plugin["rows_dropped"], plugin["missed_runs"]), (0, 0, 0, 0), "losses")
            loss(home)
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
