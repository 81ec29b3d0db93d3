#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A ring that is too small for what comes: a part is seen all the time, rows say how large a part, and it ends by itself."""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ringside as t  # noqa: E402
from eventload import EventLoad  # noqa: E402

# A ring of 64 KiB holds some 450 signals, and is read a hundred times a second while it fills fast.
RATE = 120000
N = 600011


def sampling_events(d):
    return d.sql("SELECT * FROM daemon_events WHERE event = 'plugin_sampling' AND subject = 'signal' ORDER BY ts")


def overload(d, load):
    """Until it has sampled for more than a second, since a fast machine keeps up for long; how many signals that took."""
    for runs in range(1, 6):
        load.run(N, RATE)
        time.sleep(0.5)
        end = d.one(f"SELECT max(ts) FROM signal WHERE pid = {load.pid}")
        if any(e["ts"] < end - 1.2e9 for e in sampling_events(d)):
            return runs * N
    raise AssertionError("it never samples")


def check_overload(d, load):
    n = overload(d, load)
    t.contains(sampling_events(d)[0]["detail"], "its ring buffer was full", "why")
    p = d.plugin("signal")
    rows = t.wait_until(lambda: d.one(f"SELECT count(*) FROM signal WHERE pid = {load.pid}") == d.plugin("signal")["rows"] and d.plugin("signal")["rows"],
                        10, "all rows stored")
    t.equal(rows + p["kernel_drops"] + p["sampled"], n, "each signal is a row, was sampled out or lost")
    t.true(p["sampled"] > 0, "some were sampled out")
    # Once it samples, next to nothing is lost: the last second has rows all through, which together stand for what there was.
    end = d.one(f"SELECT max(ts) FROM signal WHERE pid = {load.pid}")
    last = d.sql(f"SELECT count(*) AS n, sum(sample_rate) AS events, min(sample_rate) AS least FROM signal "
                 f"WHERE pid = {load.pid} AND ts > {end - 10**9}")[0]
    t.true(last["least"] > 1, f"rows say so: {last}")
    t.true(abs(last["events"] / RATE - 1) < 0.25, f"sums can be scaled: {last} of {RATE}")
    tenths = d.one(f"SELECT count(DISTINCT ts / 100000000) FROM signal WHERE pid = {load.pid} AND ts > {end - 10**9}")
    t.true(tenths >= 9, f"rows in {tenths} tenths of the last second")
    t.true(d.one("SELECT min(sample_rate) FROM signal") == 1, "every one at first")


def check_back(d, load):
    """Calm: step by step back to all."""
    step = len([e for e in sampling_events(d) if "has room again" in e["detail"]])
    t.equal(step, 0, "steps back under load")
    t.wait_until(lambda: any("has room again" in e["detail"] for e in sampling_events(d)), 30, "a step back", 0.5)


def main():
    t.need_root()
    with t.Daemon() as d, EventLoad("signal") as load:
        d.enable("signal", "ring_size=64KiB", f"pids={load.pid}")
        check_overload(d, load)
        check_back(d, load)


if __name__ == "__main__":
    main()
