#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# A ring on a file system of 48 MiB: fills it, is filled up from outside, recovers by itself, says so and counts to the row.
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from store import MIB, Driver, rows_of, segments, wait_segments


def avail(path):
    v = os.statvfs(path)
    return v.f_bavail * v.f_frsize


def fill(f):
    """To the last page."""
    for size in (64 * 1024, 4096):
        try:
            while True:
                f.write(bytes(size))
        except OSError:
            pass


class Hog:
    """Somebody else who takes all that is free, and what becomes free."""

    def __init__(self, path):
        self.path = path
        self.f = open(path, "wb", buffering=0)
        self.end = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.end.wait(0.001):
            fill(self.f)

    def stop(self):
        self.end.set()
        self.thread.join()
        self.f.close()
        os.unlink(self.path)


def sound(ring):
    return sum(len(rows_of(path)) for path in segments(ring))


def own_growth(mnt):
    """A limit far above the disk: the reserve holds, nothing is lost."""
    ring = mnt + "/ring"
    d = Driver(ring, 1 << 30, 6 * MIB)
    least = avail(mnt)
    for _ in range(60):
        d.say("push 20000")
        assert d.flush() == 0
        least = min(least, avail(mnt))
    s = d.close()
    assert s["rows"] == 1200000 and s["lost"] == 0 and s["refused"] == 0, s
    assert s["evicted"] > 3, s
    rows = sound(ring)
    assert rows * 110 > 24 * MIB, "only %d rows were kept" % rows
    assert least > MIB, "only %d bytes were left free" % least
    print("own growth: %d rows pass, %d kept, least free %.1f MiB" % (s["rows"], rows, least / MIB), flush=True)
    shutil.rmtree(ring)


def no_reserve(mnt):
    """No reserve: SQLITE_FULL in the middle of writing is cured by evicting."""
    ring = mnt + "/ring"
    ballast = mnt + "/ballast"
    with open(ballast, "wb") as f:
        f.write(bytes(8 * MIB))
    d = Driver(ring, 1 << 30, 0)
    told = 0
    for i in range(60):
        d.say("push 20000")
        assert d.flush() == 0, (d.events, d.stats())
        # From one moment to the next nothing is left; once more if a file that went for another reason made room.
        if i >= 25 and (told == 0 or i in (35, 45)):
            with open(ballast, "ab", buffering=0) as f:
                fill(f)
        d.stats()
        told = len(d.told("disk_full"))
    s = d.close()
    assert s["rows"] + s["lost"] + s["refused"] == 1200000, s
    assert s["lost"] == 0, s
    assert s["state"] == "ok", s
    assert s["errors"] > 0 and d.told("disk_full"), (s, d.events)
    sound(ring)
    print("no reserve: %d errors survived, %d evicted, told: %d" % (s["errors"], s["evicted"], len(d.told("disk_full"))),
          flush=True)
    os.unlink(ballast)
    shutil.rmtree(ring)


def while_indexing(mnt):
    """The oldest file is the one that gets its indexes: what is evicted is room only when the sealer lets go of it. No row is lost,
    and what can be left out costs no history."""
    ring = mnt + "/ring"
    ballast = mnt + "/ballast"
    most = 0
    for turn in range(8):
        d = Driver(ring, 1 << 30, 0, max_rows=7 * 60000)
        d.push(60500)
        wait_segments(ring, 2)
        d.push(60000)
        wait_segments(ring, 3)
        time.sleep(0.02 * turn)
        with open(ballast, "wb", buffering=0) as f:
            fill(f)
        for _ in range(4):
            d.push(5000)
        s = d.close()
        assert s["lost"] == 0 and s["rows"] == 140500 and s["state"] == "ok" and s["errors"] > 0, (s, d.events)
        # A WAL of 4 MiB and 20000 rows: no more than one of those files has, with its WAL.
        assert len(d.told("disk_full")) <= 1, (s, d.events)
        most = max(most, len(d.told("disk_full")))
        sound(ring)
        os.unlink(ballast)
        shutil.rmtree(ring)
    print("while indexing: 8 times full, nothing lost, %d of 2 segments evicted at most" % most, flush=True)


def filled_from_outside(mnt):
    """Somebody else takes all that is left: rows are dropped and counted; when there's room again it goes on by itself."""
    ring = mnt + "/ring"
    ballast = mnt + "/ballast"
    d = Driver(ring, 24 * MIB, 0)
    pushed = 30000
    d.say("push 30000")
    assert d.flush() == 0
    hog = Hog(ballast)  # also what eviction frees is taken at once
    try:
        for _ in range(30):
            d.say("try 5000")
            pushed += 5000
            d.flush()
            s = d.stats()
            if s["lost"] and s["state"].startswith("disk full since"):
                break
        else:
            raise AssertionError("never full: %s, %s" % (s, d.events))
        d.say("try 5000")
        pushed += 5000
        time.sleep(1.2)
    finally:
        hog.stop()
    for _ in range(50):
        d.say("push 1000")
        pushed += 1000
        d.flush()
        s = d.stats()
        if s["state"] == "ok":
            break
        time.sleep(0.1)
    assert s["state"] == "ok", s
    d.say("push 20000")
    pushed += 20000
    assert d.flush() == 0
    s = d.close()
    assert s["rows"] + s["lost"] + s["refused"] == pushed, (s, pushed)
    assert d.told("disk_full"), d.events
    assert d.told("recovered"), d.events
    sound(ring)
    lost = 0
    for path in segments(ring):
        db = sqlite3.connect("file:%s?mode=ro" % path, uri=True)
        lost += db.execute("SELECT lost FROM segment_tables").fetchone()[0]
        db.close()
    assert lost == s["lost"] + s["refused"], (lost, s)
    print("filled from outside: %d stored, %d lost, %d refused of %d; %s"
          % (s["rows"], s["lost"], s["refused"], pushed, d.told("recovered")[0]), flush=True)
    shutil.rmtree(ring)


def main():
    if os.geteuid() != 0:
        print("needs root to mount a tmpfs")
        sys.exit(77)
    mnt = tempfile.mkdtemp(prefix="ringside-full-")
    r = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m,mode=0700", "ringside-test", mnt],
                       stderr=subprocess.PIPE, text=True)
    if r.returncode:
        os.rmdir(mnt)
        print("cannot mount a tmpfs here: %s" % r.stderr.strip())
        sys.exit(77)
    try:
        own_growth(mnt)
        no_reserve(mnt)
        while_indexing(mnt)
        filled_from_outside(mnt)
    finally:
        subprocess.run(["umount", "-l", mnt], check=False)
        os.rmdir(mnt)


main()
