#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Plugins whose links the kernel is slow to end are off at once: 13 times off and on, 101 calls each that are rows, none in between, none lost."""
# timeout: 180
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ringside as rs

CYCLES = 13
N = 101
BINDS = f"""
import socket
for i in range({N}):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
"""


def binds():
    p = subprocess.Popen([sys.executable, "-c", BINDS])
    rs.equal(p.wait(timeout=30), 0, "binds")
    return p.pid


def main():
    rs.need_root()
    with rs.Daemon() as d:
        for name in ("bind", "tcp"):
            d.enable(name)
            d.cli("plugin", "disable", name)
        rs.wait_until(lambda: "links" not in d.threads(), 20, "the first links closed")
        before, seen, off = d.anon_fds(), [], []
        closing = 0
        for _ in range(CYCLES):
            d.enable("bind")
            d.enable("tcp")
            seen.append(binds())
            d.cli("plugin", "disable", "tcp")
            d.cli("plugin", "disable", "bind")
            closing += "links" in d.threads()
            off.append(binds())
        # How many at the same time is a matter of luck; one after the other of its ten links takes the kernel half a second.
        rs.true(closing > 0, "the daemon never closed links behind an answer")
        d.enable("bind")
        seen.append(binds())
        for pid in seen:
            d.wait_sql(f"SELECT 1 FROM bind WHERE pid = {pid} GROUP BY pid HAVING count(*) >= {N}", 20, f"rows of {pid}")
            rs.equal(d.one(f"SELECT count(*) FROM bind WHERE pid = {pid}"), N, "rows while it is on")
        time.sleep(0.3)
        rs.equal(d.one(f"SELECT count(*) FROM bind WHERE pid IN ({', '.join(map(str, off))})"), 0, "rows while it is off")
        d.cli("plugin", "disable", "bind")
        rs.wait_until(lambda: "links" not in d.threads(), 20, "all links closed")
        rs.wait_until(lambda: d.anon_fds() == before, 20, f"as many descriptors as before ({before}, now {d.anon_fds()})")
        rs.equal(d.sql("SELECT * FROM loss WHERE plugin IN ('bind', 'tcp') AND lost > 0"), [], "losses")
        # It ends while links are being closed.
        d.enable("tcp")
        d.cli("plugin", "disable", "tcp")


if __name__ == "__main__":
    main()
