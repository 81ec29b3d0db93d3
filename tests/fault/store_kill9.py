#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# kill -9 in a write loop, fifty times: every file is sound and no acknowledged row is missing.
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

BUILD = os.environ["RINGSIDE_BUILD"]
ROUNDS = 50
ROWS_A_FLUSH = 1500


def start(ring):
    # Rotates each 10,000 rows, so that kills also fall into sealing and file changes.
    p = subprocess.Popen([BUILD + "/tests/store_driver", ring, str(1 << 30), "70000", "0"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    events = []
    for line in p.stdout:
        word, rest = line.split(maxsplit=1)
        if word == "ready":
            return p, int(rest), events
        events.append(line.strip())
    sys.exit("the driver didn't start")


def writer(p, acked, events):
    """Pushes and flushes until the process is gone; acked[0] is the last ts that was acknowledged."""
    try:
        while True:
            p.stdin.write("push %d\nflush\n" % ROWS_A_FLUSH)
            p.stdin.flush()
            while True:
                line = p.stdout.readline()
                if not line:
                    return
                word, *rest = line.split()
                if word == "flushed" and line.endswith("\n"):
                    assert rest[0] == "0", line
                    acked[0] = int(rest[1])
                    break
                events.append(line.strip())
    except (BrokenPipeError, ValueError):
        return


def check(ring, acked):
    """Integrity of each file; ts without a hole from the oldest kept row to beyond the last acknowledged one."""
    low = high = None
    count = 0
    for name in sorted(os.listdir(ring)):
        if not (name.startswith("flow-") and name.endswith(".db")):
            continue
        db = sqlite3.connect(ring + "/" + name)
        answer = db.execute("PRAGMA integrity_check").fetchone()[0]
        assert answer == "ok", (name, answer)
        n, a, b = db.execute("SELECT count(*), min(ts), max(ts) FROM netflow_data").fetchone()
        told = db.execute("SELECT rows FROM segment_tables WHERE name = 'netflow'").fetchone()[0]
        assert n == told, (name, n, told)
        unknown = db.execute("SELECT count(*) FROM netflow WHERE dst_ip IS NULL OR process_name IS NULL").fetchone()[0]
        assert unknown == 0, (name, "%d rows with ids that aren't in the dictionary" % unknown)
        db.close()
        if n:
            low = a if low is None else min(low, a)
            high = b if high is None else max(high, b)
            count += n
    if acked:
        assert high is not None and high >= acked, "acknowledged up to %d, stored up to %s" % (acked, high)
    if count:
        assert count == high - low + 1, "%d rows between %d and %d" % (count, low, high)
    return count


def main():
    random.seed(29)
    base = tempfile.mkdtemp(prefix="ringside-kill9-")
    ring = base + "/ring"
    acked, acks, opened = [0], 0, 0.0
    try:
        for turn in range(ROUNDS):
            begin = time.monotonic()
            p, first, events = start(ring)
            opened = max(opened, time.monotonic() - begin)
            assert first > acked[0], "starts at %d, acknowledged was %d" % (first, acked[0])
            before = acked[0]
            t = threading.Thread(target=writer, args=(p, acked, events))
            t.start()
            time.sleep(random.uniform(0.01, 0.35))
            p.send_signal(signal.SIGKILL)
            p.wait()
            t.join()
            p.stdout.close()
            acks += acked[0] > before
            bad = [e for e in events if "quarantined" in e or "damaged" in e]
            assert not bad, bad
            if turn % 10 == 9:
                copy = base + "/copy"  # what a look recovers, the next start shall recover itself
                shutil.copytree(ring, copy)
                rows = check(copy, acked[0])
                shutil.rmtree(copy)
                print("%d kills, %d rows kept, sound" % (turn + 1, rows), flush=True)
        assert acks > ROUNDS // 2, "only %d rounds acknowledged anything" % acks
        p, first, events = start(ring)
        assert first > acked[0]
        out, _ = p.communicate("push 100\nflush\nquit\n", timeout=60)
        assert "flushed 0" in out, out
        check(ring, acked[0])
        print("%d of %d rounds had acknowledged rows; slowest start %.0f ms" % (acks, ROUNDS, opened * 1000))
    finally:
        shutil.rmtree(base, ignore_errors=True)


main()
