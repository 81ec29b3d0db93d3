#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""ICMP, raw and (where the kernel has it) SCTP sockets in namespaces of their own: packets and bytes exact, the owner right."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ringside as t  # noqa: E402

A, B = "rs-netflow-oth-a", "rs-netflow-oth-b"
ROWS = "SELECT sum(bytes_written) AS tx, sum(bytes_read) AS rx, sum(packets_written) AS n_out, sum(packets_read) AS n_in FROM netflow"

PING = """
import os, socket, struct, sys
kind, addr, n, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
v6 = ":" in addr
family, proto = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if v6 else (socket.AF_INET, socket.IPPROTO_ICMP)
s = socket.socket(family, socket.SOCK_RAW if kind in ("raw", "fork") else socket.SOCK_DGRAM, proto)
s.settimeout(10)
if v6 and kind == "raw":
    # ICMP6_FILTER: echo replies (129) only, none of neighbour discovery.
    s.setsockopt(socket.IPPROTO_ICMPV6, 1, b"".join(struct.pack("=I", 0xffffffff ^ (2 if i == 4 else 0)) for i in range(8)))
if kind == "fork" and (pid := os.fork()):  # a daemon that goes to the background with its socket
    os._exit(0)
print("owner", os.getpid(), flush=True)
sys.stdin.readline()
def checksum(b):
    x = sum(struct.unpack("!%dH" % (len(b) // 2), b))
    while x >> 16: x = (x & 0xffff) + (x >> 16)
    return ~x & 0xffff
for i in range(n):
    body = b"p" * (size + 2 * i)
    head = struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, 4242, i)
    head = struct.pack("!BBHHH", 128 if v6 else 8, 0, 0 if v6 else checksum(head + body), 4242, i)
    s.sendto(head + body, (addr, 0))
    while True:
        got = s.recv(65536)
        if kind != "dgram" and not v6: got = got[20:]
        if got[0] == (129 if v6 else 0): break
"""

RAW = """
import os, socket, struct, sys
addr, proto, n, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
v6 = ":" in addr
s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_RAW, proto)
s.settimeout(10)
print("owner", os.getpid(), flush=True)
sys.stdin.readline()
if len(sys.argv) > 5:
    for i in range(n): s.recv(65536)
    sys.exit(0)
for i in range(n):
    s.sendto(b"r" * (size + i), (addr, 0))
"""

HDRINCL = """
import os, socket, struct, sys
addr, n, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
print("owner", os.getpid(), flush=True)
sys.stdin.readline()
for i in range(n):
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, 6, 0, bytes(4), socket.inet_aton(addr))
    s.sendto(ip + struct.pack("!HHLLBBHHH", 1234, 9, i, 0, 0x50, 2, 1024, 0, 0) + b"h" * size, (addr, 0))
"""


class Process:
    def __init__(self, ns, code, *args):
        self.p = subprocess.Popen(["ip", "netns", "exec", ns, sys.executable, "-c", code, *map(str, args)],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.p.stdout.readline()
        t.true(line.startswith("owner"), f"owner of {args}: {line!r}")
        self.owner = int(line.split()[1])

    def go(self):
        self.p.stdin.write("go\n")
        self.p.stdin.flush()

    def end(self):
        self.p.stdout.read()  # also of the child that outlives it
        t.equal(self.p.wait(), 0, "workload")

    def kill(self):
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait()
        self.p.stdin.close()
        self.p.stdout.close()


def total(n, size, step):
    return n * size + step * n * (n - 1) // 2


class Case:
    def __init__(self, name, transport, family, addr, process, tx, rx, peer=None, old=False):
        self.name, self.transport, self.family, self.addr, self.old = name, transport, family, addr, old
        self.make, self.tx, self.rx, self.make_peer = process, tx, rx, peer  # (packets, bytes)
        self.process = self.peer = None

    def start(self):
        self.peer = self.make_peer and Process(*self.make_peer)
        self.process = Process(*self.make)

    def finish(self):
        if self.peer:
            self.peer.go()
        self.process.go()
        for p in (self.process, self.peer):
            if p:
                p.end()

    def kill(self):
        for p in (self.process, self.peer):
            if p:
                p.kill()

    def check_one(self, d, process, what, tx, rx):
        query = f"{ROWS} WHERE pid = {process.owner} AND transport = '{self.transport}' AND family = '{self.family}'"
        want = [{"tx": tx[1], "rx": rx[1], "n_out": tx[0], "n_in": rx[0]}]
        try:
            t.wait_until(lambda: d.sql(query) == want, 8, what, 0.3)
        except AssertionError:
            rows = d.sql(f"SELECT pid, process_name, transport, src_ip, dst_ip, bytes_written, bytes_read, packets_written, packets_read FROM netflow WHERE"
                         f" transport NOT IN ('tcp', 'udp') AND pid = {process.owner}")
            raise AssertionError(f"{self.name}, {what}: want {want}, got {d.sql(query)} of {rows}") from None
        rows = d.sql(f"SELECT DISTINCT direction, src_port, dst_port, process_name LIKE 'python3%' AS named, netns FROM netflow WHERE"
                     f" pid = {process.owner} AND transport = '{self.transport}'")
        ns = os.stat(f"/run/netns/{B if process is self.peer else A}").st_ino
        t.equal(rows, [{"direction": "outgoing", "src_port": None, "dst_port": None, "named": 1, "netns": ns}], f"{self.name}, {what}: ends")

    def check(self, d):
        self.check_one(d, self.process, "sender", self.tx, self.rx)
        if self.peer:
            self.check_one(d, self.peer, "receiver", (0, 0), self.tx)


def cases(addr4, addr6):
    def ping(name, kind, addr, n, size, old=False):
        family = "IPv6" if ":" in addr else "IPv4"
        both = (n, total(n, size, 2))
        return Case(name, "icmp6" if family == "IPv6" else "icmp", family, addr, (A, PING, kind, addr, n, size), both, both, old=old)

    def raw(name, proto, addr, n, size):
        return Case(name, "raw", "IPv6" if ":" in addr else "IPv4", addr, (A, RAW, addr, proto, n, size), (n, total(n, size, 1)), (0, 0),
                    (B, RAW, addr, proto, n, size, "receive"))

    return [
        ping("raw ICMP", "raw", addr4, 37, 56),
        ping("raw ICMPv6", "raw", addr6, 41, 120),
        ping("ping socket", "dgram", addr4, 31, 64),
        ping("ping socket, IPv6", "dgram", addr6, 29, 64),
        ping("fragments", "raw", addr4, 5, 5000),
        ping("handed to a child", "fork", addr4, 13, 100),
        ping("older than the daemon", "dgram", addr4, 11, 400, old=True),
        raw("protocol 253", 253, addr4, 43, 11),
        raw("protocol 253, IPv6", 253, addr6, 47, 300),
        Case("a TCP header of its own", "raw", "IPv4", addr4, (A, HDRINCL, addr4, 23, 10), (23, 23 * 30), (0, 0)),
    ]


def check_live(d, case):
    rows = d.sql(f"SELECT transport, direction, state, src_port, dst_port, owner_confidence, inode FROM connections WHERE pid = {case.process.owner}")
    t.true(all(r.pop("inode") for r in rows), f"{case.name}: inode")
    t.equal(rows, [{"transport": case.transport, "direction": "outgoing", "state": "UNCONN", "src_port": None, "dst_port": None,
                    "owner_confidence": "fd" if case.old else "creator"}], f"{case.name}: live socket")


def main():
    t.need_root()
    t.need_programs("ip")
    with t.netns_pair(A, B, "10.99.73", "fd99:73") as (_, addr4):
        t.run("ip", "netns", "exec", A, "sysctl", "-qw", "net.ipv4.ping_group_range=0 0")
        all_cases = cases(addr4, "fd99:73::2")
        try:
            old = [c for c in all_cases if c.old]
            for c in old:
                c.start()
            with t.Daemon() as d:
                d.enable("netflow", "interval=1s")
                if "UDP is not seen" in (d.plugin("netflow")["reason"] or ""):
                    t.skip(d.plugin("netflow")["reason"])
                for c in all_cases:
                    if not c.old:
                        c.start()
                    if c.name in ("raw ICMP", "ping socket, IPv6", "protocol 253") or c.old:
                        check_live(d, c)
                    c.finish()
                for c in all_cases:
                    c.check(d)
                t.equal(d.sql("SELECT pid FROM netflow WHERE transport NOT IN ('tcp', 'udp') AND pid IS NULL"), [], "rows of nobody")
                t.equal(d.one("SELECT coalesce(sum(lost), 0) FROM loss WHERE plugin = 'netflow' AND stage = 'kernel_error'"), 0, "unread packets")
                d.cli("plugin", "disable", "netflow")
                d.enable("netflow", "interval=1s", "other=false")
                c = cases(addr4, "fd99:73::2")[0]
                all_cases.append(c)
                c.start()
                c.finish()
                d.cli("plugin", "disable", "netflow")
                t.equal(d.sql(f"SELECT pid FROM netflow WHERE pid = {c.process.owner}"), [], "rows with other=false")
                print(f"{sum(c.tx[0] for c in all_cases[:-1])} packets exact")
        finally:
            for c in all_cases:
                c.kill()


main()
