#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""53 different shells with probes in each: switched off at once; the daemon stops with its rows kept, in the time that it asks for."""
# timeout: 180
import os
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import ringside as rs
from bash_lines import Shell

SHELLS = 53
LINES = 7
BASH = os.path.realpath("/bin/bash")
ARGS = ["--norc", "--noprofile", "-i"]


def type_lines(path, home):
    """In the last shell that got its probes."""
    shell = Shell([path, *ARGS], home)
    for i in range(LINES):
        shell.type(f"true {i}".encode())
    shell.end()
    return shell.pid


def stop(d):
    """How long it took. Where the kernel ends one probe after the other, the service manager is told that it goes on."""
    begin = time.monotonic()
    d.process.send_signal(15)
    notify = d.notify
    rs.equal(d.wait(300), 0, "exit code")
    took = time.monotonic() - begin
    told = [line for line in notify.lines if line.startswith("EXTEND_TIMEOUT_USEC=")]
    if took >= 10 and len(told) < took / 20:
        raise AssertionError(f"the stop took {took:.1f} s, told {len(told)} times that it goes on")
    return took


def main():
    rs.need_root()
    home = tempfile.mkdtemp(prefix="ringside-test-")
    try:
        paths = [os.path.join(home, f"shell-{i}") for i in range(SHELLS)]
        for path in paths:
            shutil.copy(BASH, path)
        with rs.Daemon(config=f'[plugins.bash]\npaths = "{",".join(paths)}"\nprograms = ""\n', state=os.path.join(home, "state")) as d:
            d.enable("bash")
            fds = d.anon_fds("bpf").get("anon_inode:bpf_link", 0) + d.anon_fds("perf").get("anon_inode:[perf_event]", 0)
            rs.true(fds >= 2 * SHELLS, f"{fds} links")
            pid = type_lines(paths[-1], home)
            begin = time.monotonic()
            d.cli("plugin", "disable", "bash")
            off = time.monotonic() - begin
            missed = type_lines(paths[-1], home)
            d.enable("bash")
            again = type_lines(paths[0], home)
            took = stop(d)
        d = rs.Daemon(state=os.path.join(home, "state"))
        with d:
            for who, want in ((pid, LINES), (missed, 0), (again, LINES)):
                rs.equal(d.one(f"SELECT count(*) FROM bash WHERE pid = {who}"), want, f"lines of {who}")
        print(f"{fds} links: off after {off:.2f} s, stopped after {took:.2f} s")
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
