#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Power is lost at many moments of writing, rotating and sealing; of each disk that this may leave (unsynced writes missing,
# there or torn) the next start makes a sound ring again, with every row that was acknowledged before its segment's last sync.
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading

BUILD = os.environ["RINGSIDE_BUILD"]
CUTS, EVERY = 96, 53


def segments(ring):
    return sorted(n for n in os.listdir(ring) if n.startswith("flow-") and n.endswith(".db"))


def rows_of(path):
    """ts of every row, after checking what else the file says."""
    db = sqlite3.connect(path)
    try:
        answer = db.execute("PRAGMA integrity_check").fetchone()[0]
        assert answer == "ok", (path, answer)
        rows = [r[0] for r in db.execute("SELECT ts FROM netflow_data ORDER BY ts")]
        told = db.execute("SELECT rows FROM segment_tables WHERE name = 'netflow'").fetchone()[0]
        assert len(rows) == told, (path, len(rows), told)
        unknown = db.execute("SELECT count(*) FROM netflow WHERE dst_ip IS NULL OR process_name IS NULL").fetchone()[0]
        assert not unknown, (path, "%d rows with ids that aren't in the dictionary" % unknown)
        return rows
    finally:
        db.close()


def events_of(out):
    """What was told but for the time that a transaction takes: that is the machine's, and the copying's."""
    return [line for line in out.splitlines() if line.startswith("event ") and not line.startswith("event slow_disk ")]


def check(base):
    full, cut = base + "/full", base + "/cut"
    synced = dict((line.split()[0], int(line.split()[1])) for line in open(base + "/synced"))
    p = subprocess.run([BUILD + "/tests/store_driver", cut, str(1 << 30), "0", "0"], input="push 100\nflush\nquit\n",
                       stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    assert "flushed 0" in p.stdout, p.stdout
    assert not events_of(p.stdout), p.stdout
    lost = 0
    for name in segments(full):
        sealed = not os.path.exists("%s/%s-wal" % (full, name))
        want = rows_of("%s/%s" % (full, name))
        have = set(rows_of("%s/%s" % (cut, name)))
        upto = want[-1] if sealed and want else synced.get(name + "-wal", 0)
        missing = [ts for ts in want if ts <= upto and ts not in have]
        assert not missing, (base, name, "%d rows of %d that were synced are gone" % (len(missing), len(want)))
        lost += len([ts for ts in want if ts not in have])
        kept = [ts for ts in want if ts in have]
        assert kept == want[:len(kept)], (base, name, "a hole in what is left")
    return lost


def main():
    base = tempfile.mkdtemp(prefix="ringside-power-")
    try:
        out = subprocess.run([BUILD + "/tests/store_power", base, str(4711), str(CUTS), str(EVERY)],
                             stdout=subprocess.PIPE, text=True, timeout=120, check=True).stdout
        # Rows may come faster than indexes are made beside all the copying: said once, and nothing else.
        events = events_of(out)
        assert len(events) <= 1 and all(e.startswith("event unindexed ") and "rows come faster" in e for e in events), out
        cuts = sorted(os.listdir(base + "/cuts"), key=int)
        assert len(cuts) == CUTS, (len(cuts), out)
        lost, failures, lock = [], [], threading.Lock()

        def work():
            while True:
                with lock:
                    if not cuts:
                        return
                    name = cuts.pop(0)
                try:
                    lost.append(check("%s/cuts/%s" % (base, name)))
                except Exception as e:
                    failures.append("cut %s: %r" % (name, e))

        threads = [threading.Thread(target=work) for _ in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if failures:
            sys.exit("\n".join(failures))
        assert any(lost), "no cut lost an unsynced row: nothing was tested"
        print("%d power losses: sound, nothing synced lost; unsynced rows lost: %d at most; %s"
              % (CUTS, max(lost), out.strip().splitlines()[-1]))
    finally:
        shutil.rmtree(base, ignore_errors=True)


main()
