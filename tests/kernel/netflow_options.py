#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""netflow's options at run time, and its bounds: a full table and a full ring lose nothing without a count."""

import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ringside as t  # noqa: E402

A, B = "rs-netflow-opt-a", "rs-netflow-opt-b"


def serve(ns, addr, port, n, role_ns, size=10):
    """n connections from role_ns to addr, one after another."""
    load = [t.workload("tcpload")]
    args = ["plain", addr, str(port), str(n), str(size), str(size), "0"]
    server = subprocess.Popen(["ip", "netns", "exec", ns, *load, "server", *args], stdout=subprocess.PIPE, text=True)
    try:
        t.equal(server.stdout.readline().strip(), "ready", "server")
        t.run("ip", "netns", "exec", role_ns, *load, "client", *args)
        t.equal(server.wait(60), 0, "server")
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def sums(d, port):
    return d.sql(f"""SELECT count(*) AS n, coalesce(sum(tcp_established), 0) AS established, coalesce(sum(tcp_closed), 0) AS closed,
        coalesce(sum(bytes_written), 0) AS bytes FROM netflow WHERE src_port = {port} OR dst_port = {port}""")[0]


def wait_closed(d, port, n):
    t.wait_until(lambda: sums(d, port)["closed"] >= n, 15, f"{n} ends at port {port}")
    got = sums(d, port)
    t.equal((got["established"], got["closed"], got["bytes"]), (n, n, n * 10), f"port {port}")
    return got["n"]


def ticks(d):
    """Two intervals pass: rows of what was before are there, if there are any. A marker connection shows it."""
    ticks.port += 1
    serve(B, ticks.addr, ticks.port, 1, A)
    wait_closed(d, ticks.port, 2)


def options(d, addr4, addr6):
    serve(A, "127.0.0.1", 23001, 3, A)
    ticks(d)
    t.equal(sums(d, 23001)["n"], 0, "loopback is left out by default")
    d.cli("plugin", "set", "netflow", "loopback=true")
    serve(A, "::1", 23002, 3, A)
    wait_closed(d, 23002, 6)
    d.cli("plugin", "set", "netflow", "loopback=false", "ipv6=false")
    serve(B, addr6, 23003, 3, A)
    ticks(d)
    t.equal(sums(d, 23003)["n"], 0, "ipv6=false")
    d.cli("plugin", "set", "netflow", "ipv6=true")
    serve(B, addr6, 23004, 5, A)
    n = wait_closed(d, 23004, 10)
    t.true(n <= 6, f"5 connections are one row a side and interval, not {n}")
    t.equal(d.one("SELECT count(*) FROM netflow WHERE dst_port = 23004 AND src_port IS NOT NULL"), 0, "aggregated ports")
    d.cli("plugin", "set", "netflow", "ephemeral_port=0")
    serve(B, addr4, 23005, 5, A)
    wait_closed(d, 23005, 10)
    t.equal(d.one("SELECT count(DISTINCT src_port) FROM netflow WHERE dst_port = 23005"), 5, "ports kept")
    t.equal(d.one("SELECT count(DISTINCT dst_port) FROM netflow WHERE src_port = 23005"), 5, "ports kept, server")


def full_table(d, addr4):
    """More flows in an interval than fit: rows come early, and all of them."""
    d.cli("plugin", "set", "netflow", "max_flows=256", "interval=5s", "ephemeral_port=0")
    serve(B, addr4, 23101, 499, A)
    wait_closed(d, 23101, 2 * 499)
    t.equal(d.one("SELECT count(*) FROM netflow WHERE dst_port = 23101"), 499, "a row for each connection")


def full_ring(d, addr4):
    """More connections than the smallest ring holds between two reads: what is missing is counted."""
    d.cli("plugin", "set", "netflow", "max_flows=65536", "interval=1s", "ephemeral_port=32768", "ring_size=64KiB")
    n = 4999
    serve(B, addr4, 23102, n, A)
    time.sleep(0.5)  # the ring is read every 100 ms: the marker must not be lost with the others
    ticks(d)
    got, lost = sums(d, 23102)["closed"], d.plugin("netflow")["kernel_drops"]
    t.true(got <= 2 * n, f"{got} ends of {2 * n}")
    t.true(got + lost >= 2 * n, f"{got} ends and {lost} lost of {2 * n}")
    print(f"{2 * n} ends into a ring of 64 KiB: {got} rows' worth, {lost} counted as lost")


def main():
    t.need_root()
    t.need_programs("ip")
    with t.netns_pair(A, B, "10.99.74", "fd99:74") as (_, addr4), t.Daemon() as d:
        ticks.addr, ticks.port = addr4, 23900
        d.enable("netflow", "interval=1s")
        options(d, addr4, "fd99:74::2")
        full_table(d, addr4)
        full_ring(d, addr4)


main()
