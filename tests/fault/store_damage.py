#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# A bit is flipped in each kind of page, of the WAL and of the shared memory; segments are removed and replaced under the
# store, one is of a newer version, a reader never ends. The store stays up, takes rows, and the damage stays in its segment:
# put aside, counted and told, or harmless.
import os
import random
import shutil
import sqlite3
import struct
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from store import MIB, Driver, is_sealed, rows_of, segments, wait_sealed

PAGE = 4096
KINDS = {2: "interior index", 5: "interior", 10: "leaf index", 13: "leaf"}


def pages(path):
    """Number of the first page of each kind there is."""
    found = {}
    with open(path, "rb") as f:
        data = f.read()
    trunk = struct.unpack(">I", data[32:36])[0]
    if trunk:
        found["freelist"] = trunk
    for no in range(2, len(data) // PAGE + 1):
        kind = data[(no - 1) * PAGE]
        if kind in KINDS:
            found.setdefault(KINDS[kind], no)
        elif kind == 0 and no != trunk and data[no * PAGE - 1] == ord("x"):
            found.setdefault("overflow", no)
    return found


def flip(path, at, bit=None):
    mode = os.stat(path).st_mode
    os.chmod(path, 0o600)
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ (1 << (random.randrange(8) if bit is None else bit))]))
    os.chmod(path, mode)


def make_ring(ring):
    """Three sealed segments, the first with overflow and free pages, and a live one whose WAL was left by a crash."""
    d = Driver(ring, 64 * MIB, max_rows=7 * 2000)
    for _ in range(3):
        d.push(2000)
    d.push(700)
    wait_sealed(ring)
    d.kill()
    first = segments(ring)[0]
    os.chmod(first, 0o600)
    db = sqlite3.connect(first)
    db.execute("INSERT INTO strings VALUES(900000, ?)", ("x" * 60000,))
    db.execute("CREATE TABLE gone(t)")
    db.executemany("INSERT INTO gone VALUES(?)", [("y" * 3000,)] * 20)
    db.execute("DROP TABLE gone")
    db.commit()
    db.close()
    os.chmod(first, 0o440)
    return len(segments(ring))


def readable(path):
    try:
        return rows_of(path)
    except (AssertionError, sqlite3.DatabaseError):
        return None


def start_and_check(ring, victim, what, must_be_found):
    """Everything but the victim is as it was; the victim is put aside if it must be."""
    others = {p: rows_of(p) for p in segments(ring) if p != victim and is_sealed(p)}
    d = Driver(ring, 64 * MIB, max_rows=7 * 2000)
    d.push(100)
    if must_be_found:
        d.wait_told("quarantined")
        assert victim in d.told("quarantined")[0], d.events
        assert not os.path.exists(victim) or victim == segments(ring)[-1], victim
        assert d.stats()["quarantined"] == 1, d.stats()
    d.push(100)
    s = d.close()
    assert s["lost"] == 0 and s["refused"] == 0 and s["quarantined"] <= 1, (what, s)
    for path, rows in others.items():
        assert rows_of(path) == rows, (what, path)
    assert rows_of(segments(ring)[-1]), what
    return s["quarantined"]


def sealed_pages(base):
    """A bit where each kind of page says what it is: always found."""
    make_ring(base + "/made")
    first = segments(base + "/made")[0]
    spots = {"header": 3, "schema": 100}
    for kind, no in pages(first).items():
        # Freelist: the number of leaves. Overflow: the next page. B-tree: its kind.
        spots[kind] = (no - 1) * PAGE + (4 if kind == "freelist" else 1 if kind == "overflow" else 0)
    missing = {"header", "schema", "interior", "leaf", "leaf index", "overflow", "freelist"} - set(spots)
    assert not missing, missing
    for kind, at in spots.items():
        ring = base + "/ring"
        shutil.copytree(base + "/made", ring)
        victim = segments(ring)[0]
        flip(victim, at, 6)
        # Nobody takes a free page from a sealed file; and what quick_check says of them differs by version.
        start_and_check(ring, victim, kind, kind != "freelist")
        shutil.rmtree(ring)
    print("%d kinds of pages of a sealed segment: found, put aside, told (free pages: harmless)" % len(spots), flush=True)


def anywhere(base):
    """Any bit of any segment: found or harmless, never more than the one segment."""
    found = 0
    for turn in range(12):
        ring = base + "/ring"
        shutil.copytree(base + "/made", ring)
        victim = segments(ring)[turn % 4]
        size = os.path.getsize(victim)
        flip(victim, random.randrange(min(size, 2 * PAGE)) if turn < 6 else random.randrange(size))
        found += start_and_check(ring, victim, "turn %d" % turn, False)
        shutil.rmtree(ring)
    print("12 bits anywhere: %d found at once" % found, flush=True)


def wal(base):
    """What the WAL loses is the end of one segment."""
    for at in (2, 20, 32 + 3, 32 + 17, 32 + 24 + 100, -2000):
        ring = base + "/ring"
        shutil.copytree(base + "/made", ring)
        victim = segments(ring)[-1]
        path = victim + "-wal"
        flip(path, at if at >= 0 else os.path.getsize(path) + at)
        with open(victim + "-shm", "wb") as f:  # of a process that is gone: not to be believed
            f.write(os.urandom(32768))
        start_and_check(ring, victim, "wal %d" % at, False)
        shutil.rmtree(ring)
    print("WAL header and frames, -shm: sound", flush=True)


def live_shm(base):
    """Shared memory of a running store: whatever it does to that segment, the ring goes on."""
    ring = base + "/ring"
    d = Driver(ring, 64 * MIB, max_rows=7 * 2000)
    for turn in range(10):
        d.push(300)
        live = segments(ring)[-1]
        if os.path.exists(live + "-shm"):
            flip(live + "-shm", random.randrange(136) if turn % 2 else random.randrange(136, 32768))
        d.say("push 300")
        d.flush()
    for _ in range(4):
        d.push(2000)
    s = d.close()
    assert s["rows"] + s["lost"] == 14000, s
    assert not s["lost"] or d.told("write_failed"), (s, d.events)
    shutil.rmtree(ring)
    print("-shm of the live segment: %d errors survived, %d lost, %d put aside" % (s["errors"], s["lost"], s["quarantined"]),
          flush=True)


def tamper(base):
    """Files are removed and replaced while the store runs."""
    ring = base + "/ring"
    d = Driver(ring, 64 * MIB, max_rows=7 * 2000)
    for _ in range(3):
        d.push(2000)
    d.push(300)
    wait_sealed(ring)
    first, second = segments(ring)[:2]
    os.unlink(first)
    with open(second + ".x", "wb") as f:
        f.write(os.urandom(100000))
    os.chmod(second + ".x", 0o440)
    os.rename(second + ".x", second)
    live = segments(ring)[-1]
    os.unlink(live)  # with its rows: what was in it is gone, what comes isn't
    d.wait_told("gone")
    d.push(500)
    live = segments(ring)[-1]
    assert rows_of(live)[-1] == d.stats()["last_ts"], "rows go into a file that nobody sees"
    with open(live + ".other", "wb") as f:
        f.write(b"not a database" * 1000)
    os.rename(live + ".other", live)
    time.sleep(1.1)
    d.push(10)
    assert rows_of(segments(ring)[-1])[-1] == d.stats()["last_ts"], "rows go into a file that nobody sees"
    for _ in range(9):  # all of them have their turn to be evicted
        d.push(2000)
    s = d.close()
    assert s["lost"] == 0, s
    assert len(segments(ring)) <= 7, segments(ring)
    for path in segments(ring):
        assert rows_of(path) is not None
    shutil.rmtree(ring)
    print("removed and replaced under it: told %s" % [e.split()[1] for e in d.events], flush=True)


def endless_reader(base):
    """Readers that hold a snapshot of each segment for ever: the ring keeps its bounds, they keep what they opened."""
    ring = base + "/ring"
    d = Driver(ring, 64 * MIB, max_rows=7 * 1000)
    readers = []
    for _ in range(12):
        d.push(500)
        db = sqlite3.connect("file:%s?mode=ro" % segments(ring)[-1], uri=True)
        db.isolation_level = None
        db.execute("BEGIN")
        readers.append((db, db.execute("SELECT count(*) FROM netflow").fetchone()[0]))
        d.push(600)
    assert len(segments(ring)) <= 7, segments(ring)
    for db, rows in readers:
        assert db.execute("SELECT count(*) FROM netflow").fetchone()[0] == rows
        db.close()
    d.push(1000)
    wait_sealed(ring)
    s = d.close()
    assert s["rows"] == 12 * 1100 + 1000 and s["lost"] == 0, s
    shutil.rmtree(ring)
    print("12 endless readers: %d evicted under them" % s["evicted"], flush=True)


def newer(base):
    """A segment of a version to come is kept, told and evicted in its turn, also by age."""
    ring = base + "/ring"
    shutil.copytree(base + "/made", ring)
    victim = segments(ring)[1]
    os.chmod(victim, 0o600)
    with open(victim, "r+b") as f:
        f.seek(60)
        f.write(struct.pack(">I", 99))
    os.chmod(victim, 0o440)
    d = Driver(ring, 64 * MIB, max_rows=7 * 2000, max_age=30 * 365 * 86400)
    d.push(10)
    assert victim in d.wait_told("newer_segment"), d.events
    assert os.path.exists(victim)
    for _ in range(8):
        d.push(2000)
    s = d.close()
    assert not os.path.exists(victim)
    assert s["lost"] == 0 and s["quarantined"] == 0, s
    shutil.rmtree(ring)
    print("newer version: kept, told, evicted in its turn", flush=True)


def main():
    random.seed(31)
    base = tempfile.mkdtemp(prefix="ringside-damage-")
    try:
        sealed_pages(base)
        anywhere(base)
        wal(base)
        live_shm(base)
        endless_reader(base)
        newer(base)
        tamper(base)
    finally:
        shutil.rmtree(base, ignore_errors=True)


main()
