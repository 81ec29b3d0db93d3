#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What must be left out is left out of the noisiest cgroup first: a quiet one's events are all there meanwhile, each as one row."""

import contextlib
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ringside as t  # noqa: E402
from eventload import EventLoad  # noqa: E402

NOISE = 120000  # signals a second: more than a small ring holds
BUSY = 30000  # the same where all may become rows
QUIET = 1009  # signals, at 200 a second


def cgroup2():
    for path in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        if os.path.exists(path + "/cgroup.controllers"):
            return path
    t.skip("no hierarchy of cgroup2 is mounted")


class Group:
    """A cgroup of our own with one workload in it."""

    def __init__(self, stack, name):
        self.path = f"/rs-sample-{os.getpid()}-{name}"
        directory = cgroup2() + self.path
        try:
            os.mkdir(directory)
        except OSError as e:
            t.skip(f"no cgroup can be made: {e}")
        stack.callback(self.remove, directory)
        self.id = os.stat(directory).st_ino
        self.load = stack.enter_context(EventLoad("signal"))
        self.pid = self.load.pid
        with open(directory + "/cgroup.procs", "w") as f:
            f.write(str(self.pid))

    @staticmethod
    def remove(directory):
        """Who was in it takes a moment to be gone."""
        end = time.monotonic() + 5
        while True:
            try:
                return os.rmdir(directory)
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)


@contextlib.contextmanager
def groups():
    with contextlib.ExitStack() as stack:
        yield Group(stack, "noisy"), Group(stack, "quiet")


def quiet_is_whole(d, quiet, began, lost=0):
    """Its rows since then: all, each for itself, but for what may have been lost."""
    t.wait_until(lambda: d.one(f"SELECT count(*) FROM signal WHERE pid = {quiet.pid} AND ts > {began}") >= QUIET - lost, 15, "rows of the quiet cgroup")
    got = d.sql(f"SELECT count(*) AS n, min(sample_rate) AS least, max(sample_rate) AS most, count(DISTINCT cgroup_id) AS groups, "
                f"min(cgroup_id) AS cgroup FROM signal WHERE pid = {quiet.pid} AND ts > {began}")[0]
    t.true(QUIET - lost <= got["n"] <= QUIET, f"rows of the quiet cgroup: {got}, {lost} lost")
    t.equal(got, {"n": got["n"], "least": 1, "most": 1, "groups": 1, "cgroup": quiet.id}, "rows of the quiet cgroup")


def noisy_is_scaled(d, noisy, rate, began, ended):
    """Its rows in that time, each for many: together what there was."""
    got = d.sql(f"SELECT min(sample_rate) AS least, sum(sample_rate) AS events FROM signal "
                f"WHERE pid = {noisy.pid} AND ts > {began} AND ts < {ended}")[0]
    t.true(got["least"] > 1, f"rows of the noisy cgroup say how many they stand for: {got}")
    want = rate * (ended - began) / 1e9
    t.true(abs(got["events"] / want - 1) < 0.2, f"sums can be scaled: {got}, {want:.0f} were made")
    return got["least"]


def losses(d):
    p = d.plugin("signal")
    return p["kernel_drops"] + p["rows_dropped"]


def balanced(d, noisy, quiet, made):
    """Each signal is a row, was left out or was lost."""
    def settled():
        p = d.plugin("signal")
        return d.one(f"SELECT count(*) FROM signal WHERE pid IN ({noisy.pid}, {quiet.pid})") + p["rows_dropped"] == p["rows"] and p
    p = t.wait_until(settled, 15, "all rows stored")
    t.equal(p["rows"] + p["kernel_drops"] + p["sampled"], made, "rows, losses and what was left out")
    t.true(p["sampled"] > 0, "something was left out")
    d.wait_sql(f"SELECT 1 FROM ledger WHERE plugin = 'signal' GROUP BY plugin HAVING sum(sampled) = {p['sampled']} AND "
               f"sum(seen - filtered) = {made} AND sum(rows) = {p['rows']}", 20, "the ledger says the same")
    return p


def overloaded_ring():
    """A ring that is too small for the noisy one's signals."""
    with groups() as (noisy, quiet), t.Daemon() as d:
        d.enable("signal", "ring_size=64KiB", f"pids={noisy.pid},{quiet.pid}")
        n = 9 * NOISE
        noisy.load.start(n, NOISE)
        event = d.wait_sql("SELECT * FROM daemon_events WHERE event = 'plugin_sampling' AND subject = 'signal'", 5)[0]
        t.contains(event["detail"], f"events of cgroup {noisy.id} ({noisy.path}), which makes ", "the event names the cgroup")
        t.contains(event["detail"], "its ring buffer was full", "and why")
        time.sleep(1)
        before, began = losses(d), time.time_ns()
        quiet.load.run(QUIET, 200)
        ended = time.time_ns()
        # On a host that is busy with something else the ring may still be full now and then.
        lost = losses(d) - before
        noisy.load.wait()
        quiet_is_whole(d, quiet, began, lost)
        rate = noisy_is_scaled(d, noisy, NOISE, began, ended)
        p = balanced(d, noisy, quiet, n + QUIET)
        back = "event = 'plugin_sampling' AND detail LIKE '%has room again%'"
        last = t.wait_until(lambda: (e := d.sql(f"SELECT detail FROM daemon_events WHERE {back} ORDER BY ts DESC LIMIT 1")) and
                            e[0]["detail"].startswith("every event") and e, 60, "every event again", 1)
        print(f"ring: 1 in {rate} of the noisy cgroup, {p['sampled']} left out, {p['kernel_drops']} lost, {lost} of them meanwhile; at last {last[0]['detail']}")


def governed():
    """A budget for the programs that the noisy one's signals would break."""
    with groups() as (noisy, quiet), t.Daemon('limit_recovery = "20s"\n') as d:
        d.enable("signal", "ring_size=16MiB", f"pids={noisy.pid},{quiet.pid}")
        n = 25 * BUSY
        noisy.load.start(n, BUSY)
        time.sleep(4)
        usage = d.one("SELECT usage FROM governor WHERE resource = 'kernel_cpu'")
        if usage is None:
            t.skip("the run time of BPF programs can't be measured here")
        t.true(usage > 4, f"the load costs {usage} millicores")
        # Enough for what a signal that is left out costs, not for those that aren't.
        d.cli("limits", "set", f"kernel_cpu_limit={usage * 0.9 / 1000:.3f}")
        first = d.wait_sql("SELECT * FROM governor_decisions WHERE cgroup_id IS NOT NULL ORDER BY ts", 15)[0]
        t.equal((first["act"], first["plugin"], first["resource"], first["cgroup_id"], first["cgroup"], first["rate"]),
                ("sample", "signal", "kernel_cpu", noisy.id, noisy.path, 1), "the decision")
        t.true(first["cgroup_rate"] > 1 and first["events"] >= first["cgroup_events"] > BUSY / 2, f"its numbers: {first}")
        t.contains(first["message"], f"events of cgroup {noisy.id} ({noisy.path}), which makes ", "and in words")
        step = d.sql(f"SELECT * FROM governor_decisions WHERE ts < {first['ts']} AND act = 'sample' ORDER BY ts DESC LIMIT 1")[0]
        t.contains(step["message"], f"signal: {first['message']}", "in the step's own row")
        t.true(step["value"] > 0.8 * step["limit_value"], "what led to it")
        t.true(d.sql(f"SELECT 1 FROM daemon_events WHERE event = 'plugin_sampling' AND actor = 'governor' AND detail = '{first['message']}'"), "an event")
        t.contains(d.log(), f"of cgroup {noisy.id} ({noisy.path})", "the journal")
        time.sleep(4)
        began = time.time_ns()
        quiet.load.run(QUIET, 200)
        ended = time.time_ns()
        t.contains(d.cli("limits"), "of cgroup", "watchers and the command line")
        noisy.load.wait()
        quiet_is_whole(d, quiet, began)
        rate = noisy_is_scaled(d, noisy, BUSY, began, ended)
        p = balanced(d, noisy, quiet, n + QUIET)
        last = d.wait_sql("SELECT * FROM governor_decisions WHERE act = 'unsample' AND plugin = 'signal' AND cgroup_id IS NULL", 60, "every event again")[-1]
        t.equal((last["message"], last["rate"], last["cgroup"]), ("every event", 1, None), "the end of it")
        steps = len(d.sql("SELECT 1 FROM governor_decisions WHERE act = 'sample' AND plugin = 'signal'"))
        print(f"governor: {usage} millicores; after {steps} steps 1 in {rate} of the noisy cgroup, {p['sampled']} left out, {p['kernel_drops']} lost")


def main():
    t.need_root()
    for check in (overloaded_ring, governed):
        if len(sys.argv) < 2 or check.__name__ in sys.argv:
            check()


if __name__ == "__main__":
    main()
