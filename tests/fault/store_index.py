#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# A segment gets its indexes when it is sealed: kill -9 in the middle of that leaves it sound and the next start makes them; a
# disk that is full leaves them out, counts and says so, and loses nothing.
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from store import MIB, Driver, is_sealed, rows_of, segments, wait_sealed, wait_segments

SEGMENT_ROWS = 60000
WANTED = {"netflow_by_pid", "netflow_by_dst_ip", "strings_by_s"}


def indexes_of(path):
    db = sqlite3.connect("file:%s?mode=ro" % path, uri=True, timeout=10)
    try:
        return {r[0] for r in db.execute("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")}
    finally:
        db.close()


def uses_index(path):
    db = sqlite3.connect("file:%s?mode=ro" % path, uri=True, timeout=10)
    try:
        plan = db.execute("EXPLAIN QUERY PLAN SELECT * FROM netflow WHERE pid = 417").fetchone()[3]
        many = db.execute("SELECT count(*) FROM netflow_data WHERE pid = 417").fetchone()[0]
        scan = db.execute("SELECT count(*) FROM netflow_data NOT INDEXED WHERE pid = 417").fetchone()[0]
        assert many == scan > 0, (many, scan)
        return "netflow_by_pid" in plan
    finally:
        db.close()


def check_rows(ring, rows):
    ts = [t for path in segments(ring) for t in rows_of(path)]
    assert len(ts) == rows and ts == list(range(ts[0], ts[0] + rows)), (len(ts), rows)


def killed(base):
    """At several moments of it; at least once before all were made."""
    halves = 0
    for turn in range(6):
        ring = base + "/ring%d" % turn
        d = Driver(ring, 1 << 30, max_rows=7 * SEGMENT_ROWS)
        d.push(SEGMENT_ROWS)
        d.push(500)
        first = segments(ring)[0]
        wait_segments(ring, 2)
        time.sleep(0.03 * turn)
        d.kill()
        copy = base + "/copy"  # the next start shall find what the kill left
        os.mkdir(copy)
        for name in os.listdir(ring):
            if name.startswith(os.path.basename(first)) and not name.endswith("-shm"):
                shutil.copy(ring + "/" + name, copy)
        half = not is_sealed(first) and indexes_of(copy + "/" + os.path.basename(first)) != WANTED
        shutil.rmtree(copy)
        halves += half
        d = Driver(ring, 1 << 30, max_rows=7 * SEGMENT_ROWS)
        wait_sealed(ring)
        s = d.close()
        assert indexes_of(first) == WANTED, indexes_of(first)
        assert uses_index(first)
        assert s["quarantined"] == 0 and s["unindexed"] == 0 and not d.told("damaged"), (s, d.events)
        assert not half or s["indexed"] >= 1, s
        check_rows(ring, SEGMENT_ROWS + 500)
        shutil.rmtree(ring)
    assert halves, "no kill was early enough"
    print("6 kills, %d before all indexes were made: they were made at the next start" % halves, flush=True)


def stopped(base):
    """An end that doesn't wait for indexes: the next start makes them."""
    ring = base + "/ring"
    d = Driver(ring, 1 << 30, max_rows=7 * SEGMENT_ROWS)
    d.push(SEGMENT_ROWS)
    d.push(500)
    d.close()
    d = Driver(ring, 1 << 30, max_rows=7 * SEGMENT_ROWS)
    wait_sealed(ring)
    d.close()
    assert indexes_of(segments(ring)[0]) == WANTED
    check_rows(ring, SEGMENT_ROWS + 500)
    shutil.rmtree(ring)


def full(mnt):
    ring, ballast = mnt + "/ring", mnt + "/ballast"
    d = Driver(ring, 1 << 30, max_rows=7 * SEGMENT_ROWS)
    d.push(SEGMENT_ROWS - 500)
    v = os.statvfs(mnt)
    with open(ballast, "wb", buffering=0) as f:  # room for rows, but not for indexes
        f.write(bytes(v.f_bavail * v.f_frsize - 3 * MIB))
    d.push(1000)
    wait_segments(ring, 2)
    d.wait_told("unindexed")
    wait_sealed(ring)
    s = d.stats()
    assert s["unindexed"] >= 1, s
    first = segments(ring)[0]
    assert not indexes_of(first) and not uses_index(first)
    check_rows(ring, SEGMENT_ROWS + 500)
    os.unlink(ballast)
    d.push(SEGMENT_ROWS)
    wait_segments(ring, 3)
    wait_sealed(ring)
    before, s = s, d.close()
    assert s["unindexed"] == before["unindexed"] and s["lost"] == 0 and s["evicted"] == 0 and s["quarantined"] == 0, s
    sealed = [path for path in segments(ring) if is_sealed(path)]
    assert s["indexed"] >= 1 and indexes_of(sealed[-1]) == WANTED, (s, sealed)
    check_rows(ring, 2 * SEGMENT_ROWS + 500)
    print("disk full: sealed without indexes, told and counted; the next one has them", flush=True)


def main():
    base = tempfile.mkdtemp(prefix="ringside-index-")
    mnt = None
    try:
        killed(base)
        stopped(base)
        if os.geteuid() != 0:
            print("needs root to mount a tmpfs")
            sys.exit(77)
        r = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m,mode=0700", "ringside-test", base], stderr=subprocess.PIPE, text=True)
        if r.returncode:
            print("cannot mount a tmpfs here: %s" % r.stderr.strip())
            sys.exit(77)
        mnt = base
        full(mnt)
    finally:
        if mnt:
            subprocess.run(["umount", "-l", mnt], check=False)
        shutil.rmtree(base, ignore_errors=True)


main()
