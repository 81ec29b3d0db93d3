#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# A disk that turns slow, one whose file system turns read-only, and a clock that jumps: the store stays up, nobody who pushes
# waits, every row is stored or counted, and events say what happened.
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from store import MIB, Driver, rows_of, segments, wait_sealed

HOUR = 3600


def slow_disk(base):
    """40 ms a write and a sync: transactions take seconds, the queue takes what it can, the rest is refused at once."""
    d = Driver(base + "/ring", 64 * MIB, max_rows=7 * 20000)
    d.push(1000)
    d.say("slow 40")
    pushed = 1000
    end = time.monotonic() + 5
    while time.monotonic() < end:
        d.say("try 5000")
        pushed += 5000
        time.sleep(0.1)
    s = d.stats()
    assert s["refused"] > 0, s
    assert s["push_ms_max"] < 500, s
    d.wait_told("slow_disk")
    d.say("slow 0")
    d.flush()
    d.say("push 5000")
    pushed += 5000
    assert d.flush() == 0
    s = d.close()
    assert s["rows"] + s["refused"] + s["lost"] == pushed and s["lost"] == 0, (s, pushed)
    assert sum(len(rows_of(p)) for p in segments(base + "/ring")) == s["rows"]
    shutil.rmtree(base + "/ring")
    print("slow disk: %d of %d rows stored, the others refused and counted; longest transaction %d ms, longest push %d ms; %s"
          % (s["rows"], pushed, s["commit_ms_max"], s["push_ms_max"], d.told("slow_disk")[0]), flush=True)


def mount(image, where):
    r = subprocess.run(["mount", "-o", "loop", image, where], stderr=subprocess.PIPE, text=True)
    if r.returncode:
        print("no loop mount here: %s" % r.stderr.strip())
        return False
    return True


def make_fs(base):
    image = base + "/image"
    with open(image, "wb") as f:
        f.truncate(64 * MIB)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    return image


def read_only(base):
    """ext4 gives up on an error and turns read-only under open files; later it's mounted again."""
    mnt = base + "/mnt"
    os.mkdir(mnt)
    image = make_fs(base)
    if not mount(image, mnt):
        return
    ring = mnt + "/ring"
    try:
        d = Driver(ring, 32 * MIB, max_rows=7 * 2000)
        for _ in range(5):
            d.push(1500)
        wait_sealed(ring)
        kept = {os.path.basename(p): rows_of(p) for p in segments(ring)[:-1]}
        os.sync()
        synced = rows_of(segments(ring)[-1])
        pushed = 7500
        subprocess.run(["mount", "-o", "remount,abort", mnt], check=True)
        for _ in range(6):
            d.say("try 1500")
            pushed += 1500
            d.flush()
            time.sleep(0.4)
        s = d.stats()
        assert s["state"].startswith("cannot write"), s
        assert s["lost"] > 0 and s["rows"] + s["lost"] + s["refused"] == pushed, (s, pushed)
        assert d.told("write_failed"), d.events
        assert len(d.events) < 12, "told too often: %s" % d.events
        assert s["segments"] >= len(segments(ring)), (s, segments(ring))
        s = d.close()
        assert s["quarantined"] == 0, s
        lost, told = s["lost"], len(d.events)
        subprocess.run(["umount", mnt], check=True)
        subprocess.run(["e2fsck", "-p", image], stdout=subprocess.DEVNULL, check=False)
        assert mount(image, mnt)
        d = Driver(ring, 32 * MIB, max_rows=7 * 2000)
        d.push(100)
        s = d.close()
        assert s["quarantined"] == 0 and not d.events, (s, d.events)
        for name, rows in kept.items():
            path = ring + "/" + name
            assert not os.path.exists(path) or rows_of(path) == rows, name
        have = set(ts for p in segments(ring) for ts in rows_of(p))
        assert not [ts for ts in synced if ts not in have], "rows that were synced are gone"
        print("read-only: %d rows counted as lost, all that was synced is there after the next mount; told %d times"
              % (lost, told), flush=True)
    finally:
        subprocess.run(["umount", "-l", mnt], check=False, stderr=subprocess.DEVNULL)


def cut_power(base):
    """The file system stops in the middle of writing, as without power; what was synced is there after the next mount."""
    mnt = base + "/power"
    os.mkdir(mnt)
    image = make_fs(base)
    if not mount(image, mnt):
        return
    ring = mnt + "/ring"
    goingdown = 0x8004587d  # EXT4_IOC_SHUTDOWN, as XFS_IOC_GOINGDOWN
    try:
        import fcntl
        import struct
        for turn in range(4):
            d = Driver(ring, 32 * MIB, max_rows=7 * 3000)
            d.push(2000 + 700 * turn)
            last = d.stats()["last_ts"]
            fd = os.open(mnt, os.O_RDONLY)
            os.sync()
            d.say("push 3000")
            d.say("push 3000")
            time.sleep(0.03 * turn)
            fcntl.ioctl(fd, goingdown, struct.pack("I", 2))  # without writing the journal
            os.close(fd)
            d.kill()
            subprocess.run(["umount", mnt], check=True)
            assert mount(image, mnt)
            d = Driver(ring, 32 * MIB, max_rows=7 * 3000)
            assert d.next > last, (d.next, last)
            d.push(10)
            s = d.close()
            assert s["quarantined"] == 0 and not d.events, (s, d.events)
            rows = [ts for p in segments(ring) for ts in rows_of(p)]
            assert rows == list(range(rows[0], rows[-1] + 1)), "a hole"
        print("4 power cuts of a real file system: sound, nothing synced lost", flush=True)
    finally:
        subprocess.run(["umount", "-l", mnt], check=False, stderr=subprocess.DEVNULL)


def clock(base):
    """Ahead by a year: not everything is old at once. Back by a year: ts goes on rising, and it is said."""
    ring = base + "/ring"
    d = Driver(ring, 64 * MIB, max_rows=7 * 1000, max_age=7 * HOUR)
    for _ in range(4):
        d.say("now 1000")
        assert d.flush() == 0
    wait_sealed(ring)
    before = d.stats()
    d.say("clock %d" % (365 * 24 * HOUR))
    d.say("now 100")
    assert d.flush() == 0
    d.wait_told("clock_jump")
    time.sleep(1.5)
    s = d.stats()
    assert s["evicted"] == before["evicted"], (before, s)
    d.say("clock %d" % (-365 * 24 * HOUR))
    for _ in range(3):
        d.say("now 100")
        assert d.flush() == 0
    time.sleep(1.2)
    s = d.stats()
    assert s["bumped"] == 300, s
    assert len(d.told("clock_jump")) == 2, d.events
    s = d.close()
    rows = [ts for p in segments(ring) for ts in rows_of(p)]
    assert len(rows) == 4400 and rows == sorted(set(rows)), (len(rows), s)
    # With the right clock again, the newest rows are of next year.
    d = Driver(ring, 64 * MIB, max_rows=7 * 1000, max_age=7 * HOUR)
    d.say("now 100")
    assert d.flush() == 0
    d.wait_told("clock_jump")
    s = d.close()
    assert s["evicted"] == 0 and s["bumped"] == 100, s
    shutil.rmtree(ring)
    print("clock: a year ahead, two back: nothing dropped, ts rises; %s" % d.told("clock_jump")[0], flush=True)


def main():
    if "RINGSIDE_MOUNTS" not in os.environ and os.geteuid() == 0:
        # Mounts of our own, which end with us.
        os.execvpe("unshare", ["unshare", "-m", "--propagation", "private", sys.executable, os.path.abspath(__file__)],
                   dict(os.environ, RINGSIDE_MOUNTS="1"))
    base = tempfile.mkdtemp(prefix="ringside-disk-")
    try:
        clock(base)
        slow_disk(base)
        if os.geteuid() == 0 and shutil.which("mkfs.ext4"):
            read_only(base)
            cut_power(base)
        else:
            print("read-only and power cut: need root and mkfs.ext4")
    finally:
        shutil.rmtree(base, ignore_errors=True)


main()
