# SPDX-License-Identifier: Apache-2.0
"""The same grid for other tools: each runs beside all scenarios once, in the client's namespace where it looks at an interface."""

import collections
import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

import grid

# What each direction may be off by and still be called right: 1%.
CLOSE = 0.01

BPFTRACE = """
tracepoint:sock:sock_send_length /args->ret > 0 && args->family != 1 && args->family != 16/ { @s[pid, comm, args->protocol] = sum(args->ret); }
tracepoint:sock:sock_recv_length /args->ret > 0 && args->family != 1 && args->family != 16/ { @r[pid, comm, args->protocol] = sum(args->ret); }
"""


def run_scenarios(tool):
    all_scenarios = grid.scenarios()
    for sc in all_scenarios:  # new ports, so that no tool meets an old connection
        sc.port += 100 * (1 + tool.index)
    try:
        grid.run_all(all_scenarios)
    finally:
        for sc in all_scenarios:
            sc.kill()
    return {sc.name: sc for sc in all_scenarios}


class Tool:
    """A tool that ran. amount() gives {pid or None: [sent, received]} of one side, or None where it doesn't look."""

    argv, program, index = (), "", 0
    mounts_tracefs = False
    note = ""

    def __init__(self):
        self.failed, self.out, self.ran = None, "", {}

    def about(self):
        return self.note + (f" It didn't run here: {self.failed}" if self.failed else "")

    def run(self):
        if not shutil.which(self.program):
            self.failed = "it isn't installed"
            return
        with tempfile.TemporaryDirectory() as d, open(os.path.join(d, "out"), "w+") as out:
            self.dir = d
            argv = list(self.command())
            if self.mounts_tracefs:
                argv = ["unshare", "-m", "sh", "-c", 'mountpoint -q /sys/kernel/tracing || mount -t tracefs t /sys/kernel/tracing; exec "$@"', "sh", *argv]
            p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
            try:
                time.sleep(4)
                if p.poll() is None:
                    self.ran = run_scenarios(self)
                    time.sleep(2)
                    self.finish(p)
                else:
                    self.failed = "ended at once"
            finally:
                if p.poll() is None:
                    p.kill()
                p.wait()
                self.cleanup()
            out.seek(0)
            self.out = out.read()
            if self.failed:
                self.failed += f": {self.out.strip().splitlines()[-1] if self.out.strip() else 'no output'}"
            else:
                self.parse()

    def finish(self, p):
        p.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            p.wait(10)

    def cleanup(self):
        pass

    def parse(self):
        raise NotImplementedError

    def cell(self, asked, side):
        sc = self.ran.get(asked.name)
        if self.failed or not sc or sc.skipped:
            return "n/a"
        got = self.amount(sc, side)
        if got is None:
            return "-"
        if not got:
            return "no"
        want = sc.truth[side]
        who = set(got)
        owner = "no owner" if who == {None} else "owner" if who == sc.owners[side] else "part of the owners" if who & sc.owners[side] else "wrong owner"
        diffs = []
        for i, (key, word) in enumerate((("tx", "sent"), ("rx", "received"))):
            total = sum(v[i] for v in got.values())
            if abs(total - want[key]) > CLOSE * want[key] or (not want[key] and total):
                diffs.append(f"{word} {grid.off(total, want[key])}")
        return f"{owner}, {', '.join(diffs) or 'bytes within 1%'}"


class Nethogs(Tool):
    program, index = "nethogs", 0
    note = "`nethogs -t -C -v 2`, packets on the client's interface, put down to processes by /proc; whole packets with their headers."

    def command(self):
        return ["ip", "netns", "exec", grid.A, "nethogs", "-t", "-C", "-v", "2", "-d", "1", "veth0"]

    def parse(self):
        self.pids = {}
        for line in self.out.splitlines():
            m = re.match(r".*/(\d+)/\d+\t([\d.]+)\t([\d.]+)$", line)
            if m:
                self.pids[int(m[1])] = [float(m[2]), float(m[3])]

    def amount(self, sc, side):
        if side == "server" or sc.transport not in ("tcp", "udp"):
            return None
        return {pid: v for pid, v in self.pids.items() if pid in sc.owners[side]}


class Tcplife(Tool):
    program, index, mounts_tracefs = "tcplife", 1, True
    note = "`tcplife` of libbpf-tools, a line for each TCP connection that ended; whole KiB."

    def command(self):
        return ["stdbuf", "-oL", "tcplife"]

    def parse(self):
        self.lines = []
        for line in self.out.splitlines():
            f = line.split()
            if len(f) >= 9 and f[0].isdigit():
                self.lines.append((int(f[0]), f[-7], int(f[-6]), int(f[-4]), float(f[-3]) * 1024, float(f[-2]) * 1024))

    def amount(self, sc, side):
        if sc.transport != "tcp":
            return None
        got = collections.defaultdict(lambda: [0, 0])
        for pid, local, lport, rport, tx, rx in self.lines:
            if (rport if side == "client" else lport) == sc.port and (lport != rport or (local == grid.HOST4A) == (side == "client")):
                got[pid][0] += tx
                got[pid][1] += rx
        return dict(got)


class Softflowd(Tool):
    program, index = "softflowd", 2
    note = "`softflowd` on the client's interface into `nfcapd`, read with `nfdump`: flows without processes; whole IP packets."

    def command(self):
        self.ctl = os.path.join(self.dir, "ctl")
        flows = os.path.join(self.dir, "flows")
        os.mkdir(flows)
        self.collector = subprocess.Popen(["ip", "netns", "exec", grid.A, "nfcapd", "-b", "127.0.0.1", "-p", "9995", "-l", flows, "-t", "60"],
                                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)
        return ["ip", "netns", "exec", grid.A, "softflowd", "-d", "-6", "-v", "9", "-i", "veth0", "-n", "127.0.0.1:9995", "-c", self.ctl,
                "-p", os.path.join(self.dir, "pid")]

    def finish(self, p):
        subprocess.run(["softflowctl", "-c", self.ctl, "shutdown"], capture_output=True, check=False)
        with contextlib.suppress(subprocess.TimeoutExpired):
            p.wait(10)
        time.sleep(1)

    def cleanup(self):
        self.collector.terminate()
        self.collector.wait()
        self.flows = subprocess.run(["nfdump", "-R", os.path.join(self.dir, "flows"), "-q", "-o", "fmt:%pr|%sa|%da|%sp|%dp|%byt", "-N", "-6"],
                                    capture_output=True, text=True, check=False).stdout

    def parse(self):
        self.rows = []
        for line in self.flows.splitlines():
            f = [x.strip() for x in line.split("|")]
            if len(f) == 6 and f[5].isdigit():
                self.rows.append(f)

    def amount(self, sc, side):
        if side == "server":
            return None
        up = down = 0
        for proto, src, _, sport, dport, size in self.rows:
            if sc.transport in ("tcp", "udp"):
                if proto not in {"tcp": ("TCP", "6"), "udp": ("UDP", "17")}[sc.transport]:
                    continue
                if str(sc.port) in (sport, dport):
                    mine = dport == str(sc.port) if dport != sport else src == grid.HOST4A
                    up, down = (up + int(size), down) if mine else (up, down + int(size))
            elif proto in {"icmp": ("ICMP", "1"), "raw": ("253",)}.get(sc.transport, ()):
                up += int(size) if src == grid.HOST4A else 0
                down += int(size) if src == grid.HOST4 else 0
        return {None: [up, down]} if up or down else {}


class Bpftrace(Tool):
    program, index, mounts_tracefs = "bpftrace", 3, True
    note = "a `bpftrace` script that adds up the results of the tracepoints sock_send_length and sock_recv_length by process: no ports, no peers."

    def command(self):
        return ["bpftrace", "-e", BPFTRACE]

    def parse(self):
        self.pids = collections.defaultdict(lambda: [0, 0])
        for way, pid, size in re.findall(r"^@([sr])\[(\d+), scenarios, \d+\]: (\d+)$", self.out, re.M):
            self.pids[int(pid)][way == "r"] += int(size)

    def amount(self, sc, side):
        return {pid: v for pid, v in self.pids.items() if pid in sc.owners[side]}


def run_tools():
    tools = {}
    for index, kind in enumerate((Nethogs, Tcplife, Softflowd, Bpftrace)):
        tool = kind()
        tool.index = index
        tool.run()
        print(f"{tool.program}: {tool.failed or 'ran'}")
        tools[tool.program] = tool
    return tools
