#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""331 DNS queries over UDP in namespaces: every one paired, with its name, status, addresses, owner and namespace, at both ends."""

import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import dns  # noqa: E402
import ringside as t  # noqa: E402

A, B, STUB = "rs-dns-udp-a", "rs-dns-udp-b", "127.0.0.53"


def rows(d, pid, direction="outgoing", table="dnsflow"):
    ports = {"outgoing": "src_port IS NULL AND dst_port = 53", "incoming": "src_port = 53 AND dst_port IS NULL"}[direction]
    return d.sql(f"""SELECT query_name, query_type, rcode, max(answers) AS answers, sum(count) AS n, sum(timeouts) AS timeouts,
        sum(retries) AS retries FROM {table} WHERE pid = {pid} AND direction = '{direction}' AND {ports}
        GROUP BY 1, 2, 3 ORDER BY 1, 2""")


def plain(name, kind, answers, n=1, rcode=0):
    return {"query_name": name, "query_type": kind, "rcode": rcode, "answers": answers, "n": n,
            "timeouts": n if rcode == -1 else 0, "retries": 0}


def expect(n, what="a"):
    """A and AAAA in turns, as dnsload asks with TYPE 0."""
    return sorted((plain(f"{what}-{i}.test", "AAAA" if i % 2 else "A", f"2001:db8::{i:x}".replace("::0", "::") if i % 2 else f"192.0.2.{i}")
                   for i in range(n)), key=lambda r: r["query_name"])


def check_simple(d, addr4, addr6):
    for mode, addr, n, what in (("connected", addr4, 41, "a"), ("unconnected", addr4, 43, "a"), ("mmsg", addr4, 47, "a"),
                                ("connected", addr6, 53, "a"), ("unconnected", addr6, 59, "cname"), ("mmsg", STUB, 31, "a")):
        ns = B if addr == STUB else A
        pid = dns.ask(ns, mode, addr, n, what + "-%d.TEST")
        yield n, lambda p=pid, k=n, w=what, x=addr, m=ns: (
            t.equal(rows(d, p), expect(k, w), f"{k} queries to {x}"),
            t.equal(d.sql(f"SELECT DISTINCT process_name, netns, dst_ip, transport, family, dst_ip_type FROM dnsflow WHERE pid = {p}"),
                    [{"process_name": "dnsload", "netns": dns.netns_inode(m), "dst_ip": x, "transport": "udp",
                      "family": "IPv6" if ":" in x else "IPv4", "dst_ip_type": "loopback" if x == STUB else "private"}], f"owner of {x}"))


def check_odd(d, addr):
    """Statuses, big answers, truncation, silence, late and double answers."""
    p = dns.ask(A, "connected", addr, 9, "nx-%d.test", kind=1)
    yield 9, lambda: t.equal(rows(d, p), [plain(f"nx-{i}.test", "A", None, rcode=3) for i in range(9)], "NXDOMAIN")
    q = dns.ask(A, "connected", addr, 5, "fail-%d.test", kind=28)
    yield 5, lambda: t.equal(rows(d, q), [plain(f"fail-{i}.test", "AAAA", None, rcode=2) for i in range(5)], "SERVFAIL")
    big = dns.ask(A, "connected", addr, 3, "big-60.test", kind=1, edns=1)
    full = ",".join(f"192.0.2.{i + 1}" for i in range(60))
    yield 3, lambda: (t.true(full.startswith(rows(d, big)[0]["answers"][:-4]), "EDNS answers"),
                      t.equal(rows(d, big)[0]["n"], 3, "EDNS queries"),
                      t.equal(d.sql(f"SELECT DISTINCT answers, truncated, answer_size FROM dnslog WHERE pid = {big}"),
                              [{"answers": full, "truncated": False, "answer_size": 12 + 17 + 60 * 16 + 11}], "EDNS log"))
    cut = dns.ask(A, "connected", addr, 2, "big-61.test", kind=1)
    yield 2, lambda: t.equal(d.sql(f"SELECT DISTINCT answers, truncated, rcode FROM dnslog WHERE pid = {cut}"),
                             [{"answers": None, "truncated": True, "rcode": 0}], "truncated")
    silent = dns.ask(A, "connected", addr, 3, "silent-%d.test", kind=1, wait_ms=50, want=0)
    yield 3, lambda: t.equal(rows(d, silent), [plain(f"silent-{i}.test", "A", None, rcode=-1) for i in range(3)], "timeouts")
    late = dns.ask(A, "unconnected", addr, 1, "late-1400.test", kind=1)
    yield 1, lambda: t.equal(rows(d, late), [plain("late-1400.test", "A", None, rcode=-1)], "late answer")
    slow = dns.ask(A, "unconnected", addr, 1, "late-300.test", kind=1)
    yield 1, lambda: (t.true(0.3e9 < d.one(f"SELECT latency FROM dnsflow WHERE pid = {slow}") < 0.9e9, "latency in ns"),
                      t.equal(d.sql(f"SELECT latency = latency_max AS same FROM dnsflow WHERE pid = {slow}"), [{"same": 1}], "longest"))
    twice = dns.ask(A, "connected", addr, 1, "twice-9.test", kind=1)
    yield 1, lambda: t.equal(rows(d, twice), [plain("twice-9.test", "A", "192.0.2.9")], "double answer")


def check_libc(d, addr):
    """getaddrinfo() asks for A and AAAA with one sendmmsg; ip netns exec gives it the resolv.conf of the namespace."""
    with_conf = f"/etc/netns/{A}"
    os.makedirs(with_conf, exist_ok=True)
    try:
        with open(f"{with_conf}/resolv.conf", "w") as f:
            f.write(f"nameserver {addr}\n")
        pid = dns.ask(A, "getaddrinfo", addr, 15, "cname-%d.libc.test", want=30)
    finally:
        os.unlink(f"{with_conf}/resolv.conf")
        os.rmdir(with_conf)
    want = [r for i in range(15) for r in (plain(f"cname-{i}.libc.test", "A", f"192.0.2.{i}"),
                                           plain(f"cname-{i}.libc.test", "AAAA", f"2001:db8::{i:x}".replace("::0", "::")))]
    want.sort(key=lambda r: (r["query_name"], r["query_type"]))
    yield 30, lambda: (t.equal(rows(d, pid), want, "getaddrinfo"),
                       t.equal(d.one(f"SELECT answers FROM dnslog WHERE pid = {pid} AND query_name = 'cname-3.libc.test' AND query_type = 'A'"),
                               "one.cdn.test,two.cdn.test,192.0.2.3", "CNAMEs in the log"))


def old_socket(addr):
    """Made and connected before the daemon runs: its owner is found by the file."""
    code = (f"import socket,sys; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.connect(('{addr}',53)); print('open',flush=True)\n"
            "for line in sys.stdin:\n"
            " s.send(bytes.fromhex('0007010000010000000000000361') + b'-77' + bytes.fromhex('04746573740000010001')); s.recv(999)"
            "; print('got',flush=True)")
    code = code.replace("0361') + b'-77' + bytes.fromhex('", "04612d3737")
    p = subprocess.Popen(["ip", "netns", "exec", A, sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    t.equal(p.stdout.readline().strip(), "open", "old socket")
    return p


def check_names(d, addr):
    """A connection to an address that was resolved bears the name that was asked, in its namespace alone."""
    t.run("ip", "-n", B, "addr", "add", "192.0.2.123/32", "dev", "lo")
    t.run("ip", "-n", A, "route", "add", "192.0.2.123/32", "via", addr)
    dns.ask(A, "connected", addr, 1, "cname-123.test", kind=1)
    code = ("import socket,sys\ns=socket.create_server(('192.0.2.123',4433)); print('up',flush=True)\n"
            "for _ in range(2):\n c=s.accept()[0]; c.recv(10); c.close()")
    server = subprocess.Popen(["ip", "netns", "exec", B, sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        t.equal(server.stdout.readline().strip(), "up", "TCP server")
        d.wait_sql(f"SELECT 1 AS n FROM names WHERE ip = '192.0.2.123' AND {dns.own(A)}")
        for ns in (A, B):
            t.run("ip", "netns", "exec", ns, sys.executable, "-c",
                  "import socket; s=socket.create_connection(('192.0.2.123',4433)); s.send(b'hello'); s.recv(10)")
        t.equal(server.wait(10), 0, "TCP server")
    finally:
        server.kill()
        server.wait()
    d.wait_sql(f"SELECT 1 AS n FROM netflow WHERE dst_port = 4433 AND netns = {dns.netns_inode(A)}")
    d.wait_sql(f"SELECT 1 AS n FROM netflow WHERE dst_port = 4433 AND netns = {dns.netns_inode(B)}")
    for ns, want in ((A, ("cname-123.test", "dns")), (B, (None, None))):
        got = d.sql(f"SELECT DISTINCT dst_domain, dst_domain_origin FROM netflow WHERE dst_port = 4433 AND netns = {dns.netns_inode(ns)}")
        t.equal(got, [{"dst_domain": want[0], "dst_domain_origin": want[1]}], f"name in {ns}")
    return 1


def main():
    t.need_root()
    t.need_programs("ip")
    t.workload("dnsload")
    addr6 = "fd99:81::2"
    with t.netns_pair(A, B, "10.99.81", "fd99:81") as (_, addr4), dns.server(B, addr4) as s4, dns.server(B, addr6), dns.server(B, STUB):
        old = old_socket(addr4)
        # The first packet may wait for its neighbour longer than the timeout of this test.
        dns.ask(A, "connected", addr6, 1, "a-%d.test", wait_ms=10000)
        try:
            with t.Daemon() as d:
                d.enable("dnsflow", "interval=1s", "timeout=1s", "log=true")
                d.enable("netflow", "interval=1s", "loopback=true")
                old.stdin.write("go\n")
                old.stdin.flush()
                t.equal(old.stdout.readline().strip(), "got", "old socket")
                pid = old.pid
                checks = [(1, lambda: t.equal(rows(d, pid), [plain("a-77.test", "A", "192.0.2.77")], "older than the daemon"))]
                for part in (check_simple(d, addr4, addr6), check_odd(d, addr4), check_libc(d, addr4)):
                    checks += list(part)
                asked = sum(n for n, _ in checks)
                time.sleep(1.2)
                dns.wait_own(d, 2 * asked, A, B)
                for _, check in checks:
                    check()
                # The same at the other end: a server's own rows, its pid, its clients' port left out.
                t.equal(d.one(f"SELECT sum(count) FROM dnsflow WHERE direction = 'incoming' AND netns = {dns.netns_inode(B)}"), asked, "incoming")
                t.equal(rows(d, s4.pid, "incoming")[0]["rcode"], 0, "server's rows")
                t.equal(d.one(f"SELECT count(*) FROM dnslog WHERE {dns.own(A, B)}"), 2 * asked, "rows in the log")
                t.equal(d.sql(f"SELECT sum(count) AS n, sum(timeouts) AS timeouts, sum(retries) AS retries FROM dnsflow WHERE {dns.own(A, B)}"),
                        [{"n": 2 * asked, "timeouts": 8, "retries": 0}], "each once")
                # The whole host's: others may ask meanwhile.
                stats = d.sql("SELECT * FROM dnsflow_stats")[0]
                for name, least in (("queries", 2 * asked), ("paired", 2 * asked - 8), ("timeouts", 8), ("late", 2), ("duplicate", 2)):
                    t.true(stats[name] >= least, f"{name}: {stats[name]}, at least {least}")
                asked += check_names(d, addr4)
                t.equal(asked, 331, "queries of this test")
                print(f"{asked} queries exact at both ends")
        finally:
            old.kill()
            old.wait()


main()
