#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""top on terminals of 80x24, 120x40 and others: what fits is whole, no number is cut, what is least of use goes first."""
import contextlib
import ctypes
import fcntl
import os
import pty
import re
import select
import socket
import struct
import subprocess
import sys
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ringside import CLI, Daemon, equal, true, wait_until  # noqa: E402

CONNECTIONS = 13
NAME = "as-long-as-it-i"
PLUGINS = ["PLUGIN", "STATE", "EVENTS/S", "RUNS/S", "NS/RUN", "CPU %", "USER %", "STORED", "LOST"]
WIDE = ["PROCESS", "PID", "DIRECTION", "PROTO", "REMOTE", "PORT", "RECEIVED", "SENT", "NEW", "RTT"]
SHORT = ["PROCESS", "PID", "DIR", "PROTO", "REMOTE", "PORT", "RECV/S", "SENT/S", "NEW", "RTT"]
SIZE = re.compile(r"^\d+(\.\d+)?(B|[KMGT]iB)(/s)?$")


def exchange():
    """Connections by a process with as long a name, to as long an address, as there are; returns the port."""
    ctypes.CDLL(None).prctl(15, NAME.encode())  # PR_SET_NAME
    with socket.create_server(("127.100.100.100", 0), backlog=64) as server:
        for _ in range(CONNECTIONS):
            with socket.create_connection(server.getsockname()) as c:
                c.sendall(b"x" * 100000)
                with server.accept()[0] as s:
                    s.recv(65536)
        return server.getsockname()[1]


def frame(d, width, height, *args):
    """The lines of the second picture on such a terminal, without their trailing blanks."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RINGSIDE_", "COLUMNS", "LINES"))}
    p = subprocess.Popen([CLI, "--socket", d.socket, "top", "--interval", "500ms", "--window", "10m", *args], stdin=theirs, stdout=theirs,
                         stderr=theirs, env={**env, "TERM": "xterm", "LANG": "C.UTF-8"})
    os.close(theirs)
    got, end = b"", time.monotonic() + 30
    try:
        while got.count(b"\x1b[J") < 2:
            true(time.monotonic() < end, f"no second frame in {got!r}")
            if select.select([ours], [], [], 0.2)[0]:
                got += os.read(ours, 65536)
        os.write(ours, b"q")
        with contextlib.suppress(OSError):
            while select.select([ours], [], [], 10)[0] and (more := os.read(ours, 65536)):
                got += more
        equal(p.wait(10), 0, "exit code after q")
    finally:
        p.kill()
        p.wait()
        os.close(ours)
    true(got.rstrip().endswith(b"\x1b[?7h\x1b[?25h\x1b[?1049l"), f"the terminal is left as it was: {got[-40:]!r}")
    picture = got.split(b"\x1b[H")[2].split(b"\x1b[J")[0].decode()
    lines = [re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line).rstrip() for line in picture.split("\r\n")]
    true(len(lines) <= height, f"{len(lines)} lines on {height}")
    return lines


def table(lines, first):
    """The rows of the table whose header begins so: dicts by the header's places."""
    at = next(i for i, line in enumerate(lines) if line.startswith(first))
    names = list(re.finditer(r"\S+( %)?", lines[at]))
    rows = []
    for line in lines[at:]:
        true(not line.endswith("…"), f"cut at the edge: {line}")
    for line in lines[at + 1:]:
        if not line.strip() or line.startswith("disabled"):
            break
        rows.append(re.split(r" {2,}", line.strip()))
    return [m.group() for m in names], rows


def left(names, order, got, width):
    """What is there is all but the first few that go, in the order of the table; returns those that are gone."""
    gone = [n for n in names if n not in got]
    equal(set(gone), set(order[:len(gone)]), f"columns that go first at {width}")
    equal(got, [n for n in names if n not in gone], f"columns at {width}")
    return gone


def check(d, width, height):
    lines = frame(d, width, height)
    said = f"{width} columns:\n" + "\n".join(lines)
    names, rows = table(lines, "PROCESS")
    gone = left(SHORT if width < 100 else WIDE, ["PROTO", "PID", "DIR", "NEW", "RTT"], names, width)
    true(width < 80 or "NEW" in names and "RTT" in names, said)
    true(width < 120 or not gone, said)
    true(width > 64 or len(gone) > 1, said)
    # The host has flows of its own.
    ours = [dict(zip(names, row)) for row in rows if row[0] == NAME]
    true(ours and all(len(row) == len(names) for row in ours), said)
    for row in ours:
        true(all(SIZE.match(row[n]) for n in names if n in ("RECEIVED", "SENT", "RECV/S", "SENT/S")), said)
        equal(row.get("NEW", str(CONNECTIONS)), str(CONNECTIONS), said)
        true(re.match(r"^[\d.]+(ns|us|ms|s)$", row.get("RTT", "0ns")), said)
    names, rows = table(lines, "PLUGIN")
    gone = left(PLUGINS, ["USER %", "STORED", "RUNS/S", "NS/RUN"], names, width)
    true(width < 80 or not gone, said)
    # NS/RUN is empty while nothing ran.
    equal([(row[0], row[1], row[-1]) for row in rows], [("netflow", "running", "0")], f"plugins at {width}")


def main():
    with Daemon(config='enabled_plugins = "netflow"\n[plugins.netflow]\ninterval = "1s"\nloopback = true\n') as d:
        port = exchange()
        wait_until(lambda: d.one(f"SELECT coalesce(sum(tcp_established), 0) FROM netflow WHERE dst_port = {port}") == CONNECTIONS, 20, "the rows")
        for width, height in ((120, 40), (80, 24), (72, 24), (64, 20), (60, 24)):
            check(d, width, height)


if __name__ == "__main__":
    main()
