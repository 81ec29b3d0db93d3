#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The accuracy grid: known traffic in every way that programs make it; found, put down to its owner, exact to the byte?

grid.py           measures Ringside; fails where a cell is worse than in docs/accuracy.md
grid.py --write   measures and writes docs/accuracy.md (the peers' part stays)
grid.py --peers   measures the other tools that are installed and writes their part
"""

import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
import ringside as t  # noqa: E402

A, B = "rs-accuracy-a", "rs-accuracy-b"
DOC = os.path.join(HERE, "..", "..", "docs", "accuracy.md")
IDLE = 18  # seconds; a full look at all sockets comes every 16th interval of 1 s
HOST4, HOST4A, HOST6 = "10.99.74.2", "10.99.74.1", "fd99:74::2"


class Scenario:
    """One workload, both sides. sides: which are compared; extra: its last argument.

    why: what is known to be otherwise, by side and cell; race: what may be in part at times; about: a note."""

    def __init__(self, name, workload, transport="tcp", addr=HOST4, sides=("client", "server"), extra="", why=None, block=(), host=False, race=None,
                 about=None):
        self.name, self.workload, self.transport, self.addr = name, workload, transport, addr
        self.sides, self.extra, self.why, self.block, self.host = sides, extra, why or {}, block, host
        self.race, self.about = race or {}, about
        self.port = 0
        self.skipped = None
        self.owners, self.truth, self.procs = {}, {}, {}

    def spawn(self, side):
        argv = [t.workload("scenarios"), self.workload, side, HOST4A if self.workload == "simultaneous" and side == "server" else self.addr,
                str(self.port), self.extra]
        if side == "server" or not self.host:
            argv = ["ip", "netns", "exec", B if side == "server" else A, *argv]
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def filter(self, on):
        """Drops the first SYNs to this port, in one or both namespaces."""
        for ns in self.block:
            name = f"p{self.port}"
            rule = f"add table inet {name}; add chain inet {name} c {{ type filter hook input priority 0; }}; add rule inet {name} c tcp dport {self.port} drop"
            t.run("ip", "netns", "exec", ns, "nft", rule if on else f"delete table inet {name}")

    def start(self):
        self.owners, self.truth = {"client": set(), "server": set()}, {}
        self.filter(True)
        self.procs = {"server": self.spawn("server")}
        line = self.procs["server"].stdout.readline()
        while line.startswith("owner"):  # workers come before the listener in some
            self.owners["server"].add(int(line.split()[1]))
            line = self.procs["server"].stdout.readline()
        if line.startswith("skip"):
            self.skipped = line[5:].strip()
        elif line.strip() != "ready":
            raise AssertionError(f"{self.name}: server says {line!r}")
        else:
            self.procs["client"] = self.spawn("client")
        if self.workload == "simultaneous":
            time.sleep(0.5)  # both SYNs are on their way and lost
            self.filter(False)

    def finish(self):
        for side, p in reversed(self.procs.items()):
            for line in p.stdout:
                word, _, rest = line.strip().partition(" ")
                if word == "owner":
                    self.owners[side].add(int(rest))
                elif word == "truth":
                    self.truth[side] = dict(zip(("tx", "rx", "out", "in", "conns", "failures"), map(int, rest.split())))
                elif word == "skip":
                    self.skipped = rest
            code = p.wait()
            if code not in (0, 77) and not self.skipped:
                raise AssertionError(f"{self.name}: {side} ended with {code}")
        if self.workload != "simultaneous":
            self.filter(False)
        if self.skipped:
            self.kill()

    def kill(self):
        for p in self.procs.values():
            if p.poll() is None:
                p.kill()
            p.wait()

    def done(self):
        return bool(self.procs) and all(p.poll() is not None for p in self.procs.values())


def scenarios():
    fds = "the owner of a connection is who connected until somebody else reads from it: a child that only writes isn't seen"
    early = "what is sent before the new owner first reads is the old owner's when an interval ends just then: seen now and then"
    packet = "the frame is made in user space: no socket of the sender's carries it, so there is nothing to ask for an owner"
    mptcp = "the kernel itself reads the TCP connections below an MPTCP socket: they stay with who connected or listened"
    asleep = "a connection that nobody accepts is the listener's"
    hours = "for some seconds here, for hours by tests/vm/hours.sh: see below"
    s = Scenario
    out = [
        s("keep-alive only, idle", "idle", extra=str(IDLE), about=hours),  # first: the others run while it idles
        s("TCP, IPv4", "stream"),
        s("TCP, IPv6", "stream", addr=HOST6),
        s("TCP, v4-mapped", "stream", addr=f"::ffff:{HOST4}"),
        s("sendfile", "sendfile"),
        s("splice, both ways", "splice"),
        s("io_uring", "uring", addr=HOST6),
        s("MSG_ZEROCOPY", "zerocopy"),
        s("MPTCP, worker by fork", "mptcp", why={("server", "owner"): mptcp}),
        s("owner exits first", "exits"),
        s("inherited by fork", "fork", race={("client", "owner"): early}),
        s("inherited, child only writes", "fork-writer", why={("client", "owner"): fds}),
        s("passed by SCM_RIGHTS", "passed", race={("client", "owner"): early}),
        s("closed before accept", "backlog"),
        s("never accepted", "nobody", why={("server", "note"): asleep}),
        s("socket of another namespace", "netns", extra=f"/run/netns/{A}", host=True),
        s("half-close", "half-close", addr=HOST6),
        s("reset", "reset"),
        s("connect refused", "fail", sides=("client",), extra="13"),
        s("connect timeout", "fail", sides=("client",), extra="1", block=(B,)),
        s("simultaneous open", "simultaneous", block=(A, B)),
        s("UDP connected, IPv4", "udp", "udp"),
        s("UDP connected, IPv6", "udp", "udp", HOST6),
        s("UDP unconnected, IPv4", "udp-unconnected", "udp"),
        s("UDP unconnected, IPv6", "udp-unconnected", "udp", HOST6),
        s("sendmmsg, recvmmsg", "mmsg", "udp"),
        s("QUIC-like: one socket, many peers, GSO", "quic", "udp", HOST6),
        s("UDP, one datagram and exit", "udp-exits", "udp"),
        s("UDP inherited by fork", "udp-fork", "udp"),
        s("raw socket", "raw", "raw"),
        s("ICMP echo, ping socket", "ping", "icmp", sides=("client",)),
        s("AF_PACKET sender", "packet", "udp", extra=HOST4A, why={("client", "found"): packet, ("client", "owner"): packet, ("client", "bytes"): packet}),
        s("SCTP", "sctp", "sctp"),
    ]
    for i, sc in enumerate(out):
        sc.port = 23001 + i
    return out


def run_all(all_scenarios, wait=True, each=None):
    """Runs them one after the other beside the first, which takes longest."""
    idle, rest = all_scenarios[0], all_scenarios[1:]
    idle.start()
    for sc in rest:
        sc.start()
        sc.finish()
        if each:
            each(idle)
    if wait:
        while not idle.done():
            time.sleep(1)
            if each:
                each(idle)
    idle.finish()


class Cells:
    """What was found of one side: each "yes" or what is otherwise."""

    def __init__(self, found, owner, amount):
        self.found, self.owner, self.bytes = found, owner, amount

    def items(self):
        return (("found", self.found), ("owner", self.owner), ("bytes", self.bytes))


def off(got, want):
    if not want:
        return f"{got:+.0f} B"
    return f"{100 * (got - want) / want:+.1f}%"


def measure(d, sc, side):
    ns = os.stat(f"/run/netns/{B if side == 'server' else A}").st_ino
    where = f"netns = {ns} AND transport = '{sc.transport}' AND "
    if sc.transport in ("raw", "icmp"):
        where += f"dst_ip = '{HOST4 if side == 'client' else HOST4A}'"
    else:
        where += f"{'dst_port' if side == 'client' else 'src_port'} = {sc.port}"
    rows = d.sql(f"""SELECT pid, process_name, sum(bytes_written) AS tx, sum(bytes_read) AS rx, sum(packets_written) AS n_out, sum(packets_read) AS n_in,
        sum(tcp_established) AS established, sum(tcp_closed) AS closed, sum(connect_failures) AS failures FROM netflow WHERE {where} GROUP BY 1, 2""")
    want = sc.truth[side]
    if not rows:
        return Cells("no", "no", "no")
    total = {k: sum(r[k] for r in rows) for k in ("tx", "rx", "n_out", "n_in", "established", "closed", "failures")}
    if sc.transport == "tcp":
        conns = (total["established"], total["closed"], total["failures"])
        full = (want["conns"], want["conns"], want["failures"])
    elif sc.transport == "sctp":
        conns, full = 1, 1
    else:
        conns, full = (total["n_out"], total["n_in"]), (want["out"], want["in"])
    found = "yes" if conns == full else "part: " + ", ".join(f"{g} of {w}" for g, w in zip(conns, full) if g != w)
    # Who carried bytes; a connection that carried none yet may stand with who connected or listened.
    carriers = [r for r in rows if r["tx"] or r["rx"]] or rows
    pids = {r["pid"] for r in carriers}
    named = all(r["process_name"] == "scenarios" for r in carriers)
    owner = "yes" if pids == sc.owners[side] and named else "part" if pids & sc.owners[side] else "no"
    diff = {k: off(total[k], want[k]) for k in ("tx", "rx") if total[k] != want[k]}
    amount = "exact" if not diff else "off: " + ", ".join(f"{'sent' if k == 'tx' else 'received'} {v}" for k, v in diff.items())
    return Cells(found, owner, amount)


class Idle:
    """The connections that idle must stay as they were: owner, bytes and identity, over every look at them."""

    BYTES = 12347 - 1000  # what went up before the pause

    def __init__(self, d):
        self.d, self.first, self.looks, self.bad = d, None, 0, None

    def look(self, sc):
        rows = self.d.sql(f"SELECT pid, owner_confidence, direction, netns, src_port, dst_port, bytes_read, bytes_written, opened_at, inode FROM"
                          f" connections WHERE (dst_port = {sc.port} OR src_port = {sc.port}) AND state = 'ESTABLISHED' ORDER BY netns, src_port, dst_port")
        if len(rows) != 14 or any(r["bytes_read"] + r["bytes_written"] != self.BYTES for r in rows):
            return  # before the pause, or after it
        if self.first is None:
            if all(r["owner_confidence"] == ("reader" if r["direction"] == "incoming" else "connect") for r in rows):
                self.first = rows
            return
        self.looks += 1
        for was, now in zip(self.first, rows):
            # Told in real time, which may be slewed meanwhile.
            same = abs(was["opened_at"] - now["opened_at"]) < 1e8 and {**was, "opened_at": 0} == {**now, "opened_at": 0}
            if not same and not self.bad:
                self.bad = f"{was} became {now}"


def ringside_grid():
    all_scenarios = scenarios()
    with t.Daemon() as d:
        d.enable("netflow", "interval=1s")
        idle = Idle(d)
        try:
            run_all(all_scenarios, each=idle.look)
            t.true(idle.looks >= 5 and not idle.bad, f"idle connections, {idle.looks} looks: {idle.bad}")
            time.sleep(2.5)
            return {(sc.name, side): measure_until(d, sc, side) for sc in all_scenarios for side in sc.sides}
        finally:
            for sc in all_scenarios:
                sc.kill()


def measure_until(d, sc, side, tries=4):
    """A busy host is late with its last rows: looks again where something is missing."""
    if sc.skipped:
        return Cells(f"n/a: {sc.skipped}", "", "")
    for _ in range(tries):
        cells = measure(d, sc, side)
        if all(rank(v) == 2 or (side, k) in sc.why for k, v in cells.items()):
            break
        time.sleep(1)
    return cells


def rank(cell):
    if cell in ("yes", "exact"):
        return 2
    return 1 if cell.startswith(("part", "off")) else 0


def main(argv):
    t.need_root()
    t.need_programs("ip", "nft")
    import document
    with t.netns_pair(A, B, "10.99.74", "fd99:74"):
        t.run("ip", "netns", "exec", A, "sysctl", "-qw", "net.ipv4.ping_group_range=0 0")
        if "--peers" in argv:
            import peers
            document.write_peers(DOC, peers.run_tools(), scenarios())
            return 0
        cells = ringside_grid()
    if "--write" in argv:
        document.write_grid(DOC, cells, scenarios())
        return 0
    return document.compare(DOC, cells, scenarios())


if __name__ == "__main__":
    sys.modules["grid"] = sys.modules["__main__"]
    sys.exit(main(sys.argv[1:]))
