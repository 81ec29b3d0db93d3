#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Client, router and server in namespaces: the true peer on every row, through DNAT and masquerading, IPv4 and IPv6, TCP and UDP.

Connections older than the daemon, a ruleset that is flushed and comes back, events lost and made good, a burst of 20,012.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ringside as t  # noqa: E402

C, R, S = "rs-nat-client", "rs-nat-router", "rs-nat-server"
C4, RC4, RS4, S4, VIP4 = "10.99.81.2", "10.99.81.1", "10.99.82.1", "10.99.82.2", "10.99.83.1"
C6, RC6, RS6, S6, VIP6 = "fd99:81::2", "fd99:81::1", "fd99:82::1", "fd99:82::2", "fd99:83::1"
# Over four services, because a client's kernel looks for a free port ever longer once it has used half of them for one.
BURST = int(os.environ.get("RINGSIDE_NAT_BURST", "5003"))
BURST_PORTS = {84: 21088, 86: 21093, 87: 21094, 88: 21095}
HELD, LOST = 7, 499

NFT = f"""
table inet rs_filter {{
    chain forward {{
        type filter hook forward priority 0
        ct state established accept
    }}
}}
table ip rs_nat {{
    chain pre {{
        type nat hook prerouting priority -100
        ip daddr {VIP4} tcp dport 80 dnat to {S4}:21081
        ip daddr {VIP4} udp dport 53 dnat to {S4}:21082
        ip daddr {VIP4} tcp dport 81 dnat to {S4}:21083
        ip daddr {VIP4} tcp dport 82 dnat to {S4}:21086
        ip daddr {VIP4} tcp dport 83 dnat to {S4}:21087
        {chr(10).join(f"ip daddr {VIP4} tcp dport {p} dnat to {S4}:{q}" for p, q in BURST_PORTS.items())}
        ip daddr {VIP4} tcp dport 85 dnat to {S4}:21089
    }}
    chain post {{
        type nat hook postrouting priority 100
        ip daddr {S4} th dport {{ 21081, 21082, 21084, 21086-21089, 21093-21095 }} masquerade
    }}
}}
table ip6 rs_nat {{
    chain pre {{
        type nat hook prerouting priority -100
        ip6 daddr {VIP6} tcp dport 80 dnat to [{S6}]:21091
        ip6 daddr {VIP6} udp dport 53 dnat to [{S6}]:21092
    }}
    chain post {{
        type nat hook postrouting priority 100
        ip6 daddr {S6} th dport {{ 21091, 21092 }} masquerade
    }}
}}
"""


class Case:
    """n connections (UDP: exchanges over one socket) to addr:port, which server:server_port answers."""

    def __init__(self, name, transport, n, to, server, nat, seen=None, step=1):
        self.name, self.transport, self.n, self.to, self.server, self.nat = name, transport, n, to, server, nat
        self.step, self.processes = step, []
        self.seen = seen  # what the server sees as its client where that isn't the client

    def tool(self, ns, role, mode, end):
        load = ["udpload", role, mode, *end, self.n, 100] if self.transport == "udp" else ["tcpload", role, mode, *end, self.n, 100, 200, self.step]
        argv = ["ip", "netns", "exec", ns, t.workload(load[0]), *map(str, load[1:])]
        # A session of its own: servers that fork are ended with all their children.
        p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.processes.append(p)
        return p

    def serve(self, mode="plain"):
        self.server_process = self.tool(S, "server", mode, self.server)
        t.equal(self.server_process.stdout.readline().strip(), "ready", f"{self.name}: server")

    def connect(self, mode=None):
        self.client_process = self.tool(C, "client", mode or ("connected" if self.transport == "udp" else "plain"), self.to)
        if mode == "hold":
            while (line := self.client_process.stdout.readline().strip()) != "open":
                t.true(line, f"{self.name}: client ended early")

    def finish(self, go=False):
        if go:
            self.client_process.stdin.write("go\n")
            self.client_process.stdin.flush()
        for p in (self.client_process, self.server_process):
            t.equal(p.wait(60), 0, self.name)
            self.processes.remove(p)

    def run(self):
        self.serve()
        self.connect()
        self.finish()

    def kill(self):
        for p in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(p.pid, signal.SIGKILL)
            p.wait()


def cases():
    return [
        Case("DNAT and masquerade", "tcp", 101, (VIP4, 80), (S4, 21081), True, RS4),
        Case("DNAT and masquerade, IPv6", "tcp", 53, (VIP6, 80), (S6, 21091), True, RS6),
        Case("UDP", "udp", 31, (VIP4, 53), (S4, 21082), True, RS4),
        Case("UDP, IPv6", "udp", 17, (VIP6, 53), (S6, 21092), True, RS6),
        Case("DNAT alone", "tcp", 37, (VIP4, 81), (S4, 21083), True),
        Case("masquerade alone", "tcp", 29, (S4, 21084), (S4, 21084), False, RS4),
        Case("not translated", "tcp", 11, (S4, 21085), (S4, 21085), False),
    ]


def inode(ns):
    return os.stat(f"/run/netns/{ns}").st_ino


def rows(d, where):
    count = "sum(CASE transport WHEN 'tcp' THEN tcp_closed ELSE packets_written END)"
    return {(r["src_ip"], r["dst_ip"], r["dst_nat_ip"], r["dst_nat_port"]): r["n"]
            for r in d.sql(f"SELECT src_ip, dst_ip, dst_nat_ip, dst_nat_port, {count} AS n FROM netflow WHERE {where} GROUP BY 1, 2, 3, 4")
            if r["n"]}


def check(d, case, n=None):
    """Each connection on both sides, with its true peer."""
    n, (to, port), (server, server_port) = n or case.n, case.to, case.server
    client = C6 if ":" in to else C4
    out = f"netns = {inode(C)} AND direction = 'outgoing' AND transport = '{case.transport}' AND dst_ip = '{to}' AND dst_port = {port}"
    back = f"netns = {inode(S)} AND direction = 'incoming' AND transport = '{case.transport}' AND src_port = {server_port}"
    want_out = {(client, to, server, server_port) if case.nat else (client, to, None, None): n}
    # The port of who really asked is one that its kernel chose: left out as any such port.
    want_back = {(server, case.seen, client, None) if case.seen else (server, client, None, None): n}
    t.wait_until(lambda: sum(rows(d, out).values()) >= n and sum(rows(d, back).values()) >= n, 15, f"{case.name}: rows")
    t.equal(rows(d, out), want_out, f"{case.name}: who connected")
    t.equal(rows(d, back), want_back, f"{case.name}: who accepted")


def check_live(d, case):
    """Open connections, port by port: the server's true peers are the client's own ends."""
    out = d.sql(f"SELECT src_port, dst_nat_ip, dst_nat_port FROM connections WHERE netns = {inode(C)} AND dst_ip = '{case.to[0]}'"
                f" AND dst_port = {case.to[1]}")
    back = d.sql(f"SELECT dst_ip, dst_nat_ip, dst_nat_port FROM connections WHERE netns = {inode(S)} AND src_port = {case.server[1]}"
                 " AND state != 'LISTEN'")
    t.equal([(r["dst_nat_ip"], r["dst_nat_port"]) for r in out], [case.server] * case.n, f"{case.name}: live, who connected")
    t.equal(sorted(r["dst_nat_port"] for r in back), sorted(r["src_port"] for r in out), f"{case.name}: live, true ports")
    t.equal({(r["dst_ip"], r["dst_nat_ip"]) for r in back}, {(case.seen, C4)}, f"{case.name}: live, who accepted")


def nat_rows(d, case):
    return d.sql(f"SELECT kind, src_ip, reply_src_ip, reply_src_port, reply_dst_ip, first_seen FROM nat WHERE netns = {inode(R)}"
                 f" AND dst_ip = '{case.to[0]}' AND dst_port = {case.to[1]} AND transport = '{case.transport}'")


def source(d, ns=R):
    rows_ = d.sql(f"SELECT * FROM nat_namespaces WHERE netns = {inode(ns) if isinstance(ns, str) else ns}")
    return rows_[0] if rows_ else None


def rules(text):
    t.run("ip", "netns", "exec", R, "nft", "-f", "-", input=text)


def topology():
    """The router between two links; both ends know it as the way to everywhere."""
    for a, far, a4, r4, a6, r6 in ((C, "c", C4, RC4, C6, RC6), (S, "s", S4, RS4, S6, RS6)):
        t.run("ip", "link", "add", "veth0", "netns", a, "type", "veth", "peer", "name", far, "netns", R)
        for ns, dev, v4, v6 in ((a, "veth0", a4, a6), (R, far, r4, r6)):
            t.run("ip", "-n", ns, "addr", "add", f"{v4}/24", "dev", dev)
            t.run("ip", "-n", ns, "addr", "add", f"{v6}/64", "dev", dev, "nodad")
            t.run("ip", "-n", ns, "link", "set", dev, "up")
        t.run("ip", "-n", a, "route", "add", "default", "via", r4)
        t.run("ip", "-n", a, "route", "add", "default", "via", r6)
    t.run("ip", "netns", "exec", R, "sh", "-c",
          "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")


class RouterDaemon(t.Daemon):
    """In the router's namespace; unlike "ip netns exec" with the host's mounts, so that it has its control groups."""

    def argv(self):
        return ["nsenter", f"--net=/run/netns/{R}", *super().argv()]


def older(d, held):
    """Begun before the daemon was: known from the dump."""
    check_live(d, held)
    found = nat_rows(d, held)
    t.equal([(r["kind"], r["src_ip"], r["reply_src_ip"], r["reply_src_port"], r["reply_dst_ip"], r["first_seen"]) for r in found],
            [("dnat+snat", C4, S4, held.server[1], RS4, None)] * HELD, "older connections in the table")


def flushed_rules(d, held):
    """Without rules what is open stays translated, what is new isn't; with rules it is again.

    The chains stay, and a rule that asks for the state of connections: without both the kernel doesn't go on with what is open.
    """
    plain = Case("masqueraded before", "tcp", 13, (S4, 21084), (S4, 21084), False)
    again = Case("rules are back", "tcp", 19, (VIP4, 85), (S4, 21089), True, RS4)
    before = rows(d, f"netns = {inode(S)} AND direction = 'incoming' AND src_port = 21084")
    rules("flush table ip rs_nat; flush table ip6 rs_nat")
    plain.run()
    want = {**before, (S4, C4, None, None): plain.n}
    t.wait_until(lambda: rows(d, f"netns = {inode(S)} AND direction = 'incoming' AND src_port = 21084") == want, 15, f"{want} after the flush")
    held.finish(go=True)
    check(d, held)
    rules(NFT)
    again.run()
    check(d, again)


def losses(d):
    """Events of connections that are still open are lost; the dump that follows knows them."""
    case = Case("lost and made good", "tcp", LOST, (VIP4, 83), (S4, 21087), True, RS4)
    try:
        # The smallest buffer, so that the events are too many for it.
        d.cli("plugin", "set", "conntrack", "buffer=64KiB")
        case.serve("fork")
        before = source(d)
        os.kill(d.pid, signal.SIGSTOP)
        try:
            case.connect("hold")
        finally:
            os.kill(d.pid, signal.SIGCONT)
        t.wait_until(lambda: len(nat_rows(d, case)) == LOST, 15, "the lost connections")
        after = source(d)
        t.true(after["overruns"] > before["overruns"] and after["resyncs"] > before["resyncs"], f"overruns, resyncs: {before} {after}")
        t.true(d.plugin("conntrack")["kernel_drops"] > 0, "drops of the plugin")
        d.wait_sql("SELECT lost FROM loss WHERE plugin = 'conntrack' AND stage = 'ring_full'")
        case.finish(go=True)
        # What ended its interval before the dump was read went without; what closed after it has all.
        out = f"netns = {inode(C)} AND direction = 'outgoing' AND dst_ip = '{VIP4}' AND dst_port = 83"
        t.wait_until(lambda: sum(rows(d, out).values()) >= LOST, 15, "rows of the lost connections")
        t.equal(rows(d, out), {(C4, VIP4, S4, 21087): LOST}, case.name)
        return after["overruns"] - before["overruns"]
    finally:
        case.kill()


def burst(d):
    cases_ = [Case(f"burst, port {p}", "tcp", BURST, (VIP4, p), (S4, q), True, RS4, step=0) for p, q in BURST_PORTS.items()]
    before = source(d)
    start = time.monotonic()
    for case in cases_:
        try:
            case.run()
        finally:
            case.kill()
    took = time.monotonic() - start
    for case in cases_:
        check(d, case)
    after = source(d)
    t.equal(after["overruns"] - before["overruns"], 0, "overruns in the burst")
    t.equal(after["events"] - before["events"] >= BURST * len(cases_), True, "events of the burst")
    return took


def flushed_table(d):
    """Everything ends at once: an event for each, the table is empty."""
    t.run("ip", "netns", "exec", R, "conntrack", "-F")
    t.wait_until(lambda: not d.sql(f"SELECT src_ip FROM nat WHERE netns = {inode(R)} AND first_seen IS NOT NULL"), 10, "an empty table")


def scene(name, make, options, after):
    held = Case("older than the daemon", "tcp", HELD, (VIP4, 82), (S4, 21086), True, RS4)
    all_cases = cases()
    rules("flush ruleset")
    rules(NFT)
    try:
        held.serve("fork")
        held.connect("hold")
        with make() as d:
            d.enable("conntrack", *options)
            d.enable("netflow", "interval=1s")
            older(d, held)
            for case in all_cases:
                case.run()
            for case in all_cases:
                check(d, case)
            flushed_rules(d, held)
            told = after(d)
            t.equal(d.plugin("conntrack")["decode_errors"], 0, "messages not understood")
        print(f"{name}: {sum(c.n for c in all_cases)} connections and exchanges exact{told}")
    finally:
        for case in (*all_cases, held):
            case.kill()


def in_router():
    def after(d):
        overruns = losses(d)
        d.cli("plugin", "set", "conntrack", "buffer=8MiB")
        took = burst(d)
        if shutil.which("conntrack"):
            flushed_table(d)
        return f"; {overruns} overruns made good; burst of {BURST * len(BURST_PORTS)} in {took:.1f} s exact"

    scene("daemon in the router", RouterDaemon, (), after)


def all_namespaces():
    def after(d):
        t.equal(d.sql(f"SELECT left_out FROM nat_namespaces WHERE netns = {inode(R)}"), [{"left_out": 0}], "namespaces left out")
        with t.netns("rs-nat-passing"):
            # The far end of this pair goes when the namespace does: nothing holds that, not even the daemon.
            t.run("ip", "link", "add", "passing", "netns", R, "type", "veth", "peer", "name", "veth0", "netns", "rs-nat-passing")
            number = inode("rs-nat-passing")
            t.wait_until(lambda: source(d, number), 15, "the new namespace")
        t.wait_until(lambda: not source(d, number), 15, "the end of its watch")
        t.wait_until(lambda: "passing" not in t.run("ip", "-n", R, "-br", "link"), 10, "the end of the namespace")
        return "; a namespace came and went"

    scene("daemon in the host, namespaces=all", t.Daemon, ("namespaces=all",), after)


def iptables(program):
    """The same by the older tool, in both of its kinds: its rules in nftables' tables, and in its own."""
    tool = ["ip", "netns", "exec", R, program, "-w"]
    rules("flush ruleset")
    made = [["-t", "nat", chain, *rule.split()] for chain, rule in
            (("PREROUTING", f"-d {VIP4} -p tcp --dport 80 -j DNAT --to-destination {S4}:21081"),
             ("POSTROUTING", f"-d {S4} -p tcp --dport 21081 -j MASQUERADE"))]
    if not shutil.which(program) or subprocess.run([*tool, "-t", "nat", "-L"], capture_output=True, check=False).returncode:
        print(f"{program}: not here, left out")
        return
    case = Case(program, "tcp", 23, (VIP4, 80), (S4, 21081), True, RS4)
    try:
        for rule in made:
            t.run(*tool, rule[0], rule[1], "-A", *rule[2:])
        with RouterDaemon() as d:
            d.enable("conntrack")
            d.enable("netflow", "interval=1s")
            case.run()
            check(d, case)
        print(f"{program}: {case.n} connections exact")
    finally:
        case.kill()
        for rule in made:
            subprocess.run([*tool, rule[0], rule[1], "-D", *rule[2:]], capture_output=True, check=False)


def main():
    t.need_root()
    t.need_programs("ip", "nft", "nsenter")
    with t.netns(C, R, S):
        topology()
        p = subprocess.run(["ip", "netns", "exec", R, "nft", "-f", "-"], input=NFT, text=True, capture_output=True, check=False)
        if p.returncode:
            t.skip(f"this kernel doesn't translate addresses: {p.stderr.strip().splitlines()[0]}")
        in_router()
        all_namespaces()
        for program in ("iptables-nft", "iptables-legacy"):
            iptables(program)


main()
