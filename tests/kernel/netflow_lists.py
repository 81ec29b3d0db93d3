#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""netflow's lists of ports, addresses and names: what they leave out makes no row and is counted; a bad word changes nothing."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ringside as t  # noqa: E402

A, B = "rs-netflow-list-a", "rs-netflow-list-b"


def connect(addr, port, n):
    """n connections from A to B, one after another."""
    args = [t.workload("tcpload"), None, "plain", addr, str(port), str(n), "10", "10", "0"]
    args[1] = "server"
    server = subprocess.Popen(["ip", "netns", "exec", B, *args], stdout=subprocess.PIPE, text=True)
    try:
        t.equal(server.stdout.readline().strip(), "ready", "server")
        args[1] = "client"
        t.run("ip", "netns", "exec", A, *args)
        t.equal(server.wait(60), 0, "server")
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def closed(d, port):
    return d.one(f"SELECT coalesce(sum(tcp_closed), 0) FROM netflow WHERE src_port = {port} OR dst_port = {port}")


class Round:
    """Connections that the lists let through and such that they don't; then both sides are looked at."""

    def __init__(self, d):
        self.d, self.port = d, 24000

    def __call__(self, addr, want, ports, n=7):
        """want: how many of 2 * n ends each port keeps."""
        before = self.d.plugin("netflow")["filtered"]
        for port in ports:
            connect(addr, port, n)
        t.wait_until(lambda: all(closed(self.d, p) >= w for p, w in zip(ports, want)), 10, f"{want} at {ports}")
        left_out = sum(2 * n - w for w in want)
        t.wait_until(lambda: self.d.plugin("netflow")["filtered"] - before >= left_out, 10, f"{left_out} left out")
        t.equal([closed(self.d, p) for p in ports], list(want), f"ends at {ports}")


def main():
    t.need_root()
    t.need_programs("ip")
    with t.netns_pair(A, B, "10.99.84", "fd99:84") as (a4, b4), t.Daemon() as d:
        d.enable("netflow", "interval=1s", "ports=24001 24100-24200 !24150")
        check = Round(d)
        check(b4, (14, 0, 14, 0), (24001, 24002, 24110, 24150))
        # One side's remote address is the other's local one.
        d.cli("plugin", "set", "netflow", "ports=", f"ips=!{a4} 10.99.84.0/24")
        check(b4, (7,), (24011,))
        check("fd99:84::2", (0,), (24012,))
        # Nothing but exclusions: the rest stays. A name that isn't known is the address.
        d.cli("plugin", "set", "netflow", "ips=", f"hostnames=!{b4}")
        check(b4, (7,), (24021,))
        err = d.cli("plugin", "set", "netflow", "ports=24001 nosuchservice", code=1)
        t.contains(err, "nosuchservice", "a bad word")
        check(b4, (7,), (24031,))
        d.cli("plugin", "set", "netflow", "hostnames=")
        check(b4, (14,), (24041,))
    print("7 rounds of 7 connections exact")


main()
