#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Several processes that listen on one port: whose a connection is that nobody ever reads, before the plugin and after, as they come and go."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ringside as t  # noqa: E402

A, B = "rs-netflow-lst-a", "rs-netflow-lst-b"
PORT, GREETING = 21511, 11
ANY_HOST = 3

# Accepts, writes, never reads; SO_REUSEPORT, so that "any" may listen beside the addresses. "close" on its input ends the listener alone.
SERVER = """
import select, socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
s.bind((sys.argv[1], int(sys.argv[2])))
s.listen(64)
print("ready", flush=True)
kept, files = [], [s, sys.stdin]
while files:
    for f in select.select(files, [], [])[0]:
        if f is s:
            kept.append(s.accept()[0])
            kept[-1].sendall(b"x" * int(sys.argv[3]))
        elif not (line := f.readline()):
            files = []
        else:
            files.remove(s)
            s.close()
            print("closed", flush=True)
"""

CLIENT = """
import socket, sys
addr, port, n, size = sys.argv[1], *map(int, sys.argv[2:])
kept = [socket.create_connection((addr, port)) for _ in range(n)]
for s in kept:
    left = size
    while left:
        left -= len(s.recv(left))
print("ready", flush=True)
sys.stdin.read()
"""


class Program:
    def __init__(self, ns, source, *args):
        self.p = subprocess.Popen(["ip", "netns", "exec", ns, sys.executable, "-c", source, *map(str, args)],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        t.equal(self.p.stdout.readline().strip(), "ready", f"program {args}")

    @property
    def pid(self):
        return self.p.pid

    def close_listener(self):
        self.p.stdin.write("close\n")
        self.p.stdin.flush()
        t.equal(self.p.stdout.readline().strip(), "closed", "listener")

    def end(self):
        self.p.stdin.close()
        self.p.wait()
        self.p.stdout.close()


class Scene:
    def __init__(self, d, net):
        self.d, self.net, self.programs, self.made = d, net, [], {}

    def start(self, *args):
        p = Program(*args)
        self.programs.append(p)
        return p

    def server(self, host):
        return self.start(B, SERVER, f"{self.net}.{host}" if host else "::", PORT, GREETING)

    def connect(self, host, n):
        self.start(A, CLIENT, f"{self.net}.{host}", PORT, n, GREETING)
        self.made[host] = self.made.get(host, 0) + n

    def owners(self, host):
        """{pid: connections} of that address's side."""
        rows = self.d.sql(f"SELECT pid, count(*) AS n FROM connections WHERE src_port = {PORT} AND src_ip = '{self.net}.{host}'"
                          " AND state = 'ESTABLISHED' GROUP BY pid")
        return {r["pid"]: r["n"] for r in rows}

    def check(self, host, want, what):
        t.wait_until(lambda: sum(self.owners(host).values()) >= self.made[host], 10, f"connections of .{host}")
        t.equal(self.owners(host), want, what)

    def rows(self, host):
        return {r["pid"]: (r["n"], r["bytes"]) for r in self.d.sql(
            f"SELECT pid, sum(tcp_established) AS n, sum(bytes_written) AS bytes FROM netflow WHERE src_port = {PORT}"
            f" AND src_ip = '{self.net}.{host}' GROUP BY pid")}


def scene(net, owners):
    with t.Daemon() as d:
        s = Scene(d, net)
        try:
            one = s.server(2)  # older than the plugin
            d.enable("netflow", "interval=1s", f"owners={owners}")
            two = s.server(ANY_HOST + 1)
            every = s.server(None)
            for host, n in ((2, 7), (ANY_HOST + 1, 5), (ANY_HOST, 3)):
                s.connect(host, n)
            s.check(2, {one.pid: 7}, "of the one that is older than the plugin")
            s.check(ANY_HOST + 1, {two.pid: 5}, "of the one with an address of its own")
            s.check(ANY_HOST, {every.pid: 3}, "of the one for any address")
            two.close_listener()
            s.connect(ANY_HOST + 1, 2)  # now the one for any address takes it
            s.check(ANY_HOST + 1, {two.pid: 5, every.pid: 2}, "after one has closed its listener")
            every.close_listener()
            s.connect(2, 13)
            s.check(2, {one.pid: 20}, "of the one that is left")
            t.wait_until(lambda: sum(n for n, _ in s.rows(2).values()) >= 20, 10, "rows")
            t.equal(s.rows(2), {one.pid: (20, 20 * GREETING)}, "rows of the one that is left")
            t.equal(s.rows(ANY_HOST), {every.pid: (3, 3 * GREETING)}, "rows of the one for any address")
        finally:
            for p in reversed(s.programs):
                p.end()


def main():
    t.need_root()
    t.need_programs("ip")
    net = "10.99.79"
    with t.netns_pair(A, B, net):
        for host in (ANY_HOST, ANY_HOST + 1):
            t.run("ip", "-n", B, "addr", "add", f"{net}.{host}/24", "dev", "veth0")
        for owners in ("hash", "storage"):
            scene(net, owners)


main()
