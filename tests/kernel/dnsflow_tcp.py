#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""139 DNS queries over TCP in namespaces: all at once, octet by octet, answers in small pieces, long ones, after a truncated answer."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import dns  # noqa: E402
import ringside as t  # noqa: E402

A, B = "rs-dns-tcp-a", "rs-dns-tcp-b"


def rows(d, pid, direction="outgoing"):
    return d.sql(f"""SELECT query_name, query_type, rcode, sum(count) AS n, max(answers) AS answers FROM dnsflow
        WHERE pid = {pid} AND transport = 'tcp' AND direction = '{direction}' GROUP BY 1, 2, 3""")


def expect(n):
    return {(f"a-{i}.test", "A", 0, 1, f"192.0.2.{i}") for i in range(n)}


def main():
    t.need_root()
    t.need_programs("ip")
    t.workload("dnsload")
    addr6 = "fd99:83::2"
    with t.netns_pair(A, B, "10.99.83", "fd99:83") as (_, addr4), dns.server(B, addr4) as s4, dns.server(B, addr6, step=7), t.Daemon() as d:
        d.enable("dnsflow", "interval=1s", "log=true")
        cases = [("tcp", addr4, 61), ("tcp", addr6, 31), ("tcp1", addr4, 13), ("tcp1", addr6, 11)]
        asked = 0
        pids = []
        for mode, addr, n in cases:
            pids.append(dns.ask(A, mode, addr, n, "a-%d.test", kind=1))
            asked += n
        # 700 addresses are 11 KiB: counted and timed, with the addresses that the first 4 KiB have.
        long = dns.ask(A, "tcp", addr4, 17, "big-700.test", kind=1, edns=1)
        pieces = dns.ask(A, "tcp", addr6, 2, "big-700.test", kind=1)
        over_udp = dns.ask(A, "connected", addr4, 2, "big-99.test", kind=1)
        over_tcp = dns.ask(A, "tcp1", addr4, 2, "big-99.test", kind=1)
        asked += 17 + 2 + 2 + 2
        t.equal(asked, 139, "queries of this test")
        dns.wait_own(d, 2 * asked, A, B)
        for (mode, addr, n), pid in zip(cases, pids):
            got = {(r["query_name"], r["query_type"], r["rcode"], r["n"], r["answers"]) for r in rows(d, pid)}
            t.equal(got, expect(n), f"{mode} {addr}")
            t.equal(d.sql(f"SELECT DISTINCT process_name, netns, dst_ip, dst_port, src_port FROM dnsflow WHERE pid = {pid}"),
                    [{"process_name": "dnsload", "netns": dns.netns_inode(A), "dst_ip": addr, "dst_port": 53, "src_port": None}], "owner")
        for pid, n in ((long, 17), (pieces, 2)):
            t.equal([(r["n"], r["rcode"]) for r in rows(d, pid)], [(n, 0)], "long answers")
            t.true(rows(d, pid)[0]["answers"].startswith("192.0.2.1,192.0.2.2,"), "addresses of a long answer")
        t.equal(d.sql(f"SELECT DISTINCT answer_size FROM dnslog WHERE pid = {long}"), [{"answer_size": 12 + 18 + 700 * 16 + 11}], "length")
        t.equal(d.sql(f"SELECT truncated, transport, answers IS NULL AS none FROM dnslog WHERE pid IN ({over_udp}, {over_tcp}) ORDER BY ts"),
                2 * [{"truncated": True, "transport": "udp", "none": 1}] + 2 * [{"truncated": False, "transport": "tcp", "none": 0}],
                "asked again over TCP")
        t.equal(d.one(f"SELECT sum(count) FROM dnsflow WHERE direction = 'incoming' AND src_port = 53 AND pid = {s4.pid}"),
                61 + 13 + 17 + 2 + 2, "server's rows")
        t.equal(d.sql(f"SELECT transport, sum(count) AS n, sum(timeouts) AS timeouts FROM dnsflow WHERE {dns.own(A, B)} GROUP BY 1 ORDER BY 1"),
                [{"transport": "tcp", "n": 2 * (asked - 2), "timeouts": 0}, {"transport": "udp", "n": 4, "timeouts": 0}], "each once")
        # The whole host's: others may ask meanwhile.
        stats = d.sql("SELECT * FROM dnsflow_stats")[0]
        for name, least in (("paired", 2 * asked), ("tcp_messages", 4 * (asked - 2))):
            t.true(stats[name] >= least, f"{name}: {stats[name]}, at least {least}")
        # Ours were one for each dnsload and end, and all have been closed.
        ours = 2 * (len(cases) + 3)
        t.true(stats["connections"] < ours, f"{stats['connections']} connections followed after the end of {ours}")
        print(f"{asked} queries exact")


main()
