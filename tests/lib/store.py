# SPDX-License-Identifier: Apache-2.0
"""A store on its own, driven by lines: what the tests of its faults share."""

import json
import os
import sqlite3
import subprocess
import time

MIB = 1 << 20


class Driver:
    """tests/store_driver on a ring. events: what the store told, as "event NAME TEXT"."""

    def __init__(self, ring, max_bytes, reserve=0, max_rows=0, max_age=0):
        self.p = subprocess.Popen([os.environ["RINGSIDE_BUILD"] + "/tests/store_driver", ring, str(max_bytes), str(max_rows),
                                   str(reserve), str(max_age)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.events = []
        self.next = int(self.read("ready"))

    def read(self, want):
        for line in self.p.stdout:
            word, rest = line.split(maxsplit=1)
            if word == want:
                return rest.strip()
            self.events.append(line.strip())
        raise AssertionError("the driver ended: %s" % self.events)

    def say(self, text):
        self.p.stdin.write(text + "\n")
        self.p.stdin.flush()

    def stats(self):
        self.say("stats")
        return json.loads(self.read("stats"))

    def flush(self):
        self.say("flush")
        return int(self.read("flushed").split()[0])

    def push(self, rows):
        """Stores rows and has them acknowledged."""
        self.say("push %d" % rows)
        code = self.flush()
        assert code == 0, (code, self.events)

    def close(self):
        self.say("quit")
        stats = json.loads(self.read("stats"))
        code = self.p.wait(timeout=60)
        assert code == 0, code
        self.p.stdin.close()
        self.p.stdout.close()
        return stats

    def kill(self):
        """Like a crash: the live segment keeps its WAL."""
        self.p.kill()
        self.p.wait()
        self.p.stdin.close()
        self.p.stdout.close()

    def told(self, event):
        return [e for e in self.events if e.startswith("event %s " % event)]

    def wait_told(self, event, timeout=30):
        end = time.monotonic() + timeout
        while not self.told(event):
            assert time.monotonic() < end, "no event %s within %d s: %s, %s" % (event, timeout, self.events, self.stats())
            self.stats()
            time.sleep(0.05)
        return self.told(event)[0]


def segments(ring):
    """Files of the flow ring, oldest first."""
    return [ring + "/" + n for n in sorted(os.listdir(ring)) if n.startswith("flow-") and n.endswith(".db")]


def is_sealed(path):
    return not os.stat(path).st_mode & 0o200


def wait_segments(ring, least, timeout=20):
    """A rotation comes behind the acknowledgement of the rows that cause it."""
    end = time.monotonic() + timeout
    while len(segments(ring)) < least:
        assert time.monotonic() < end, "no rotation"
        time.sleep(0.002)


def wait_sealed(ring, open_ones=1, timeout=20):
    end = time.monotonic() + timeout
    while sum(not is_sealed(p) for p in segments(ring)) > open_ones:
        assert time.monotonic() < end, "segments are not sealed"
        time.sleep(0.02)


def rows_of(path):
    """ts of all rows of a segment, which has to be sound."""
    db = sqlite3.connect("file:%s?mode=ro" % path, uri=True, timeout=10)
    try:
        answer = db.execute("PRAGMA quick_check").fetchone()[0]
        assert answer == "ok", (path, answer)
        return [r[0] for r in db.execute("SELECT ts FROM netflow_data ORDER BY ts")]
    finally:
        db.close()
