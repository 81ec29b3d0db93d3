#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Multicast DNS between two hosts: 167 queries from port 5353 and from others, over IPv4 and IPv6, answered to all, to one, or not at all."""

import os
import select
import socket
import struct
import subprocess
import sys
import time

LIB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib")
sys.path.insert(0, LIB)
import dns  # noqa: E402
import dnsserver as wire  # noqa: E402
import ringside as t  # noqa: E402

A, B = "rs-dns-mdns-a", "rs-dns-mdns-b"
PORT, GROUPS = 5353, {4: "224.0.0.251", 6: "ff02::fb"}
UNICAST, PTR = 0x8000, 12


def open_socket(family, port):
    """Sends to the group from that port; 5353: hears it, too."""
    s = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    index = socket.if_nametoindex("veth0")
    if family == 4:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", bytes(4), bytes(4), index))
        join = (socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("=4s4si", socket.inet_aton(GROUPS[4]), bytes(4), index))
    else:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        join = (socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, GROUPS[6]) + struct.pack("=i", index))
    s.bind(("" if family == 4 else "::", port))
    if port == PORT:
        s.setsockopt(*join)
    return s


def respond():
    """Names "quiet-..." have no answer; "tell-..." is told to all, before anybody asks."""
    sockets = {open_socket(f, PORT): f for f in GROUPS}
    print("ready", flush=True)
    for s, f in sockets.items():
        body = wire.record(wire.name_wire("tell-1.local"), wire.A, 120, wire.address(wire.A, 1))
        s.sendto(struct.pack(">HHHHHH", 0, 0x8400, 0, 1, 0, 0) + body, (GROUPS[f], PORT))
    while True:
        for s in select.select(list(sockets), [], [])[0]:
            query, peer = s.recvfrom(4096)
            if query[2] & 0x80:
                continue
            name, pos = wire.read_name(query, 12)
            kind, cls = struct.unpack(">HH", query[pos:pos + 4])
            if name.startswith("quiet"):
                continue
            data = wire.name_wire("x." + name) if kind == PTR else wire.address(kind, int(name.split(".")[0].split("-")[1]))
            record = wire.record(wire.name_wire(name), kind, 120, data)
            if peer[1] != PORT:
                # RFC 6762, 6.7: an asker that isn't a full one gets what a DNS server would say.
                s.sendto(query[:2] + struct.pack(">HHHHH", 0x8400, 1, 1, 0, 0) + query[12:pos + 4] + record, peer)
            else:
                to = peer if cls & UNICAST else (GROUPS[sockets[s]], PORT)
                s.sendto(struct.pack(">HHHHHH", 0, 0x8400, 0, 1, 0, 0) + record, to)


def ask(family, port, n, what, kind, cls):
    """Queries one after another, each up to its answer, which names what was asked."""
    s = open_socket(family, port)
    s.settimeout(0.03 if what == "quiet" else 10)
    for i in range(n):
        name = f"{what}-{i}.local"
        query = struct.pack(">HHHHHH", 0 if port == PORT else i + 1, 0, 1, 0, 0, 0) + wire.name_wire(name) + struct.pack(">HH", kind, cls)
        s.sendto(query, (GROUPS[family], PORT))
        while True:
            try:
                got = s.recv(4096)
            except TimeoutError:
                assert what == "quiet", name
                break
            if got[2] & 0x80 and wire.name_wire(name) in got:
                break
    print("owner", os.getpid(), flush=True)


def run_ask(*args):
    out = t.run("ip", "netns", "exec", A, sys.executable, os.path.abspath(__file__), "ask", *map(str, args))
    return int(out.split()[1])


CASES = [  # family, port, n, what, type, class
    (4, PORT, 31, "a", wire.A, 1), (6, PORT, 29, "a", wire.AAAA, 1),
    (4, PORT, 13, "u", wire.A, 1 | UNICAST), (6, PORT, 11, "u", wire.AAAA, 1 | UNICAST),
    (4, 0, 23, "one", wire.A, 1), (6, 0, 19, "one", wire.A, 1),
    (4, PORT, 17, "quiet", wire.A, 1), (6, 0, 7, "quiet", wire.A, 1),
    (4, PORT, 17, "svc", PTR, 1),
]


def expect(n, what, kind):
    answers = {wire.A: "192.0.2.{0}", wire.AAAA: "2001:db8::{0:x}"}
    names = {wire.A: "A", wire.AAAA: "AAAA", PTR: "PTR"}
    rows = [{"query_name": f"{what}-{i}.local", "query_type": names[kind], "rcode": -1 if what == "quiet" else 0, "n": 1,
             "answers": None if what == "quiet" or kind == PTR else answers[kind].format(i).replace("::0", "::")} for i in range(n)]
    return sorted(rows, key=lambda r: r["query_name"])


def check(d, pid, family, n, what, kind):
    got = d.sql("SELECT query_name, query_type, rcode, sum(count) AS n, max(answers) AS answers FROM dnsflow"
                f" WHERE pid = {pid} AND direction = 'outgoing' GROUP BY 1, 2, 3 ORDER BY 1")
    t.equal(got, expect(n, what, kind), f"{what}, family {family}")
    ends = d.sql(f"SELECT DISTINCT netns, dst_ip, dst_port, transport, process_name <> '' AS named FROM dnsflow WHERE pid = {pid}")
    t.equal(ends, [{"netns": dns.netns_inode(A), "dst_ip": GROUPS[family], "dst_port": PORT, "transport": "udp", "named": 1}],
            f"{what}, family {family}: ends")


def main():
    t.need_root()
    t.need_programs("ip")
    with t.netns_pair(A, B, "10.99.87", "fd99:87"), t.Daemon() as d:
        for ns in (A, B):  # a new link is ready a little later
            t.wait_until(lambda n=ns: "ff00::/8 dev veth0" in t.run("ip", "-n", n, "-6", "route", "show", "table", "local"), 10, "multicast route")
        d.enable("dnsflow", "interval=1s", "timeout=1s", "mdns=true")
        responder = subprocess.Popen(["ip", "netns", "exec", B, sys.executable, os.path.abspath(__file__), "respond"],
                                     stdout=subprocess.PIPE, text=True)
        try:
            t.equal(responder.stdout.readline().strip(), "ready", "responder")
            asked = [(run_ask(*case), case) for case in CASES]
            total = sum(case[2] for _, case in asked)
            quiet = sum(case[2] for _, case in asked if case[3] == "quiet")
            time.sleep(1.2)
            dns.wait_own(d, total, A, B)
            for pid, (family, _, n, what, kind, _) in asked:
                check(d, pid, family, n, what, kind)
            # The answering end makes no rows: what others ask the group isn't this host's to time.
            t.equal(d.sql("SELECT netns, sum(count) AS n, sum(timeouts) AS timeouts, sum(retries) AS retries FROM dnsflow"
                          f" WHERE netns IN ({dns.netns_inode(A)}, {dns.netns_inode(B)}) GROUP BY 1"),
                    [{"netns": dns.netns_inode(A), "n": total, "timeouts": quiet, "retries": 0}], "rows")
            names = {(r["ip"], r["name"]) for r in d.sql(f"SELECT ip, name FROM names WHERE netns = {dns.netns_inode(A)}")}
            t.true(("192.0.2.7", "one-7.local") in names or ("192.0.2.7", "u-7.local") in names, f"names: {names}")
            t.true(all(name != "tell-1.local" for _, name in names), "what nobody asked for teaches no name")
        finally:
            responder.kill()
            responder.wait()
        t.equal(total, 167, "queries of this test")
        print(f"{total} multicast queries exact, {quiet} of them without an answer")


if len(sys.argv) > 1 and sys.argv[1] == "respond":
    respond()
elif len(sys.argv) > 1:
    ask(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5], int(sys.argv[6]), int(sys.argv[7]))
else:
    main()
