#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""access_log: one row for each query, watch and snapshot, with who, what, how much and how it ended; of a watch one more when it begins."""
import os
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ringside import CLI, Daemon, equal, need_root, true, wait_until  # noqa: E402

QUERIES = 5


def popen(d, *args, **kw):
    return subprocess.Popen([CLI, "--socket", d.socket, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)


def rows(d, where):
    return d.sql(f"SELECT * FROM access_log WHERE {where} ORDER BY ts")


def wait_rows(d, where, n):
    wait_until(lambda: len(rows(d, where)) >= n, 10, f"{n} rows where {where}")
    time.sleep(1.2)
    got = rows(d, where)
    equal(len(got), n, f"rows where {where}")
    return got


def queries(d):
    pids = []
    for i in range(QUERIES):
        p = popen(d, "-o", "tsv", "sql", f"SELECT value, {i} mine FROM json_each('[1,2,3]')")
        p.communicate(timeout=60)
        equal(p.returncode, 0, "exit")
        pids.append(p.pid)
    got = wait_rows(d, "sql LIKE '%mine FROM json_each%' AND sql NOT LIKE '%access_log%'", QUERIES)
    for i, r in enumerate(got):
        equal((r["method"], r["transport"], r["uid"], r["pid"], r["exe"], r["subject"], r["address"], r["rows"], r["status"],
               r["sql"], r["truncated"]),
              ("Query", "unix", os.getuid(), pids[i], os.path.realpath(CLI), None, None, 3, "OK",
               f"SELECT value, {i} mine FROM json_each('[1,2,3]')", False), "a query")
        true(r["bytes"] > 20 and r["duration"] > 0 and abs(r["ts"] / 1e9 - time.time()) < 120, f"figures of {r}")


def failures(d):
    d.cli("sql", "SELECT nope_a", code=1)
    d.cli("--timeout", "1s", "sql", "WITH RECURSIVE c(slow_b) AS (SELECT 1 UNION ALL SELECT slow_b + 1 FROM c) SELECT max(slow_b) FROM c",
          code=1)
    p = popen(d, "sql", "WITH RECURSIVE c(slow_c) AS (SELECT 1 UNION ALL SELECT slow_c + 1 FROM c) SELECT max(slow_c) FROM c")
    time.sleep(1.5)
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=60)
    # Who ends a call first at its deadline is a race of the two ends.
    for mark, status in (("nope_a", ("INVALID_ARGUMENT",)), ("slow_b", ("DEADLINE_EXCEEDED", "CANCELLED")),
                         ("slow_c", ("CANCELLED",))):
        r = wait_rows(d, f"instr(sql, '{mark}') AND NOT instr(sql, 'access' || '_log')", 1)[0]
        true(r["rows"] == 0 and r["status"] in status, f"{mark}: {r}")
    long = "SELECT 1 /* mark_d " + "ü" * 2000 + " */"
    d.cli("sql", long)
    r = wait_rows(d, "instr(sql, 'mark_d') AND NOT instr(sql, 'access' || '_log')", 1)[0]
    equal((r["truncated"], long.startswith(r["sql"]), len(r["sql"].encode()) in (1023, 1024)), (True, True, True), "a long statement")
    d.cli("sql", "SELECT 1 /* mark_e password=hunter2 */")
    equal(wait_rows(d, "instr(sql, 'mark_e') AND NOT instr(sql, 'access' || '_log')", 1)[0]["sql"], "SELECT 1 /* mark_e password=[redacted] */",
          "a secret in a statement")


def streams(d):
    d.cli("watch", "plugins", "--max-rows", "2", "--where", "1 + 1 = 2")
    begun, r = wait_rows(d, "method = 'WatchRows'", 2)
    equal((begun["sql"], begun["rows"], begun["bytes"], begun["duration"], begun["status"], begun["pid"]), (r["sql"], 0, 0, 0, "STARTED", r["pid"]), "its begin")
    true(abs(r["ts"] - r["duration"] - begun["ts"]) < 10**9, f"begin and end of a watch: {begun}, {r}")
    d.cli("watch", "nothing_like_that", code=1)
    equal({r["status"] for r in wait_rows(d, "method = 'WatchRows' AND sql LIKE '%nothing_like%'", 1)}, {"NOT_FOUND"}, "a watch that wasn't let in")
    equal((r["sql"], r["rows"], r["status"]), ("SELECT * FROM plugins WHERE 1 + 1 = 2", 2, "OK"), "a watch")
    path = os.path.join(d.dir, "a.db")
    total = d.cli("-o", "tsv", "snapshot", "--table", "capabilities,daemon_events", path).splitlines()[1].split("\t")[2]
    r = wait_rows(d, "method = 'Snapshot'", 1)[0]
    equal((r["sql"], str(r["rows"]), r["status"]), ("SELECT * FROM capabilities; SELECT * FROM daemon_events", total, "OK"), "a snapshot")


def recursion(d):
    """Reading the log is one read, however much it says; watching it doesn't feed itself."""
    time.sleep(1.5)  # rows come within a second
    before = d.one("SELECT count(*) FROM access_log")
    time.sleep(3)
    equal(d.one("SELECT count(*) FROM access_log"), before + 1, "rows of one read")
    p = popen(d, "-o", "json", "watch", "access_log", "--for", "6s")
    time.sleep(1)
    d.cli("sql", "SELECT 'mark_f'")
    seen = p.communicate(timeout=60)[0].decode().splitlines()
    true(1 <= len(seen) <= 4 and any("mark_f" in x for x in seen), f"rows that a watcher of the log saw: {seen}")


def others(d):
    """A reader that is there when the daemon stops, and one from another program."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(d.socket)  # says nothing: nothing is read
    p = popen(d, "watch", "daemon_events")
    r = wait_rows(d, "method = 'WatchRows' AND sql = 'SELECT * FROM daemon_events'", 1)[0]
    equal((p.poll(), r["status"], r["pid"]), (None, "STARTED", p.pid), "a watch that goes on")
    d.restart()
    p.communicate(timeout=60)
    r = wait_rows(d, "method = 'WatchRows' AND sql = 'SELECT * FROM daemon_events'", 2)[1]
    true(r["status"] in ("UNAVAILABLE", "CANCELLED") and r["pid"] == p.pid, f"a watch at the stop: {r}")


def switched_off(d):
    with open(d.config_path, "w") as f:
        f.write("access_log = false\n")
    d.cli("config", "reload")
    time.sleep(1.2)
    before = d.one("SELECT count(*) FROM access_log")
    time.sleep(1.2)
    equal(d.one("SELECT count(*) FROM access_log"), before, "rows while it is off")
    with open(d.config_path, "w") as f:
        f.write("")
    d.cli("config", "reload")
    time.sleep(1.2)
    d.cli("sql", "SELECT 'mark_g'")
    wait_rows(d, "instr(sql, 'mark_g') AND NOT instr(sql, 'access' || '_log')", 1)


def main():
    need_root()
    with Daemon() as d:
        queries(d)
        failures(d)
        streams(d)
        recursion(d)
        others(d)
        switched_off(d)
    print("access_log: ok")


main()
