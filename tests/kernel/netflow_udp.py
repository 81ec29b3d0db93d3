#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""211 UDP exchanges in namespaces of their own: datagrams and bytes exact, the owner right on both ends."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ringside as t  # noqa: E402

A, B = "rs-netflow-udp-a", "rs-netflow-udp-b"


class Case:
    """n exchanges between A and one port of B: size+i bytes there, twice as many back."""

    def __init__(self, name, port, n, size, client, addr, family="IPv4", server="plain"):
        self.name, self.port, self.n, self.size = name, port, n, size
        self.client_mode, self.server_mode, self.addr, self.family = client, server, addr, family
        self.old = client == "hold"
        self.owners = {}

    def spawn(self, ns, role, mode, n=None):
        argv = ["ip", "netns", "exec", ns, t.workload("udpload"), role, mode, self.addr, str(self.port), str(n or self.n), str(self.size)]
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def owner(self, p):
        line = p.stdout.readline()
        t.true(line.startswith("owner"), f"{self.name}: {line!r}")
        return int(line.split()[1])

    def start(self):
        self.server = self.spawn(B, "server", self.server_mode)
        t.equal(self.server.stdout.readline().strip(), "ready", f"{self.name}: server")
        self.owners["incoming"] = self.owner(self.server)
        self.client = self.spawn(A, "client", self.client_mode)
        self.owners["outgoing"] = self.owner(self.client)

    def finish(self):
        if self.old:
            self.client.stdin.write("go\n")
            self.client.stdin.flush()
        for p in (self.client, self.server):
            p.stdout.read()
            t.equal(p.wait(), 0, self.name)

    def kill(self):
        for p in (getattr(self, "client", None), getattr(self, "server", None)):
            if p and p.poll() is None:
                p.kill()
                p.wait()

    def bytes_up(self):
        return self.n * self.size + (0 if self.client_mode == "gso" else self.n * (self.n - 1) // 2)

    def answers(self):
        return self.server_mode == "plain"


def cases(addr4, addr6):
    return [
        Case("connected IPv4", 22001, 37, 100, "connected", addr4),
        Case("connected IPv6", 22002, 41, 200, "connected", addr6, "IPv6"),
        Case("unconnected IPv4", 22003, 43, 0, "unconnected", addr4),  # begins with an empty datagram
        Case("unconnected IPv6", 22004, 31, 300, "unconnected", addr6, "IPv6"),
        Case("sendmmsg", 22005, 29, 64, "mmsg", addr4),
        Case("fragments", 22006, 7, 5000, "connected", addr6, "IPv6"),
        Case("older than the daemon", 22007, 13, 77, "hold", addr4),
        Case("segmented by the kernel", 22008, 10, 1000, "gso", addr4, server="read"),
    ]


def check(d, case, side):
    port = "dst_port" if side == "outgoing" else "src_port"
    ns = os.stat(f"/run/netns/{A if side == 'outgoing' else B}").st_ino
    rows = d.sql(f"""SELECT pid, process_name, family, netns, sum(bytes_read) AS rx, sum(bytes_written) AS tx,
        sum(packets_read) AS packets_in, sum(packets_written) AS packets_out, max(retransmits) AS retransmits, max(rtt) AS rtt,
        max(tcp_established + tcp_closed + connect_failures) AS tcp FROM netflow
        WHERE transport = 'udp' AND direction = '{side}' AND {port} = {case.port} GROUP BY pid, process_name, family, netns""")
    up = (case.n, case.bytes_up())
    down = (case.n, 2 * case.bytes_up()) if case.answers() else (0, 0)
    sent, got = (up, down) if side == "outgoing" else (down, up)
    t.equal(rows, [{"pid": case.owners[side], "process_name": "udpload", "family": case.family, "netns": ns, "rx": got[1], "tx": sent[1],
                    "packets_in": got[0], "packets_out": sent[0], "retransmits": 0, "rtt": None, "tcp": 0}], f"{case.name}, {side}")


def check_live(d, case):
    rows = d.sql(f"""SELECT pid, direction, state, src_port, dst_port, inode FROM connections WHERE transport = 'udp'
        AND (src_port = {case.port} OR dst_port = {case.port}) ORDER BY direction""")
    t.true(all(r.pop("inode") for r in rows), f"{case.name}: inodes")
    client = rows[-1]["src_port"] if rows else None
    t.equal(rows, [{"pid": case.owners["incoming"], "direction": "incoming", "state": "UNCONN", "src_port": case.port, "dst_port": None},
                   {"pid": case.owners["outgoing"], "direction": "outgoing", "state": "ESTABLISHED", "src_port": client,
                    "dst_port": case.port}], f"{case.name}: live sockets")


def main():
    t.need_root()
    t.need_programs("ip")
    with t.netns_pair(A, B, "10.99.72", "fd99:72") as (_, addr4):
        all_cases = cases(addr4, "fd99:72::2")
        t.equal(sum(c.n for c in all_cases), 211, "exchanges of this test")
        try:
            old = [c for c in all_cases if c.old]
            for c in old:
                c.start()
                t.equal(c.client.stdout.readline().strip(), "open", c.name)
            with t.Daemon() as d:
                d.enable("netflow", "interval=1s")
                if "UDP is not seen" in (d.plugin("netflow")["reason"] or ""):
                    t.skip(d.plugin("netflow")["reason"])
                for c in old:
                    check_live(d, c)
                    c.finish()
                for c in all_cases:
                    if not c.old:
                        c.start()
                        c.finish()
                want = 2 * 211
                t.wait_until(lambda: d.one("SELECT coalesce(sum(packets_read), 0) FROM netflow WHERE transport = 'udp' AND"
                                           " (src_port BETWEEN 22001 AND 22008 OR dst_port BETWEEN 22001 AND 22008)") >= want - 10, 20,
                             "the last row")
                for c in all_cases:
                    check(d, c, "outgoing")
                    check(d, c, "incoming")
                t.equal(d.sql(f"SELECT pid FROM netflow WHERE pid = {d.pid}"), [], "rows of the daemon itself")
                print("211 exchanges exact")
        finally:
            for c in all_cases:
                c.kill()


main()
