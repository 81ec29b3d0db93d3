#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""389 DNS queries that NAT sends elsewhere, at the end that asks and at the end that answers: paired, with the addresses processes know."""

import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import dns  # noqa: E402
import ringside as t  # noqa: E402

A, B = "rs-dns-nat-a", "rs-dns-nat-b"
NET4, NET6 = "10.99.85", "fd99:85"
A4, B4, A6, B6 = f"{NET4}.1", f"{NET4}.2", f"{NET6}::1", f"{NET6}::2"
SNAT4, SNAT6 = f"{NET4}.77", f"{NET6}::77"
# Where queries go, by the way they are translated.
ADDRESS, LISTED, UNLISTED, SOURCE, SERVER, SERVER_ANY = (f"10.99.86.{i}" for i in range(51, 57))
ADDRESS6, UNLISTED6, SOURCE6, SERVER6 = (f"fd99:86::{i}" for i in (51, 53, 54, 55))

AT_CLIENT = f"""
table ip rs_dns {{
    chain out {{
        type nat hook output priority -100
        ip daddr {{ {ADDRESS}, {SOURCE} }} th dport 53 dnat to {B4}
        ip daddr {LISTED} udp dport 53 dnat to {B4}:5300
        ip daddr {LISTED} tcp dport 53 dnat to {B4}:5300
        ip daddr {UNLISTED} udp dport 53 dnat to {B4}:5302
        ip daddr {UNLISTED} tcp dport 53 dnat to {B4}:5302
    }}
    chain post {{
        type nat hook postrouting priority 100
        ct original ip daddr {SOURCE} snat to {SNAT4}
    }}
}}
table ip6 rs_dns {{
    chain out {{
        type nat hook output priority -100
        ip6 daddr {{ {ADDRESS6}, {SOURCE6} }} th dport 53 dnat to {B6}
        ip6 daddr {UNLISTED6} udp dport 53 dnat to [{B6}]:5302
    }}
    chain post {{
        type nat hook postrouting priority 100
        ct original ip6 daddr {SOURCE6} snat to {SNAT6}
    }}
}}
"""

AT_SERVER = f"""
table ip rs_dns {{
    chain pre {{
        type nat hook prerouting priority -100
        ip daddr {SERVER} th dport 53 dnat to {B4}
        ip daddr {SERVER_ANY} udp dport 53 dnat to {B4}:5300
    }}
}}
table ip6 rs_dns {{
    chain pre {{
        type nat hook prerouting priority -100
        ip6 daddr {SERVER6} udp dport 53 dnat to {B6}
    }}
}}
"""

# Mode, destination, queries, who of B's servers answers; port 5302 is none that rows are made for.
CASES = [
    ("connected", ADDRESS, 23, (B4, 53)), ("unconnected", ADDRESS, 29, (B4, 53)), ("mmsg", ADDRESS, 31, (B4, 53)),
    ("tcp", ADDRESS, 7, (B4, 53)), ("getaddrinfo", ADDRESS, 11, (B4, 53)),
    ("connected", LISTED, 13, (B4, 5300)), ("unconnected", LISTED, 17, (B4, 5300)), ("tcp1", LISTED, 5, (B4, 5300)),
    ("connected", UNLISTED, 19, None), ("unconnected", UNLISTED, 37, None), ("tcp", UNLISTED, 3, None),
    ("connected", SOURCE, 11, (B4, 53)), ("unconnected", SOURCE, 41, (B4, 53)),
    ("connected", SERVER, 13, (B4, 53)), ("unconnected", SERVER, 17, (B4, 53)), ("tcp", SERVER, 5, (B4, 53)),
    ("unconnected", SERVER_ANY, 23, (B4, 5300)),
    ("unconnected", ADDRESS6, 19, (B6, 53)), ("connected", UNLISTED6, 7, None), ("unconnected", UNLISTED6, 11, None),
    ("unconnected", SOURCE6, 23, (B6, 53)), ("unconnected", SERVER6, 13, (B6, 53)),
]


def rules(ns, text):
    p = subprocess.run(["ip", "netns", "exec", ns, "nft", "-f", "-"], input=text, text=True, capture_output=True, check=False)
    if p.returncode:
        t.skip(f"this kernel doesn't translate addresses: {p.stderr.strip().splitlines()[0]}")


def ask(mode, addr, n):
    if mode != "getaddrinfo":
        return dns.ask(A, mode, addr, n, "a-%d.nat.test")
    conf = f"/etc/netns/{A}"
    os.makedirs(conf, exist_ok=True)
    try:
        with open(f"{conf}/resolv.conf", "w") as f:
            f.write(f"nameserver {addr}\n")
        return dns.ask(A, mode, addr, n, "a-%d.nat.test", want=2 * n)
    finally:
        os.unlink(f"{conf}/resolv.conf")
        os.rmdir(conf)


def topology():
    for ns, dev, addrs in ((A, "veth0", (f"{SNAT4}/24", f"{SNAT6}/64")),):
        for a in addrs:
            t.run("ip", "-n", ns, "addr", "add", a, "dev", dev, *(["nodad"] if ":" in a else []))
    t.run("ip", "-n", A, "route", "add", "10.99.86.0/24", "via", B4, "src", A4)
    t.run("ip", "-n", A, "route", "add", "fd99:86::/64", "via", B6, "src", A6)
    rules(A, AT_CLIENT)
    rules(B, AT_SERVER)


def check(d, asked):
    client, server = dns.netns_inode(A), dns.netns_inode(B)
    for pid, mode, addr, n, _ in asked:
        t.equal(d.sql("SELECT dst_ip, dst_port, rcode, sum(count) AS n, sum(timeouts) AS timeouts FROM dnsflow"
                      f" WHERE pid = {pid} AND netns = {client} AND direction = 'outgoing' GROUP BY 1, 2, 3"),
                [{"dst_ip": addr, "dst_port": 53, "rcode": 0, "n": n, "timeouts": 0}], f"{mode} to {addr}")
    want = {}
    for _, mode, _, n, end in asked:
        if end:
            key = (*end, "tcp" if mode.startswith("tcp") else "udp")
            want[key] = want.get(key, 0) + n
    got = {(r["src_ip"], r["src_port"], r["transport"]): r["n"] for r in d.sql(
        "SELECT src_ip, src_port, transport, sum(count) AS n FROM dnsflow"
        f" WHERE netns = {server} AND direction = 'incoming' AND rcode = 0 GROUP BY 1, 2, 3")}
    return got, want


def main():
    t.need_root()
    t.need_programs("ip", "nft")
    t.workload("dnsload")
    # One server of each address, one of all addresses: its socket doesn't say which it is asked at.
    with t.netns_pair(A, B, NET4, NET6), dns.server(B, B4), dns.server(B, B6), dns.server(B, "0.0.0.0", 5300), \
            dns.server(B, B4, 5302), dns.server(B, B6, 5302):
        topology()
        dns.ask(A, "connected", B6, 1, "a-%d.test", wait_ms=10000)
        with t.Daemon() as d:
            d.enable("dnsflow", "interval=1s", "ports=53,5300")
            asked = [(ask(mode, addr, n), mode, addr, 2 * n if mode == "getaddrinfo" else n, end) for mode, addr, n, end in CASES]
            total = sum(a[3] for a in asked)
            time.sleep(1.2)
            dns.wait_own(d, total + sum(a[3] for a in asked if a[4]), A, B)
            got, want = check(d, asked)
            # Who listens at all addresses is named by the address that the query bears after NAT.
            t.equal(got, want, "at the end that answers")
            t.equal(d.one(f"SELECT sum(timeouts) FROM dnsflow WHERE netns IN ({dns.netns_inode(A)}, {dns.netns_inode(B)})"), 0, "timeouts")
            t.equal(total, 389, "queries of this test")
            print(f"{total} queries through NAT exact")


main()
