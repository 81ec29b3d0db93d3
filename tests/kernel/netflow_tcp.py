#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""499 TCP connections in namespaces of their own: every one counted, every byte, the owner right on both ends."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ringside as t  # noqa: E402

A, B = "rs-netflow-tcp-a", "rs-netflow-tcp-b"
FIRST = 1000  # what a client in mode hold sends before the daemon starts
CLOSED_PORT, REFUSED = 21099, 11


class Case:
    """n connections from A to one port of B."""

    def __init__(self, name, port, n, up, down, step, server="plain", client="plain", addr=None, family="IPv4"):
        self.name, self.port, self.n, self.up, self.down, self.step = name, port, n, up, down, step
        self.server_mode, self.client_mode, self.addr, self.family = server, client, addr, family
        self.old = client == "hold"
        self.owners = {"incoming": set(), "outgoing": set()}

    def args(self, mode):
        return [mode, self.addr, str(self.port), str(self.n), str(self.up), str(self.down), str(self.step)]

    def spawn(self, ns, role, mode):
        argv = ["ip", "netns", "exec", ns, t.workload("tcpload"), role, *self.args(mode)]
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start_server(self):
        self.server = self.spawn(B, "server", self.server_mode)
        line = self.server.stdout.readline().strip()
        if line.startswith("skip"):
            self.server.wait()
            print(f"{self.name}: {line[5:]}; plain calls instead")
            self.server_mode = "plain"
            return self.start_server()
        t.equal(line, "ready", f"{self.name}: server")
        return None

    def start_client(self):
        self.client = self.spawn(A, "client", self.client_mode)

    def wait_open(self):
        while (line := self.client.stdout.readline().strip()) != "open":
            t.true(line, f"{self.name}: client ended early")
            self.owners["outgoing"].add(int(line.split()[1]))

    def finish(self):
        for side, p in (("outgoing", self.client), ("incoming", self.server)):
            if self.old and p is self.client:
                p.stdin.write("go\n")
                p.stdin.flush()
            # Not communicate(): it would miss what readline() has read ahead. The workload ends itself.
            self.owners[side] |= {int(line.split()[1]) for line in p.stdout if line.startswith("owner")}
            t.equal(p.wait(), 0, f"{self.name}: {side}")

    def kill(self):
        for p in (getattr(self, "client", None), getattr(self, "server", None)):
            if p and p.poll() is None:
                p.kill()
                p.wait()

    def bytes_up(self):
        if not self.up:
            return 0
        return self.n * self.up + self.step * self.n * (self.n - 1) // 2 - (FIRST * self.n if self.old else 0)

    def bytes_down(self):
        return self.n * self.down + self.step * self.n * (self.n - 1) // 2


def cases(addr4, addr6):
    mapped = f"::ffff:{addr4}"
    return [
        Case("IPv4", 21001, 101, 1111, 2222, 37, addr=addr4),
        Case("IPv6", 21002, 103, 3333, 44, 41, addr=addr6, family="IPv6"),
        Case("forked server", 21003, 53, 700, 90000, 13, server="fork", addr=addr4),
        Case("sendfile", 21004, 61, 10, 300000, 1009, server="sendfile", addr=addr4),
        Case("io_uring", 21005, 59, 50000, 50000, 17, server="uring", addr=addr6, family="IPv6"),
        Case("older than the daemon", 21006, 7, 5000, 6000, 7, server="fork", client="hold", addr=addr4),
        Case("loss on the way", 21007, 5, 400000, 10, 0, addr=addr4),
        Case("refused by the own firewall", 21008, 3, 300000, 10, 0, addr=addr6, family="IPv6"),
        Case("server that never reads", 21009, 94, 0, 4321, 3, server="push", addr=addr6, family="IPv6"),
        Case("v4-mapped", 21010, 13, 808, 909, 5, addr=mapped),
    ]


def drop(ns, hook, port):
    """2% of the segments to that port, as two different places of the stack see it."""
    t.run("ip", "netns", "exec", ns, "nft", "-f", "-", input=f"""
        table inet loss {{
            chain c {{
                type filter hook {hook} priority 0
                tcp dport {port} numgen random mod 100 < 2 drop
            }}
        }}
        """)


def refused_connects(addr):
    code = (f"import socket\nfor i in range({REFUSED}):\n  s = socket.socket()\n"
            f"  assert s.connect_ex(('{addr}', {CLOSED_PORT}))\n  s.close()")
    t.run("ip", "netns", "exec", A, sys.executable, "-c", code)


def netns_inode(ns):
    return os.stat(f"/run/netns/{ns}").st_ino


def rows_of(d, case, side):
    port = "dst_port" if side == "outgoing" else "src_port"
    return d.sql(f"""SELECT pid, process_name, family, transport, netns, src_ip_type, dst_ip_type, max(rtt) AS rtt,
        sum(bytes_read) AS rx, sum(bytes_written) AS tx, sum(packets_read) AS packets_in, sum(packets_written) AS packets_out,
        sum(retransmits) AS retransmits, sum(tcp_established) AS established, sum(tcp_closed) AS closed,
        sum(connect_failures) AS failures FROM netflow WHERE direction = '{side}' AND {port} = {case.port}
        AND transport = 'tcp' AND netns = {netns_inode(A if side == 'outgoing' else B)} GROUP BY pid, process_name, family, netns""")


def check(d, case, side):
    rows, what = rows_of(d, case, side), f"{case.name}, {side}"

    def total(key):
        return sum(r[key] for r in rows)

    t.equal({r["pid"] for r in rows}, case.owners[side], f"{what}: owners")
    t.equal({(r["process_name"], r["family"]) for r in rows}, {("tcpload", case.family)}, f"{what}: names")
    t.equal((total("established"), total("closed"), total("failures")), (case.n, case.n, 0), f"{what}: connections")
    up, down = case.bytes_up(), case.bytes_down()
    t.equal((total("tx"), total("rx")), (up, down) if side == "outgoing" else (down, up), f"{what}: bytes written, read")
    t.true(all(r["packets_in"] > 0 and r["packets_out"] > 0 and r["rtt"] > 0 for r in rows), f"{what}: packets, rtt in {rows}")
    if case.server_mode == "fork" and side == "incoming":
        t.equal({r["established"] for r in rows}, {1}, f"{what}: one connection a child")
    t.equal({r["src_ip_type"] for r in rows}, {"private"}, f"{what}: src_ip_type")
    return total("retransmits")


def check_live(d, case):
    """The connections that are open now, with what they carried and where they belong."""
    rows = d.sql(f"""SELECT pid, direction, state, src_port, dst_port, bytes_read, bytes_written, inode, opened_at, owner_confidence
        FROM connections WHERE transport = 'tcp' AND (src_port = {case.port} OR dst_port = {case.port})""")
    listening = [r for r in rows if r["state"] == "LISTEN"]
    out = [r for r in rows if r["direction"] == "outgoing"]
    accepted = [r for r in rows if r["direction"] == "incoming" and r["state"] == "ESTABLISHED"]
    t.equal((len(listening), len(out), len(accepted)), (1, case.n, case.n), f"{case.name}: live sockets")
    t.equal({r["pid"] for r in out}, case.owners["outgoing"], f"{case.name}: live owner of the clients")
    t.equal({r["bytes_written"] for r in out} | {r["bytes_read"] for r in accepted}, {FIRST}, f"{case.name}: live bytes")
    t.equal(len({r["pid"] for r in accepted}), case.n, f"{case.name}: a child for each accepted one")
    t.true(all(r["inode"] and not r["opened_at"] for r in out + accepted), f"{case.name}: inode and opened_at in {rows}")


def scene(owners, addr4, addr6):
    all_cases = cases(addr4, addr6)
    old = [c for c in all_cases if c.old]
    new = [c for c in all_cases if not c.old]
    t.equal(sum(c.n for c in all_cases), 499, "connections of this test")
    try:
        for c in old:
            c.start_server()
            c.start_client()
            c.wait_open()
        with t.Daemon() as d:
            d.enable("netflow", "interval=1s", f"owners={owners}")
            for c in old:
                check_live(d, c)
                c.finish()
            for c in new:
                c.start_server()
                c.start_client()
                c.finish()
            refused_connects(addr4)
            t.wait_until(lambda: d.one("SELECT coalesce(sum(tcp_closed + connect_failures), 0) FROM netflow WHERE"
                                       " src_port BETWEEN 21001 AND 21099 OR dst_port BETWEEN 21001 AND 21099") >= 2 * 499 + REFUSED,
                         20, "the last row")
            lost = {c.name: check(d, c, "outgoing") for c in all_cases}
            for c in all_cases:
                check(d, c, "incoming")
            t.true(lost["loss on the way"] > 0, f"retransmissions: {lost}")
            t.equal(d.one(f"SELECT sum(connect_failures) FROM netflow WHERE dst_port = {CLOSED_PORT}"), REFUSED, "refused connects")
            t.equal(d.one(f"SELECT sum(tcp_established) FROM netflow WHERE dst_port = {CLOSED_PORT}"), 0, "refused, established")
            t.equal(d.sql(f"SELECT pid FROM netflow WHERE pid = {d.pid}"), [], "rows of the daemon itself")
            t.equal(d.sql("SELECT dst_port FROM netflow WHERE transport = 'tcp' AND (src_ip_type = 'loopback' OR dst_ip_type = 'loopback')"),
                    [], "rows of loopback")
            print(f"owners={owners}: 499 connections exact; retransmissions {lost['loss on the way']}")
    finally:
        for c in all_cases:
            c.kill()


def main():
    t.need_root()
    t.need_programs("ip", "nft")
    with t.netns_pair(A, B, "10.99.71", "fd99:71") as (_, addr4):
        for ns in (A, B):
            t.run("ip", "-n", ns, "link", "set", "veth0", "gso_max_segs", "1")  # so that 2% of the segments are some
        drop(B, "input", 21007)
        drop(A, "output", 21008)
        for owners in ("storage", "hash"):
            scene(owners, addr4, "fd99:71::2")


main()
