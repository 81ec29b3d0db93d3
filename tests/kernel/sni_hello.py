#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""101 connections that begin with a TLS hello, whole and in pieces, and some that don't: a row each with name and owner, names on flows."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ringside as t  # noqa: E402

A, B = "rs-dns-sni-a", "rs-dns-sni-b"

# Client and server in one: HOW ADDR PORT N. Hellos come from Python's own TLS without a handshake.
CLIENT = r"""
import os, socket, ssl, struct, sys, time
how, addr, port, n = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def hello(name):
    c = ssl.create_default_context(); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE
    c.set_alpn_protocols(["h2", "http/1.1"])
    i, o = ssl.MemoryBIO(), ssl.MemoryBIO()
    try: c.wrap_bio(i, o, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError: pass
    return o.read()
def records(b, each):
    m = b[5:]
    return b"".join(b[:3] + struct.pack(">H", len(m[i:i+each])) + m[i:i+each] for i in range(0, len(m), each))
print("owner", os.getpid(), flush=True)
for i in range(n):
    s = socket.create_connection((addr, port)); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    b = hello(None if how == "nameless" else "192.0.2.9" if how == "literal" else f"{how}-{i}.Test")
    if how == "plain": s.sendall(b"GET / HTTP/1.0\r\n\r\n")
    elif how == "server": s.sendall(b[:5] + b"\x02" + b[6:])
    elif how == "pieces":
        for k in range(0, len(b), 100): s.sendall(b[k:k+100])
    elif how == "octets":
        for k in range(len(b)): s.sendall(b[k:k+1])
    elif how == "records": s.sendall(records(b, 60))
    elif how == "half": s.sendall(b[:-20])
    else: s.sendall(b)
    s.sendall(b"\x17\x03\x03 and what follows" * 9)
    s.shutdown(socket.SHUT_WR); s.recv(1); s.close()
"""

SERVER = r"""
import socket, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print("ready", flush=True)
while True:
    c = s.accept()[0]
    while c.recv(65536): pass
    c.close()
"""


def spawn(ns, code, *args):
    return subprocess.Popen(["ip", "netns", "exec", ns, sys.executable, "-c", code, *map(str, args)], stdout=subprocess.PIPE, text=True)


def client(how, addr, port, n):
    p = spawn(A, CLIENT, how, addr, port, n)
    owner = int(p.stdout.readline().split()[1])
    p.stdout.read()
    t.equal(p.wait(60), 0, f"client {how}")
    return owner


def main():
    t.need_root()
    t.need_programs("ip")
    servers = []
    with t.netns_pair(A, B, "10.99.82", "fd99:82") as (_, addr4):
        try:
            for addr in (addr4, "fd99:82::2"):
                servers.append(spawn(B, SERVER, addr, 4443))
                t.equal(servers[-1].stdout.readline().strip(), "ready", "server")
            with t.Daemon() as d:
                d.enable("sni", "interval=1s")
                d.enable("netflow", "interval=1s")
                ns = os.stat(f"/run/netns/{A}").st_ino
                cases = [("whole", addr4, 41), ("whole", "fd99:82::2", 17), ("pieces", addr4, 11), ("octets", addr4, 3),
                         ("records", addr4, 13), ("nameless", addr4, 7), ("literal", addr4, 2), ("plain", addr4, 3),
                         ("server", addr4, 4)]
                t.equal(sum(n for _, _, n in cases), 101, "connections of this test")
                want = []
                for how, addr, n in cases:
                    want.append((how, addr, n, client(how, addr, 4443, n)))
                d.wait_sql("SELECT 1 AS n FROM tls_hello GROUP BY 1 HAVING count(*) >= 94")
                for how, addr, n, pid in want:
                    rows = d.sql(f"SELECT server_name, alpn, version, dst_ip, dst_port, netns, encrypted, sample_rate FROM tls_hello WHERE pid = {pid} ORDER BY ts")
                    if how in ("plain", "server"):
                        t.equal(rows, [], how)
                        continue
                    # RFC 6066 knows no addresses there, and Python sends none.
                    name = (lambda i: None) if how in ("nameless", "literal") else (lambda i, h=how: f"{h}-{i}.test")
                    t.equal(rows, [{"server_name": name(i), "alpn": "h2,http/1.1", "version": "TLS 1.3", "dst_ip": addr, "dst_port": 4443,
                                    "netns": ns, "encrypted": False, "sample_rate": 1} for i in range(n)], f"{how} {addr}")
                t.equal(d.sql("SELECT hellos, nameless, impostors, incomplete, lost, waiting FROM sni_stats"),
                        [{"hellos": 94, "nameless": 9, "impostors": 0, "incomplete": 0, "lost": 0, "waiting": 0}], "counters")
                flows = d.wait_sql(f"SELECT DISTINCT dst_domain, dst_domain_origin FROM netflow WHERE netns = {ns} AND dst_ip = 'fd99:82::2'")
                t.true({"dst_domain": "whole-16.test", "dst_domain_origin": "sni"} in
                       d.wait_sql(f"SELECT dst_domain, dst_domain_origin FROM netflow WHERE netns = {ns} AND dst_domain = 'whole-16.test'"),
                       f"names on flows: {flows}")
                t.equal(d.sql("SELECT name, origin FROM names WHERE ip = 'fd99:82::2'"), [{"name": "whole-16.test", "origin": "sni"}], "name")
                t.equal(d.plugin("sni")["kernel_drops"], 0, "drops")
                half = client("half", addr4, 4443, 1)
                d.cli("plugin", "disable", "sni")
                t.equal(d.sql(f"SELECT server_name FROM tls_hello WHERE pid = {half}"), [{"server_name": "half-0.test"}], "broken off")
                print("94 hellos exact, 7 impostors without a row")
        finally:
            for s in servers:
                s.kill()
                s.wait()


main()
