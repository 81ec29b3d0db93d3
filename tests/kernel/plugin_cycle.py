#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Enables and disables every plugin again and again over the API: no descriptor, program, map or memory stays behind.

31 cycles with sanitizers, 1,000 in a Release build (CYCLES overrides).
"""
# timeout: 1800

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ringside as rs

# With sanitizers freed memory is kept for a while on purpose; of 256 MiB unless told, which would hide a leak or look like one.
QUARANTINE = "quarantine_size_mb=8"
GROWTH_KIB = {True: 64 * 1024, False: 1024}


def sanitized():
    return b"__asan_init" in open(rs.DAEMON, "rb").read()


def held(d):
    """All descriptors; a connection that the last command has just closed may linger for a moment."""
    return {"fds": d.fds(), **d.anon_fds("bpf")}


def cycle(d, names):
    for name in names:
        d.cli("plugin", "enable", name)
    for name in names:
        d.cli("plugin", "disable", name)


def main():
    rs.need_root()
    asan = sanitized()
    os.environ["ASAN_OPTIONS"] = ":".join(filter(None, (os.environ.get("ASAN_OPTIONS"), QUARANTINE)))
    cycles = int(os.environ.get("CYCLES", "31" if asan else "1000"))
    with rs.Daemon() as d:
        names = []
        for row in d.sql("SELECT name FROM plugins"):
            p = subprocess.run([rs.CLI, "--socket", d.socket, "plugin", "enable", row["name"]], capture_output=True, text=True)
            if p.returncode == 0:
                names.append(row["name"])
            else:
                print(f"without {row['name']}: {p.stderr.strip()}")
            d.cli("plugin", "disable", row["name"])
        if not names:
            rs.skip("no plugin can run here")
        warm = max(5, cycles // 20)
        for _ in range(warm):
            cycle(d, names)
        rs.wait_until(lambda: "links" not in d.threads(), 120, "links that end later")
        before, rss = held(d), d.rss_kib()
        for _ in range(cycles - warm):
            cycle(d, names)
        rs.wait_until(lambda: "links" not in d.threads(), 120, "links that end later")
        rs.wait_until(lambda: held(d) == before, what=f"as many descriptors as before ({before}, now {held(d)})")
        grown = d.rss_kib() - rss
        print(f"{cycles} cycles of {', '.join(names)}: memory {rss} KiB, grown by {grown} KiB; descriptors {before}")
        rs.true(grown <= GROWTH_KIB[asan], f"memory grew by {grown} KiB")
        rs.equal([r["state"] for r in d.sql("SELECT state FROM plugins")], ["disabled"] * len(d.sql("SELECT 1 FROM plugins")))
        rs.equal(d.anon_fds("bpf").get("anon_inode:bpf_link", 0), before.get("anon_inode:bpf_link", 0), "links")


main()
