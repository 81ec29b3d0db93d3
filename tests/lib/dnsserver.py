#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A DNS server with exact answers: dnsserver.py ADDRESS PORT. Says 'ready PID', ends with its stdin.

The first label of the name says what comes back: a-N: one address (A 192.0.2.N, AAAA 2001:db8::N), cname-N: the same behind two
CNAMEs, nx: no such name, fail: server failure, silent: nothing, late-MS: after that time, big-N: N addresses (TC over UDP when they
don't fit), twice: the same answer two times, txt: a text.
"""

import selectors
import socket
import struct
import sys
import threading
import time

A, CNAME, TXT, AAAA, OPT = 1, 5, 16, 28, 41


def name_wire(name):
    return b"".join(bytes([len(p)]) + p.encode() for p in name.split(".") if p) + b"\0"


def read_name(data, pos):
    labels = []
    while data[pos]:
        n = data[pos]
        labels.append(data[pos + 1:pos + 1 + n].decode())
        pos += n + 1
    return ".".join(labels), pos + 1


def record(owner, kind, ttl, data):
    return owner + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data


def address(kind, n):
    if kind == AAAA:
        return socket.inet_pton(socket.AF_INET6, f"2001:db8::{n:x}")
    return bytes([192, 0, 2, n & 255]) if n < 256 else bytes([198, 51, n >> 8, n & 255])


def answer(query, limit):
    """The answer, or None; and how long to wait before, and how often to send it."""
    name, pos = read_name(query, 12)
    kind = struct.unpack(">H", query[pos:pos + 2])[0]
    question = query[12:pos + 4]
    edns = struct.unpack(">H", query[10:12])[0] > 0
    if edns and limit:
        limit = max(512, struct.unpack(">H", query[pos + 4 + 3:pos + 4 + 5])[0])
    what, _, number = name.split(".")[0].lower().partition("-")
    n = int(number) if number.isdigit() else 0
    records, rcode, flags, delay, times = [], 0, 0x8180, 0, 1
    here = b"\xc0\x0c"
    if what == "silent":
        return None, 0, 0
    if what == "late":
        delay = n / 1000
    if what == "twice":
        times = 2
    if what == "nx":
        rcode = 3
    elif what == "fail":
        rcode = 2
    elif what == "txt" and kind == TXT:
        records.append(record(here, TXT, 30, b"\x05hello"))
    elif what == "big" and kind in (A, AAAA):
        records += [record(here, kind, 300, address(kind, i + 1)) for i in range(n)]
    elif kind in (A, AAAA):
        owner = here
        if what == "cname":
            records.append(record(owner, CNAME, 300, name_wire("one.cdn.test")))
            records.append(record(name_wire("one.cdn.test"), CNAME, 60, name_wire("two.cdn.test")))
            owner = name_wire("two.cdn.test")
        records.append(record(owner, kind, 300, address(kind, n)))
    opt = b"\0" + struct.pack(">HHIH", OPT, 4096, 0, 0) if edns else b""
    body = question + b"".join(records) + opt
    if limit and 12 + len(body) > limit:
        flags, records, body = flags | 0x0200, [], question + opt
    return query[:2] + struct.pack(">HHHHH", flags | rcode, 1, len(records), 0, 1 if edns else 0) + body, delay, times


def serve_tcp(conn, step):
    """Messages with their length, in segments of `step` octets when it isn't 0."""
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    have = b""
    while True:
        got = conn.recv(65536)
        if not got:
            break
        have += got
        while len(have) >= 2 and len(have) >= 2 + struct.unpack(">H", have[:2])[0]:
            n = struct.unpack(">H", have[:2])[0]
            message, delay, times = answer(have[2:2 + n], 0)
            have = have[2 + n:]
            if message is None:
                continue
            time.sleep(delay)
            out = (struct.pack(">H", len(message)) + message) * times
            for i in range(0, len(out), step or len(out)):
                conn.sendall(out[i:i + (step or len(out))])
    conn.close()


def main():
    addr, port = sys.argv[1], int(sys.argv[2])
    step = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    family = socket.AF_INET6 if ":" in addr else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.bind((addr, port))
    tcp = socket.socket(family, socket.SOCK_STREAM)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    tcp.bind((addr, port))
    tcp.listen(64)
    print("ready", flush=True)
    sel = selectors.DefaultSelector()
    for f in (udp, tcp, sys.stdin):
        sel.register(f, selectors.EVENT_READ)
    while True:
        for key, _ in sel.select():
            if key.fileobj is sys.stdin:
                if not sys.stdin.readline():
                    return
            elif key.fileobj is tcp:
                threading.Thread(target=serve_tcp, args=(tcp.accept()[0], step), daemon=True).start()
            else:
                query, peer = udp.recvfrom(4096)
                message, delay, times = answer(query, 512)
                for _ in range(times):
                    if delay:
                        threading.Timer(delay, udp.sendto, (message, peer)).start()
                    else:
                        udp.sendto(message, peer)


if __name__ == "__main__":
    main()
