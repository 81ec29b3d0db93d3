#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Each limit exceeded on purpose by real work: the exit code, the reason left behind, and a ring that can be read on."""

import glob
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ringside as t  # noqa: E402

# A statement that computes for as long as it is let.
ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
RESOURCES = {"cpu": 81, "mem": 82, "net": 83}


class Storm:
    """Runs a command line again and again in some threads until it is stopped; what becomes of it doesn't matter."""

    def __init__(self, n, *argv):
        self.argv, self.ended = argv, threading.Event()
        self.threads = [threading.Thread(target=self.work) for _ in range(n)]

    def work(self):
        while not self.ended.is_set():
            p = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while p.poll() is None and not self.ended.wait(0.05):
                pass
            if p.poll() is None:
                p.kill()
                p.wait()
            self.ended.wait(0.02)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()


def check_end(d, resource, limit, scope=None, timeout=60):
    """The daemon ends by itself, in order, and says why in each of the places."""
    code = RESOURCES[resource]
    start = time.monotonic()
    t.equal(d.wait(timeout), code, f"exit code; log:\n{d.log()}")
    took = time.monotonic() - start
    t.true(not os.path.exists(d.socket), "the socket is gone")

    with open(os.path.join(d.state, "last_exit.json")) as f:
        why = json.load(f)
    t.equal((why["exit_code"], why["metric"], why["limit"]), (code, resource, limit), "last_exit.json")
    t.equal(why["unit"], {"cpu": "millicores", "mem": "bytes", "net": "bytes/s"}[resource], "unit")
    # A quota may have held cpu just below.
    t.true(why["value"] >= limit * (0.5 if resource == "cpu" else 1), f"value {why['value']} against {limit}")
    t.true(abs(time.time() - why["ts"] / 1e9) < 60, "time of the reason")
    t.equal(why["levels"][-1]["level"], "exit", "last level")
    t.contains(why["reason"], f"{resource}_limit", "reason")
    t.contains(why["reason"], f"exit {code}", "reason")
    t.equal(d.log().count(why["reason"]), 1, "the reason in the log")
    if scope == "nic":
        t.contains(why["reason"], "on lo", "reason")
    check_ring(d, resource, code, limit, why)
    print(f"{resource}{' ' + scope if scope else ''}: ended within {took:.1f} s: {why['reason']}")


def check_ring(d, resource, code, limit, why):
    files = glob.glob(os.path.join(d.state, "ring", "*.db"))
    t.true(files, "no segment is there")
    for path in files:
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        t.equal(db.execute("PRAGMA quick_check").fetchone()[0], "ok", path)
        db.close()
    # The next daemon, without the limit, tells it all.
    with open(d.config_path, "w"):
        pass
    d.flags = []
    d.start()
    rows = d.sql("SELECT * FROM governor_decisions WHERE to_state = 'exit'")
    t.equal(len(rows), 1, "audit rows of the exit")
    row = rows[0]
    t.equal((row["resource"], row["limit_value"], row["value"], row["message"]),
            (resource, limit, why["value"], why["reason"]), "audit row")
    t.contains(d.cli("status"), f"exit {code}", "status after the restart")


def check_cpu():
    """Queries that compute without end, in their worker processes: all of it is our bill."""
    with t.Daemon('cpu_limit = "0.05"\nlimit_action = "exit"\n') as d:
        with Storm(3, t.CLI, "--socket", d.socket, "sql", ENDLESS):
            check_end(d, "cpu", 50)


def check_cpu_shed():
    """The default action: two steps down that give nothing back, then out."""
    with t.Daemon('cpu_limit = "0.05"\n') as d:
        with Storm(3, t.CLI, "--socket", d.socket, "sql", ENDLESS):
            check_end(d, "cpu", 50)
        steps = [r["to_state"] for r in d.sql("SELECT to_state FROM governor_decisions ORDER BY ts")]
        t.true(steps[-3:] == ["sample", "disable", "exit"], f"steps {steps}")


def check_mem():
    """A plugin's ring buffer: the kernel's memory, charged to us."""
    with t.Daemon('limit_action = "exit"\n') as d:
        if d.plugin("netflow")["state"] == "unsupported":
            print("netflow can't run here, mem by a tiny limit instead")
            d.cli("limits", "set", "mem_limit=1MiB")
            return check_end(d, "mem", 1 << 20)
        time.sleep(2.5)  # a limit set in the grace wouldn't act at once
        usage = d.one("SELECT usage FROM governor WHERE resource = 'mem'")
        # Less than the ring, and with it and what loading a plugin takes for a moment (30 MiB with sanitizers) not
        # yet the 64 MiB above, where the kernel ends us without a word.
        limit = (usage + (24 << 20)) >> 20 << 20
        d.cli("limits", "set", f"mem_limit={limit}")
        time.sleep(2)
        t.true(d.process.poll() is None, f"ended by {usage} bytes below the limit {limit}")
        try:
            d.cli("plugin", "enable", "netflow", "ring_size=32MiB")
        except t.CliError as e:
            # The daemon may be gone before it can answer.
            t.true("limit" in d.log() and "exit 82" in d.log(), str(e))
        return check_end(d, "mem", limit)


def certificates(where):
    """A CA and one certificate for both ends."""
    run = lambda *argv: t.run(*argv, cwd=where)  # noqa: E731
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key",
        "-out", "ca.pem", "-subj", "/CN=test ca", "-days", "2")
    with open(os.path.join(where, "ext"), "w") as f:
        f.write("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name in ("server", "client"):
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key",
            "-out", f"{name}.csr", "-subj", f"/CN={name}")
        run("openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-out", f"{name}.pem", "-extfile", "ext")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def check_net_self():
    """Rows streamed over mutual TLS."""
    t.need_programs("openssl")
    d = t.Daemon()
    certificates(d.dir)
    address = f"127.0.0.1:{free_port()}"
    with open(d.config_path, "w") as f:
        f.write(f'net_limit = "100KiB/s"\nlimit_action = "exit"\n[api]\nlisten = "{address}"\n' +
                "".join(f'tls_{key} = "{d.dir}/{file}"\n' for key, file in
                        (("ca", "ca.pem"), ("cert", "server.pem"), ("key", "server.key"))))
    with d:
        time.sleep(2.5)
        if d.one("SELECT usage FROM governor WHERE resource = 'net'") is None:
            print("net self: our own traffic can't be counted here:", d.cli("limits").strip())
            return
        # Through the unix socket it isn't network traffic.
        rows = ("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 100000) "
                "SELECT x, hex(x * 1000000007) FROM c")
        end = time.monotonic() + 4
        while time.monotonic() < end:
            d.cli("-o", "tsv", "sql", rows)
        t.true(d.process.poll() is None, "ended by traffic on a unix socket")
        with Storm(1, t.CLI, "--address", address, "--tls-ca", f"{d.dir}/ca.pem", "--tls-cert", f"{d.dir}/client.pem",
                   "--tls-key", f"{d.dir}/client.key", "-o", "tsv", "sql", rows):
            check_end(d, "net", 100 << 10, "self")


def check_net_nic(ns):
    """Somebody else's transfer over an interface of the namespace."""
    config = 'net_limit = "1MiB/s"\nnet_limit_scope = "nic"\nlimit_action = "exit"\n'
    load = ("21500", "4", "60000000", "0", "0")
    with t.Daemon(config, netns=ns) as d:
        time.sleep(3.2)
        t.true(d.process.poll() is None, "ended on an idle interface")
        # 240 MB, far above the limit for as long as it takes; more rounds in case this machine is quick.
        for _ in range(20):
            if d.process.poll() is not None:
                break
            argv = ["ip", "netns", "exec", ns, t.workload("tcpload")]
            server = subprocess.Popen([*argv, "server", "plain", "127.0.0.1", *load], stdout=subprocess.PIPE, text=True)
            t.equal(server.stdout.readline().strip(), "ready", "server")
            t.run(*argv, "client", "plain", "127.0.0.1", *load)
            server.stdout.read()
            t.equal(server.wait(30), 0, "server")
        check_end(d, "net", 1 << 20, "nic")


def check_report():
    """Told, not done."""
    with t.Daemon('mem_limit = "1MiB"\nlimit_action = "report"\n') as d:
        row = d.wait_sql("SELECT * FROM governor_decisions", 20)[0]
        t.equal((row["to_state"], row["resource"], bool(row["breach"])), ("ok", "mem", True), "audit row")
        time.sleep(3)
        t.equal(d.one("SELECT count(*) FROM governor_decisions"), 1, "one row a breach")
        t.true(not os.path.exists(os.path.join(d.state, "last_exit.json")), "no exit, no reason for one")


def memory_tree():
    """Mount point of the tree with the memory controller, our group in it, and the file of its limit."""
    with open("/proc/self/mountinfo") as f:
        mounts = [line.split(" - ") for line in f]
    with open("/proc/self/cgroup") as f:
        ours = [line.rstrip("\n").split(":", 2) for line in f]
    for left, right in mounts:
        kind, _, opts = right.split(" ", 2)
        point = left.split(" ")[4]
        if kind == "cgroup" and "memory" in opts.strip().split(","):
            return point, next(path for _, names, path in ours if "memory" in names.split(",")), "memory.limit_in_bytes"
        if kind == "cgroup2" and os.path.exists(f"{point}/cgroup.controllers"):
            with open(f"{point}/cgroup.subtree_control") as f:
                if "memory" in f.read().split():
                    return point, next(path for _, names, path in ours if not names), "memory.max"
    return None


def put(path, text):
    with open(path, "w") as f:
        f.write(str(text))


def check_ceiling():
    """A group above ours allows less than mem_limit: then that holds, less a sixteenth; and what it is changed to."""
    tree = memory_tree()
    if not tree:
        print("ceiling: no memory controller for groups of ours here")
        return
    point, home, file = tree
    group = f"{point}/rs-ceiling-{os.getpid()}"
    os.mkdir(group)
    try:
        put(f"{group}/{file}", 320 << 20)
        put(f"{group}/cgroup.procs", os.getpid())
        try:
            with t.Daemon('mem_limit = "1GiB"\nlimit_action = "report"\n') as d:
                limit = "SELECT limit_value FROM governor WHERE resource = 'mem'"
                t.equal(d.one(limit), 300 << 20, "the least of both")
                t.contains(d.log(), f"{group} allows 320MiB of memory", "said so")
                put(f"{group}/{file}", 160 << 20)
                d.wait_sql(f"SELECT 1 FROM governor WHERE resource = 'mem' AND limit_value = {150 << 20}", 20)
                d.cli("limits", "set", "mem_limit=64MiB")
                t.equal(d.one(limit), 64 << 20, "ours is less")
                d.cli("limits", "set", "mem_limit=")
                t.equal(d.one(limit), 150 << 20, "theirs holds without ours, too")
        finally:
            put(f"{point}{home.rstrip('/')}/cgroup.procs", os.getpid())
    finally:
        os.rmdir(group)


def main():
    t.need_root()
    check_ceiling()
    check_report()
    check_mem()
    check_cpu()
    check_cpu_shed()
    check_net_self()
    ns = f"rs-governor-{os.getpid()}"
    with t.netns(ns):
        check_net_nic(ns)


if __name__ == "__main__":
    main()
