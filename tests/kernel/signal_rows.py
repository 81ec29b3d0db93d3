#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""1,009 signals sent in each way are that many rows with sender, target, cause and result; what is lost is counted."""
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ringside import Daemon, contains, equal, need_programs, need_root, true, wait_until, workload

N = 1009


def load(n=N):
    """Runs the workload to its end; its numbers."""
    # A debug build would look for leaks in a process of its own, which it stops by signals.
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    p = subprocess.run([workload("signalload"), str(n)], stdout=subprocess.PIPE, text=True, timeout=120, check=True, env=env)
    ids = {k: int(v) for k, v in (line.split() for line in p.stdout.splitlines())}
    return ids["self"], ids["child"], ids["thread"]


def rows(d, where, n):
    query = f"SELECT * FROM signal WHERE {where} ORDER BY ts"
    got = wait_until(lambda: len(r := d.sql(query)) >= n and r, 20, f"{n} rows where {where}", 0.2)
    equal(len(got), n, f"rows where {where}")
    return got


def facts(got, *columns):
    return {tuple(r[c] for c in columns) for r in got}


def exact(d):
    began = time.time_ns()
    me, child, thread = load()
    ended = time.time_ns()
    columns = ("pid", "tid", "tpid", "ttid", "code", "group", "result", "kernel", "comm", "tcomm", "uid", "tuid", "ppid")
    common = ("signalload", "signalload", 0, 0, os.getpid())
    # raise() sends to the thread itself; the second while the first waits changes nothing, so each is delivered.
    equal(facts(rows(d, f"pid = {me} AND tid = {me} AND name = 'SIGUSR1'", N), *columns),
          {(me, me, me, me, -6, False, "delivered", False, *common)}, "raise")
    equal(facts(rows(d, f"pid = {me} AND tid = {thread} AND signal = {signal.SIGUSR1:d}", N), *columns),
          {(me, thread, me, thread, -6, False, "delivered", False, *common)}, "tgkill")
    equal(facts(rows(d, f"pid = {me} AND name = 'SIGUSR2'", N), *columns),
          {(me, me, child, child, 0, True, "ignored", False, *common)}, "kill of a signal that is ignored")
    equal(facts(rows(d, f"pid = {me} AND name = 'SIGRTMIN'", N), *columns),
          {(me, me, child, child, -1, True, "delivered", False, *common)}, "sigqueue")
    got = rows(d, f"pid = {me} AND name = 'SIGHUP'", N)
    equal([r["result"] for r in got], ["delivered"] + ["already_pending"] * (N - 1), "blocked")
    equal([(r["tpid"], r["code"], r["group"]) for r in rows(d, f"pid = {me} AND name = 'SIGKILL'", 1)], [(child, 0, True)], "SIGKILL")
    got = rows(d, f"tpid = {me} AND name = 'SIGALRM'", 1)
    equal(facts(got, "code", "kernel", "result", "group"), {(128, True, "delivered", True)}, "timer")
    got = rows(d, f"tpid = {me} AND name = 'SIGCHLD'", 1)
    equal(facts(got, "pid", "code", "kernel", "result"), {(child, 2, True, "delivered")}, "the child's end: CLD_KILLED")
    # Nothing else came of it, and kill(pid, 0) isn't a signal. The timer's sender is whoever ran then.
    equal(d.one(f"SELECT count(*) FROM signal WHERE (pid = {me} OR tpid IN ({me}, {child})) AND name NOT IN ('SIGALRM', 'SIGCHLD')"),
          5 * N + 1, "all of them")
    ours = d.sql(f"SELECT ts FROM signal WHERE pid = {me}")
    true(all(began <= r["ts"] <= ended for r in ours), "times")


def faults(d):
    """Signals that a process brings on itself."""
    for code, name, cause in (("import ctypes; ctypes.string_at(0)", "SIGSEGV", 1), ("import os; os.abort()", "SIGABRT", -6)):
        p = subprocess.Popen([sys.executable, "-c", "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); " + code],
                             stderr=subprocess.DEVNULL)
        p.wait(20)
        equal(facts(rows(d, f"tpid = {p.pid} AND name = '{name}'", 1), "pid", "code"), {(p.pid, cause)}, name)
    p = subprocess.Popen(["/bin/sleep", "30"], user=65534)
    p.terminate()
    p.wait(10)
    equal(facts(rows(d, f"tpid = {p.pid} AND name = 'SIGTERM'", 1), "pid", "comm", "uid", "tuid", "tcomm"),
          {(os.getpid(), open("/proc/self/comm").read().strip(), 0, 65534, "sleep")}, "to another user's process")


def names(d):
    """All 64, by a process that ignores what can be ignored."""
    p = subprocess.Popen([sys.executable, "-c", "import signal, sys\nfor i in range(1, 65):\n"
                          "  if i not in (9, 19, 32, 33): signal.signal(i, signal.SIG_IGN)\nprint('ready', flush=True); sys.stdin.read()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    p.stdout.readline()
    sent = [i for i in range(1, 65) if i not in (9, 19, 32, 33)]
    for i in sent:
        os.kill(p.pid, i)
    p.communicate()
    got = rows(d, f"tpid = {p.pid} AND pid = {os.getpid()}", len(sent))
    equal([r["signal"] for r in got], sent, "numbers")
    for r in got:
        want = signal.Signals(r["signal"]).name if r["signal"] < 32 else None
        if want:
            equal(r["name"], {"SIGPOLL": "SIGIO", "SIGCLD": "SIGCHLD", "SIGIOT": "SIGABRT"}.get(want, want), "name")
    equal([r["name"] for r in got[-31:]], ["SIGRTMIN"] + [f"SIGRTMIN+{i}" for i in range(1, 30)] + ["SIGRTMAX"], "real-time names")


def filters(d):
    """By signal and by process, changed while the plugin runs."""
    me = os.getpid()
    p = subprocess.Popen([sys.executable, "-c", "import signal, sys\nfor i in (1, 10, 12): signal.signal(i, signal.SIG_IGN)\n"
                          "print('ready', flush=True); sys.stdin.read()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    p.stdout.readline()
    try:
        clear = ("signals=", "exclude_signals=", "pids=", "exclude_pids=", "comms=")
        for options, want in (((), [1, 10, 12]), (("signals=HUP,12",), [1, 12]), (("exclude_signals=sigusr1",), [1, 12]),
                              (("signals=1,10", "exclude_signals=10"), [1]), ((f"pids={me}",), [1, 10, 12]),
                              ((f"pids={p.pid}",), []), ((f"exclude_pids={me}",), []), (("comms=no-such-name",), [])):
            d.cli("plugin", "set", "signal", *clear)
            if options:
                d.cli("plugin", "set", "signal", *options)
            last = d.one("SELECT coalesce(max(ts), 0) FROM signal")
            for sig in (1, 10, 12):
                os.kill(p.pid, sig)
            time.sleep(0.5)
            equal([r["signal"] for r in d.sql(f"SELECT signal FROM signal WHERE tpid = {p.pid} AND ts > {last} ORDER BY ts")], want, str(options))
        d.cli("plugin", "set", "signal", *clear)
        for bad in ("signals=NOPE", "exclude_signals=65", "signals=0"):
            contains(d.cli("plugin", "set", "signal", bad, code=1), "isn't a signal", bad)
            d.cli("plugin", "set", "signal", *clear)
    finally:
        p.communicate()


def unseen(d):
    """What the daemon and its query workers do to each other makes no rows; what others send to the daemon does."""
    for _ in range(7):
        d.sql("SELECT count(*) FROM signal")
    equal(d.sql(f"SELECT * FROM signal WHERE pid = {d.pid} OR ppid = {d.pid} OR tpid = {d.pid}"), [], "the daemon's own")
    os.kill(d.pid, signal.SIGCONT)
    equal(facts(rows(d, f"tpid = {d.pid}", 1), "pid", "name"), {(os.getpid(), "SIGCONT")}, "sent to the daemon")


def loss():
    """A ring for a few hundred events that nobody reads: each one is a row or is counted."""
    with Daemon() as d:
        d.enable("signal", "ring_size=64KiB", "comms=signalload", "signals=USR1,USR2,RTMIN,HUP")
        d.process.send_signal(signal.SIGSTOP)
        try:
            me, _, _ = load()
        finally:
            d.process.send_signal(signal.SIGCONT)
        lost = wait_until(lambda: d.plugin("signal")["kernel_drops"], 10, "kernel_drops")
        true(0 < lost < 5 * N, f"{lost} lost")
        rows(d, f"pid = {me}", 5 * N - lost)
        wait_until(lambda: d.one("SELECT sum(lost) FROM loss WHERE plugin = 'signal'") == lost, 5, "the loss in its table")


def main():
    need_root()
    need_programs("sleep")
    with Daemon() as d:
        d.enable("signal", "ring_size=4MiB")
        exact(d)
        faults(d)
        names(d)
        filters(d)
        unseen(d)
        plugin = d.plugin("signal")
        equal((plugin["kernel_drops"], plugin["decode_errors"], plugin["rows_dropped"], plugin["missed_runs"]), (0, 0, 0, 0), "losses")
    loss()


if __name__ == "__main__":
    main()
