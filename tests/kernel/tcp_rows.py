#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""1,009 listens, accepts and connects of each kind are that many rows with both ends and what became of them; what is lost is counted."""
# timeout: 400
import collections
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
NS = "rs-tcp-a"


def start(kind, home, n, *argv):
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    return subprocess.Popen(["ip", "netns", "exec", NS, *argv, workload("connload"), kind, str(n), home], stdout=subprocess.PIPE, text=True, env=env)


def load(kind, home, n=N, *argv):
    """Runs the workload to its end; its pid and the numbers that it printed, by their names."""
    p = start(kind, home, n, *argv)
    out, _ = p.communicate(timeout=120)
    equal(p.returncode, 0, f"connload {kind}")
    said = collections.defaultdict(list)
    for line in out.splitlines():
        name, value = line.split()
        said[name].append(int(value))
    return p.pid, said


def rows(d, pid, **counts):
    """The rows of a process by event, when as many are there."""
    query = f"SELECT * FROM tcp WHERE pid = {pid} AND comm = 'connload' ORDER BY ts"
    n = sum(counts.values())
    got = wait_until(lambda: len(r := d.sql(query)) >= n and r, 20, f"{n} rows of {pid}", 0.2)
    by = collections.defaultdict(list)
    for r in got:
        by[r["event"]].append(r)
    equal({k: len(v) for k, v in by.items()}, {k: v for k, v in counts.items() if v}, "rows by event")
    return by


def facts(got, *columns):
    return {tuple(r[c] for c in columns) for r in got}


def pairs(d, home):
    """Both ends of connections, blocking."""
    for kind, family, here, there in (("v4", "inet", "127.0.0.1", "127.0.0.1"), ("v6", "inet6", "::1", "::1"),
                                      ("mapped", "inet6", "127.0.0.1", "::")):
        began = time.time_ns()
        pid, said = load(kind, home)
        ended = time.time_ns()
        by = rows(d, pid, listen=1, connect=N, accept=N)
        port = said["port"][0]
        equal(facts(by["listen"], "local_addr", "local_port", "backlog", "family", "transport", "error_raw", "remote_addr", "peer_addr", "new_fd"),
              {(there, port, 16, family, "tcp", 0, None, None, None)}, f"{kind}: listen")
        common = ("family", "type", "transport", "protocol", "error_raw", "error", "path", "backlog", "comm", "uid", "ppid", "tid", "netns", "sample_rate")
        want = (family, "stream", "tcp", 6, 0, None, None, None, "connload", 0, os.getpid(), pid, os.stat(f"/run/netns/{NS}").st_ino, 1)
        equal(facts(by["connect"] + by["accept"], *common), {want}, f"{kind}: rows")
        equal(facts(by["connect"], "remote_addr", "remote_port", "local_addr", "peer_addr", "peer_port", "new_fd"),
              {(here, port, here, None, None, None)}, f"{kind}: connect")
        equal([r["local_port"] for r in by["connect"]], said["local"], f"{kind}: ports of connect")
        equal(facts(by["accept"], "peer_addr", "local_addr", "local_port", "remote_addr", "remote_port", "fd"),
              {(here, here, port, None, None, by["listen"][0]["fd"])}, f"{kind}: accept")
        equal([r["peer_port"] for r in by["accept"]], said["local"], f"{kind}: ports of accept")
        true(all(r["new_fd"] > r["fd"] for r in by["accept"]), f"{kind}: descriptors")
        true(all(began <= r["ts"] <= ended and 0 < r["duration"] < ended - began for v in by.values() for r in v), f"{kind}: times")


def outcomes(d, home):
    """Connections that connect() doesn't wait for, and those that fail."""
    ends = ("remote_addr", "remote_port", "error", "family")
    pid, said = load("refused", home)
    equal(facts(rows(d, pid, connect=N)["connect"], *ends), {("127.0.0.1", 9, "ECONNREFUSED", "inet")}, "refused")
    pid, said = load("nonblock", home)
    by = rows(d, pid, listen=1, connect=N, accept=N, connected=N)
    port = said["port"][0]
    equal(facts(by["connect"], *ends, "local_addr"), {("127.0.0.1", port, "EINPROGRESS", "inet", "127.0.0.1")}, "in progress")
    equal(facts(by["connected"], *ends, "local_addr"), {("127.0.0.1", port, None, "inet", "127.0.0.1")}, "connected")
    equal([r["local_port"] for r in by["connected"]], said["local"], "ports of connected")
    equal([(r["fd"], r["pid"], r["tid"]) for r in by["connected"]], [(r["fd"], r["pid"], r["tid"]) for r in by["connect"]], "owners")
    true(all(a["ts"] < b["ts"] for a, b in zip(by["connect"], by["connected"])), "order")
    pid, said = load("nonblock_refused", home)
    by = rows(d, pid, connect=N, connect_failed=N)
    equal(facts(by["connect"], *ends), {("127.0.0.1", 9, "EINPROGRESS", "inet")}, "in progress")
    equal(facts(by["connect_failed"], *ends), {("127.0.0.1", 9, "ECONNREFUSED", "inet")}, "refused later")
    pid, said = load("late", home, 7)
    by = rows(d, pid, listen=2, connect=8, connected=7, accept=8)
    equal([r["local_port"] for r in sorted(by["connected"], key=lambda r: r["local_port"])], sorted(said["late"]), "late ones")
    equal(facts(by["connected"], "pid", "tid", "comm", "uid", "remote_port", "error_raw"), {(pid, pid, "connload", 0, said["port"][0], 0)}, "late owners")
    true(all(0.5e9 < r["duration"] < 20e9 for r in by["connected"]), "durations of late ones")
    pid, said = load("abandoned", home, 53)
    by = rows(d, pid, listen=1, connect=54, connect_failed=53)
    equal(facts(by["connect_failed"], "error_raw", "error", "pid"), {(0, None, pid)}, "closed before the answer")
    pid, said = load("fastopen", home, 53)
    by = rows(d, pid, listen=1, accept=53, connected=53)
    equal(facts(by["connected"], "fd", "remote_port", "remote_addr", "pid"), {(None, said["port"][0], "127.0.0.1", pid)}, "MSG_FASTOPEN")


def others(d, home):
    """Sockets that aren't TCP's, and what isn't a socket."""
    pid, _ = load("udp", home)
    got = rows(d, pid, connect=N)["connect"]
    equal(facts(got, "family", "type", "transport", "remote_addr", "error"), {("inet", "dgram", "udp", "127.0.0.1", None)}, "udp")
    equal([r["remote_port"] for r in got], list(range(10000, 10000 + N)), "udp ports")
    for kind, path in (("unix", f"{home}/socket"), ("abstract", "@rs-tcp-abstract")):
        pid, _ = load(kind, home)
        by = rows(d, pid, listen=1, connect=2 * N, accept=N)
        what = ("family", "type", "transport", "path", "remote_addr", "remote_port", "local_addr", "peer_addr", "error")
        equal(facts(by["listen"] + by["accept"] + by["connect"][:N], *what),
              {("unix", "stream", None, path, None, None, None, None, None)}, kind)
        equal(facts(by["connect"][N:], *what), {("unix", "stream", None, path, None, None, None, None, "ECONNREFUSED")}, f"{kind}: refused")
    pid, said = load("failures", home)
    by = rows(d, pid, listen=1 + 2 * N, accept=4 * N, connect=2 * N)
    port, fd = said["port"][0], said["fd"][0]
    for event, want in (("accept", {("EAGAIN", "inet", fd, port): N, ("ENOTSOCK", None, fd + 1, None): N, ("EBADF", None, 9999, None): N,
                                    ("EINVAL", "inet", fd + 2, None): N}),
                        ("listen", {(None, "inet", fd, port): 1, ("EOPNOTSUPP", "inet", fd + 3, None): N, ("EBADF", None, 9999, None): N}),
                        ("connect", {("ENOTSOCK", None, fd + 1, None): N, ("EFAULT", "inet", fd + 2, None): N})):
        equal(dict(collections.Counter((r["error"], r["family"], r["fd"], r["local_port"]) for r in by[event])), want, f"{event}s that fail")
    equal(facts(by["accept"], "peer_addr", "peer_port", "new_fd", "remote_addr"), {(None, None, None, None)}, "nothing stale")
    equal([r["backlog"] for r in by["listen"] if r["fd"] == 9999], list(range(N)), "backlogs")
    pid, said = load("listen", home)
    got = rows(d, pid, listen=N)["listen"]
    equal([(r["backlog"], r["local_port"]) for r in got], list(enumerate(said["port"])), "listens that choose a port")
    equal(facts(got, "local_addr", "family"), {("::", "inet6")}, "their address")


def who(d, home):
    pid, said = load("threads", home)
    by = rows(d, pid, listen=1, connect=4 * N, accept=4 * N)
    counted = collections.Counter(r["tid"] for r in by["accept"])
    equal(dict(counted), {tid: N for tid in said["tid"]}, "accepts by thread")
    p = start("refused", home, 53, "setpriv", "--reuid=65534", "--regid=65533", "--clear-groups")
    p.communicate(timeout=60)
    equal(facts(rows(d, p.pid, connect=53)["connect"], "uid", "gid"), {(65534, 65533)}, "another user")
    # One that waits in accept() before the plugin runs.
    code = "import socket\ns = socket.create_server(('127.0.0.1', 0))\nprint(s.getsockname()[1], flush=True)\ns.accept()"
    d.cli("plugin", "disable", "tcp")
    p = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    port = int(p.stdout.readline())
    time.sleep(0.3)
    d.cli("plugin", "enable", "tcp")
    c = subprocess.Popen([sys.executable, "-c", f"import socket; socket.create_connection(('127.0.0.1', {port})).close()"])
    c.wait(20)
    p.communicate(timeout=20)
    got = d.wait_sql(f"SELECT * FROM tcp WHERE pid = {p.pid} AND event = 'accept'")
    equal(facts(got, "fd", "duration", "local_port", "peer_addr", "error"), {(None, None, port, "127.0.0.1", None)}, "began before us")


def options(d, home):
    for options, want in ((("tcp_only=true",), {}), (("comms=other",), {}), (("exclude_comms=connload",), {}), (("comms=connload",), {"connect": 53})):
        d.cli("plugin", "set", "tcp", "tcp_only=false", "comms=", "exclude_comms=")
        d.cli("plugin", "set", "tcp", *options)
        before = d.plugin("tcp")["filtered"]
        pid, _ = load("udp", home, 53)
        if want:
            rows(d, pid, **want)
            continue
        wait_until(lambda: d.plugin("tcp")["filtered"] >= before + 53, 10, "filtered")
        equal(d.one(f"SELECT count(*) FROM tcp WHERE pid = {pid} AND comm = 'connload'"), 0, str(options))
    d.cli("plugin", "set", "tcp", "tcp_only=true", "comms=", "exclude_comms=")
    pid, _ = load("nonblock_refused", home, 53)
    rows(d, pid, connect=53, connect_failed=53)
    d.cli("plugin", "set", "tcp", "tcp_only=false", "would_block=false")
    pid, _ = load("failures", home, 53)
    rows(d, pid, listen=107, accept=3 * 53, connect=106)
    d.cli("plugin", "set", "tcp", "would_block=true", "exclude_comms=connload")
    # What is left out leaves its outcome out, too.
    pid, _ = load("nonblock", home, 53)
    time.sleep(0.5)
    equal(d.one(f"SELECT count(*) FROM tcp WHERE pid = {pid} AND comm = 'connload'"), 0, "outcomes of what is left out")
    d.cli("plugin", "set", "tcp", "exclude_comms=")


def loss(home):
    """A ring for a few hundred events that nobody reads: each one is a row or is counted."""
    with Daemon() as d:
        d.enable("tcp", "ring_size=64KiB", "comms=connload")
        d.process.send_signal(signal.SIGSTOP)
        try:
            pid, _ = load("nonblock", home)
        finally:
            d.process.send_signal(signal.SIGCONT)
        lost = wait_until(lambda: d.plugin("tcp")["kernel_drops"], 10, "kernel_drops")
        total = 3 * N + 1
        true(0 < lost < total, f"{lost} lost")
        wait_until(lambda: d.one(f"SELECT count(*) FROM tcp WHERE pid = {pid} AND comm = 'connload'") == total - lost, 10, "the others")
        wait_until(lambda: d.one("SELECT sum(lost) FROM loss WHERE plugin = 'tcp'") == lost, 5, "the loss in its table")


def main():
    need_root()
    need_programs("ip", "setpriv")
    home = os.path.realpath(tempfile.mkdtemp(prefix="ringside-tcp-"))
    os.chmod(home, 0o755)
    try:
        with netns(NS):
            with Daemon() as d:
                d.enable("tcp", "ring_size=4MiB")
                for part in (pairs, outcomes, others, options):
                    part(d, home)
                    shutil.rmtree(home)
                    os.mkdir(home, 0o755)
                plugin = d.plugin("tcp")
                equal((plugin["kernel_drops"], plugin["decode_errors"], plugin["rows_dropped"], plugin["missed_runs"]), (0, 0, 0, 0), "losses")
                who(d, home)
            loss(home)
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
