#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a plugin costs, live and over time: its events, its time in the kernel and in the daemon, and the rows and bytes that are stored of it."""

import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ringside as t  # noqa: E402
from eventload import EventLoad  # noqa: E402

RATE = 3000
N = 24007  # for eight seconds


def on_disk(d):
    """Of a daemon that has ended: no log is left to be merged."""
    ring = os.path.join(d.state, "ring")
    return sum(os.path.getsize(os.path.join(ring, name)) for name in os.listdir(ring))


def live(d, load):
    """In the middle of a steady load: its rates."""
    load.start(N, RATE)
    time.sleep(6)
    row = d.sql("SELECT * FROM plugin_cost WHERE plugin = 'signal'")[0]
    for what in ("events", "rows", "rows_stored"):
        t.true(RATE * 0.6 < row[what] < RATE * 1.5, f"{what} a second: {row}")
    t.true(row["runs"] > RATE * 0.6, f"runs a second, for other processes too: {row}")
    t.true(10 < row["bytes_stored"] / row["rows_stored"] < 400, f"bytes of a row: {row}")
    t.true(row["kernel_cpu"] > 0 and row["user_cpu"] > 0 and row["run_time_avg"] > 50, f"times: {row}")
    t.true(abs(row["run_time_avg"] * row["runs"] / 1e6 / row["kernel_cpu"] - 1) < 0.01, f"a run's time and all runs': {row}")
    t.true(row["map_bytes"] > 0 and row["ring_bytes"] == 1 << 20 and row["sampled"] == 0 and row["shed_step"] == 0, f"the rest: {row}")
    load.wait()
    return row


def totals(d):
    """All of it, to the row; the list says the same as shares of the time."""
    p = t.wait_until(lambda: (p := d.plugin("signal"))["rows_stored"] == N and p, 10, "rows stored")
    t.equal((p["rows"], p["events"]), (N, N), "rows and events")
    listed = next(r for r in map(json.loads, d.cli("-o", "json", "plugin", "list").splitlines()) if r["name"] == "signal")
    t.true(listed["user_percent"] > 0 and listed["cpu_percent"] > 0, f"shares: {listed}")
    t.true(0 < listed["stored_per_s"] < RATE * 1.5 and abs(listed["events_per_s"] - listed["stored_per_s"]) <= RATE / 10, f"rates: {listed}")
    t.true(listed["bytes_per_s"] > listed["stored_per_s"], f"bytes: {listed}")
    t.true(all(r["stored_per_s"] is None for r in map(json.loads, d.cli("-o", "json", "plugin", "list").splitlines()) if r["state"] == "disabled"),
           "nothing of those that don't run")
    shown = d.cli("-o", "json", "plugin", "show", "signal")
    t.equal(json.loads(shown)["rows_stored"], N, "plugin show")
    return p["bytes_stored"]


def over_time(d, stored):
    d.wait_sql(f"SELECT 1 FROM plugin_cost_history WHERE plugin = 'signal' GROUP BY plugin HAVING sum(rows_stored) * 10 > {N * 0.9}", 25)
    got = d.sql("SELECT sum(rows_stored) * 10 AS rows, sum(bytes_stored) * 10 AS bytes FROM plugin_cost_history WHERE plugin = 'signal'")[0]
    # The first interval begins some time after the plugin; an interval is ten seconds but for its jitter.
    t.true(abs(got["rows"] / N - 1) < 0.1 and abs(got["bytes"] / stored - 1) < 0.1, f"over time {got}, in all {N} rows of {stored} bytes")


def main():
    t.need_root()
    with EventLoad("signal") as load, t.Daemon() as d:
        d.stop()
        before = on_disk(d)
        d.start()
        d.enable("signal", "ring_size=1MiB", f"pids={load.pid}")
        time.sleep(12)  # so that the first interval of its history is over
        row = live(d, load)
        stored = totals(d)
        over_time(d, stored)
        d.stop()
        grown = on_disk(d) - before
        # The rest is what the daemon says of itself meanwhile.
        # New texts of the dictionary count by their length; the page that they fill may have been there.
        t.true(0.75 * grown < stored <= grown + 4096, f"{stored} bytes are said to be stored, the files grew by {grown}")
        print(f"{stored / N:.0f} bytes a row, the files grew by {grown / N:.0f}; {row['run_time_avg']:.0f} ns a run, {row['kernel_cpu']:.1f} and "
              f"{row['user_cpu']:.1f} millicores")


if __name__ == "__main__":
    main()
