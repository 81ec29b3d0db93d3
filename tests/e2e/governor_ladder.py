#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The ladder under real work: connections that make BPF programs cost more than their budget while the daemon itself does next to nothing."""

import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ringside as t  # noqa: E402

try:
    import grpc  # noqa: F401
    GRPC = True
except ImportError:
    GRPC = False

# Connects to itself until its input is closed; at most three minutes.
STORM = """
import select, socket, sys, time
listener = socket.create_server(("127.0.0.1", 0), backlog=64)
address, end = listener.getsockname(), time.monotonic() + 180
print("ready", flush=True)
while time.monotonic() < end:
    for _ in range(50):
        a = socket.create_connection(address)
        b, _ = listener.accept()
        a.sendall(b"x" * 100)
        a.close()
        b.close()
    if select.select([sys.stdin], [], [], 0)[0]:
        break
"""
# A thousandth of a core: less than such a storm costs, more than an idle host does.
LIMIT = "0.001"


class Watchers:
    """Both watch calls of the API, read by threads: what they were told."""

    def __init__(self, d):
        import api
        client = api.Client(api.channel("unix:" + d.socket))
        self.plugins, self.events = [], []
        self.calls = [client.stream("PluginService/WatchPlugins", timeout=120),
                      client.stream("GovernorService/WatchGovernor", interval=60 * 10**9, timeout=120)]
        takes = [lambda m: self.plugins.extend((p.name, p.reason) for p in m.plugins), lambda m: self.events.append(m.governor.last_event)]
        self.threads = [threading.Thread(target=self.read, args=args) for args in zip(self.calls, takes)]
        for thread in self.threads:
            thread.start()

    def read(self, call, take):
        import grpc
        try:
            for m in call:
                take(m)
        except grpc.RpcError:
            pass  # cancelled at the end

    def close(self):
        for call in self.calls:
            call.cancel()
        for thread in self.threads:
            thread.join()


class Storm:
    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, "-c", STORM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        t.equal(self.process.stdout.readline().strip(), "ready", "storm")
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def need_run_time(d):
    row = d.sql("SELECT usage FROM governor WHERE resource = 'kernel_cpu'")
    if row[0]["usage"] is None:
        t.skip("the run time of BPF programs can't be measured here")


def decisions(d, where="1"):
    return d.sql(f"SELECT * FROM governor_decisions WHERE {where} ORDER BY ts")


def shed_plugins(d):
    return {r["name"]: r["reason"] for r in d.sql("SELECT name, reason FROM plugins WHERE reason LIKE 'shed by the governor: %'")}


def check_rungs():
    """All the way down and back: sampling, plugins one by one by priority, and back when it is calm again."""
    with t.Daemon('limit_recovery = "5s"\ncpu_limit = "1.9"\n') as d:
        d.enable("netflow")
        d.enable("sni")
        time.sleep(2.5)
        need_run_time(d)
        with Storm():
            time.sleep(3)
            before, start = cpu_seconds(d.pid), time.monotonic()
            set_at = time.time()
            d.cli("limits", "set", f"kernel_cpu_limit={LIMIT}")
            d.wait_sql("SELECT ts FROM governor_decisions", 5)
            late = decisions(d)[0]["ts"] / 1e9 - set_at
            t.true(late < 1.0, f"the limit was in force {late:.2f} s after it was set")
            t.wait_until(lambda: {"netflow", "sni"} <= set(shed_plugins(d)), 60, "both plugins shed", 0.5)
            own = (cpu_seconds(d.pid) - before) / (time.monotonic() - start)
            rows = decisions(d)
            t.equal({r["resource"] for r in rows}, {"kernel_cpu"}, "what led to it")
            t.true(all(r["value"] > r["limit_value"] * 0.8 for r in rows), "the numbers that led to it")
            steps = [r for r in rows if r["act"] == "sample"]
            t.true(len(steps) >= 2, f"steps of sampling: {rows}")
            t.contains(steps[0]["message"], "sni: 1 in 2 events", "first step")
            t.contains(steps[0]["message"], "netflow: every 20s", "first step")
            gone = [r["plugin"] for r in rows if r["act"] == "disable"]
            # sni has the lower priority, but may cost too little to be of help at first.
            t.equal(sorted(gone), ["netflow", "sni"], "disabled, each once")
            for name, reason in shed_plugins(d).items():
                t.contains(reason, "shed by the governor: kernel_cpu 0.", name)
                t.contains(reason, f"of {LIMIT} cores", name)
                t.equal(d.plugin(name)["state"], "disabled", name)
            events = d.sql("SELECT subject FROM daemon_events WHERE event = 'plugin_disabled' AND actor = 'governor'")
            t.equal(sorted(e["subject"] for e in events), ["netflow", "sni"], "audit rows of the plugins")
            lost = d.one("SELECT coalesce(sum(lost), 0) FROM loss WHERE plugin = 'sni' AND stage = 'sampled'")
            t.true(lost > 100, f"{lost} connections left out by sampling")
            t.contains(d.cli("limits"), "disabled", "last decision in the limits")
            print(f"first act {late:.2f} s after the limit; {len(steps)} steps, then {' and '.join(gone)}; "
                  f"{lost} connections sampled out; the daemon itself used {1000 * own:.0f} millicores")
        # With nothing attached the storm wouldn't matter; it is over all the same.
        t.wait_until(lambda: d.plugin("netflow")["state"] in ("running", "degraded") and
                     d.plugin("sni")["state"] in ("running", "degraded"), 40, "both back", 0.5)
        # On a slow host a decision can come while the last one is still starting: it has nothing left to do, and says so.
        back = [r["plugin"] for r in decisions(d, "act = 'enable' AND plugin IS NOT NULL")]
        t.equal(back, ["netflow", "sni"], "back by priority")
        d.wait_sql("SELECT 1 FROM governor_decisions WHERE from_state = 'sample' AND to_state = 'ok'", 40)
        t.true(decisions(d, "act = 'unsample'"), "sampling went step by step")
        t.equal(d.one("SELECT state FROM governor LIMIT 1"), "ok", "state")
        d.wait_sql("SELECT 1 FROM plugin_cost_history WHERE plugin = 'netflow' AND kernel_cpu > 0 AND run_time_avg > 0", 20)


def check_hands_on():
    """What people say about a plugin that was shed stands above the ladder; so does taking the limit away."""
    with t.Daemon(f'limit_recovery = "5s"\nkernel_cpu_limit = "{LIMIT}"\n') as d:
        d.enable("netflow")
        watchers = Watchers(d) if GRPC else None
        with Storm():
            t.wait_until(lambda: "netflow" in shed_plugins(d), 60, "netflow shed", 0.3)
        if watchers:
            try:
                t.wait_until(lambda: ("netflow", shed_plugins(d)["netflow"]) in watchers.plugins, 5, "netflow in WatchPlugins")
                t.wait_until(lambda: any("plugin netflow disabled" in e for e in watchers.events), 5, "the act in WatchGovernor")
            finally:
                watchers.close()
        d.cli("plugin", "disable", "netflow")
        t.equal(shed_plugins(d), {}, "disabled by hand")
        time.sleep(7)
        t.equal(d.plugin("netflow")["state"], "disabled", "it stays so")
        d.enable("netflow", "priority=10")
        with Storm():
            t.wait_until(lambda: "netflow" in shed_plugins(d), 60, "netflow shed again", 0.3)
            d.cli("limits", "set", "kernel_cpu_limit=")
            t.wait_until(lambda: d.plugin("netflow")["state"] in ("running", "degraded"), 5, "back without a limit")
        t.equal(decisions(d)[-1]["act"], "restore", "last act")
        t.contains(d.cli("-o", "json", "plugin", "show", "netflow"), '"option.priority":"10"', "options survive")


def check_mem():
    """Memory near its limit: what is free goes back, then the plugin that holds most, before the limit is reached."""
    with t.Daemon() as d:
        d.enable("sni")
        d.enable("netflow", "ring_size=64MiB")
        # What plugins take when they begin must not be what reaches the limit.
        seen = [0]

        def settled():
            seen.append(d.one("SELECT usage FROM governor WHERE resource = 'mem'"))
            return abs(seen[-1] - seen[-2]) < 1 << 20
        time.sleep(3)
        t.wait_until(settled, 30, "memory as it stays", 2)
        usage = seen[-1]
        d.cli("limits", "set", f"mem_limit={int(usage / 0.92)}")
        t.wait_until(lambda: "netflow" in shed_plugins(d), 30, "netflow shed", 0.5)
        t.contains(shed_plugins(d)["netflow"], "shed by the governor: mem ", "reason")
        t.equal([(r["resource"], r["act"], r["plugin"]) for r in decisions(d)],
                [("mem", "sample", None), ("mem", "disable", "netflow")], "acts")
        time.sleep(1.5)
        after = d.one("SELECT usage FROM governor WHERE resource = 'mem'")
        t.true(after < usage - (40 << 20), f"memory {usage} became {after}")
        t.equal(d.plugin("sni")["state"] in ("running", "degraded"), True, "sni, which holds little, runs on")
        print(f"memory {usage >> 20} MiB became {after >> 20} MiB")


def check_exit_and_start():
    """Out with 81, and the next start is one step down."""
    with t.Daemon(f'kernel_cpu_limit = "{LIMIT}"\nlimit_action = "exit"\n') as d:
        d.enable("netflow")
        with Storm():
            t.equal(d.wait(60), 81, "exit code")
        t.contains(d.log(), "exceeds kernel_cpu_limit 0.001: exit 81", "reason")
        with open(d.config_path, "w") as f:
            f.write('cpu_limit = "1.9"\n[plugins.netflow]\nenabled = true\n')
        d.start()
        row = d.wait_sql("SELECT * FROM governor_decisions WHERE message LIKE 'starting one step down%'", 10)[0]
        t.equal((row["from_state"], row["to_state"], row["act"]), ("ok", "sample", "sample"), "audit row")
        t.contains(row["message"], "exit 81", "why")
        t.contains(row["message"], "netflow: every 20s", "what")
        t.contains(d.log(), "starting one step down", "journal")
        t.equal(d.one("SELECT state FROM governor LIMIT 1"), "sample", "state")


def check_report():
    """Told, and nothing shed."""
    with t.Daemon(f'kernel_cpu_limit = "{LIMIT}"\nlimit_action = "report"\n') as d:
        d.enable("netflow")
        with Storm():
            row = d.wait_sql("SELECT * FROM governor_decisions", 20)[0]
            time.sleep(4)
        t.equal((row["act"], row["resource"], row["to_state"]), (None, "kernel_cpu", "ok"), "audit row")
        t.equal(shed_plugins(d), {}, "nothing shed")
        t.equal(d.plugin("netflow")["state"] in ("running", "degraded"), True, "netflow runs")


def main():
    t.need_root()
    check_rungs()
    check_hands_on()
    check_mem()
    check_exit_and_start()
    check_report()


if __name__ == "__main__":
    main()
