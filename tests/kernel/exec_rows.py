#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""1,009 programs started in each way, and their ends, are that many rows with the right values; what is lost is counted."""
# timeout: 300
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ringside import Daemon, contains, equal, need_programs, need_root, true, wait_until, workload

N = 1009
WAYS = ("execve", "execveat", "fexecve", "memfd", "untouched", "vfork", "posix_spawn")


def load(*args):
    """Runs the workload to its end; its pid and what it printed."""
    # A debug build would look for leaks in a process of its own.
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    p = subprocess.Popen([workload("execload"), *map(str, args)], stdout=subprocess.PIPE, text=True, env=env)
    out, _ = p.communicate(timeout=120)
    equal(p.returncode, 0, f"execload {args}")
    return p.pid, out


def rows(d, table, where, n):
    """That many rows, when they are there, and no more a moment later."""
    query = f"SELECT * FROM {table} WHERE {where} ORDER BY ts"
    got = wait_until(lambda: len(r := d.sql(query)) >= n and r, 20, f"{n} rows of {table} where {where}", 0.2)
    equal(len(got), n, f"rows of {table} where {where}")
    return got


def child(argv, wait=True, **kw):
    """A process of ours and its pid."""
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, **kw)
    if wait:
        p.wait(20)
    return p


def ways(d, home):
    program = os.path.join(home, "rs-ev-true")
    shutil.copy("/bin/true", program)
    for way in WAYS:
        began = time.time_ns()
        pid, _ = load(way, program, N)
        ended = time.time_ns()
        got = rows(d, "exec", f"ppid = {pid}", N)
        equal([r["argv"] for r in got], [f"{program} {way} {i}" for i in range(N)], f"{way}: arguments")
        equal({r["argc"] for r in got}, {3}, f"{way}: argc")
        equal({(r["exe"], r["deleted"]) for r in got},
              {("/memfd:rs-memory", True) if way == "memfd" else (program, False)}, f"{way}: executable")
        names = {r["filename"] for r in got}
        if way in ("fexecve", "memfd"):
            true(all(n.startswith("/dev/fd/") for n in names), f"{way}: file names {names}")
        elif way == "execveat":
            true(all(n.startswith("/dev/fd/") and n.endswith("/rs-ev-true") for n in names), f"{way}: file names {names}")
        else:
            equal(names, {program}, f"{way}: file names")
        equal({(r["parent"], r["uid"], r["euid"], r["gid"], r["truncated"], r["cwd"]) for r in got},
              {("execload", 0, 0, 0, False, os.getcwd())}, f"{way}: owner")
        if way not in ("fexecve", "memfd"):  # newer kernels name those by the file, older by the descriptor
            equal({r["comm"] for r in got}, {"rs-ev-true"}, f"{way}: names")
        true(all(r["pid"] == r["tid"] for r in got), f"{way}: threads")
        equal(len({r["pid"] for r in got}), N, f"{way}: processes")
        true(all(began <= r["ts"] <= ended for r in got), f"{way}: times")
        ends = rows(d, "exit", f"ppid = {pid}", N)
        equal([r["pid"] for r in ends], [r["pid"] for r in got], f"{way}: ends")
        equal({(r["status"], r["signal"], r["core_dumped"]) for r in ends}, {(0, None, False)}, f"{way}: status")
        lasted = {r["pid"]: r["duration"] for r in ends}
        true(all(0 < lasted[r["pid"]] < ended - began for r in got), f"{way}: durations")


def identity(d):
    """What the row says of its process is what /proc says."""
    p = child(["/bin/sleep", "30"], wait=False, cwd="/usr/share", user=65534, group=65533, extra_groups=[])
    try:
        got = rows(d, "exec", f"pid = {p.pid}", 1)[0]
        live = d.sql(f"SELECT * FROM processes WHERE pid = {p.pid}")
        equal(len(live), 1, "rows of processes")

        def number(name):
            with contextlib.suppress(FileNotFoundError):
                with open(f"/proc/{p.pid}/{name}") as f:
                    value = int(f.read())
                return None if value == 0xffffffff else value

        want = {"pid": p.pid, "ppid": os.getpid(), "comm": "sleep", "uid": 65534, "gid": 65533,
                "loginuid": number("loginuid"), "session_id": number("sessionid"),
                "mntns_id": os.stat(f"/proc/{p.pid}/ns/mnt").st_ino, "pidns_id": os.stat(f"/proc/{p.pid}/ns/pid").st_ino}
        equal({k: got[k] for k in want}, want, "row of exec")
        equal({k: live[0][k] for k in want}, want, "row of processes")
        equal((got["euid"], got["cwd"], got["filename"]), (65534, "/usr/share", "/bin/sleep"), "exec")
        equal(got["exe"], os.readlink(f"/proc/{p.pid}/exe"), "executable")
        equal((live[0]["state"], live[0]["threads"], live[0]["kernel"]), ("sleeping", 1, False), "state")
        with open(f"/proc/{p.pid}/stat") as f:
            ticks = int(f.read().rsplit(")", 1)[1].split()[19])
        boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        true(abs(live[0]["ts"] / 1e9 - boot - ticks / os.sysconf("SC_CLK_TCK")) < 0.1, "start time")
        os.kill(p.pid, signal.SIGSTOP)
        wait_until(lambda: d.one(f"SELECT state FROM processes WHERE pid = {p.pid}") == "stopped", 5, "state stopped")
    finally:
        p.kill()
        p.wait()
    end = rows(d, "exit", f"pid = {p.pid}", 1)[0]
    equal((end["status"], end["signal"], end["uid"]), (None, 9, 65534), "end")
    equal(d.sql(f"SELECT * FROM processes WHERE pid = {p.pid}"), [], "gone")
    equal(d.one("SELECT comm FROM processes WHERE pid = 2 AND kernel"), "kthreadd", "kernel thread")
    listed = {int(n) for n in os.listdir("/proc") if n.isdigit()}
    shown = {r["pid"] for r in d.sql("SELECT pid FROM processes")}
    again = {int(n) for n in os.listdir("/proc") if n.isdigit()}
    # A sandbox may keep its first process from iterators.
    equal(listed & again - {1} - shown, set(), "processes that aren't shown")


def texts(d, home):
    def argv_of(args, **kw):
        return rows(d, "exec", f"pid = {child(args, stdout=subprocess.DEVNULL, **kw).pid}", 1)[0]

    got = argv_of(["/bin/echo", "a b", "", "it's", "$HOME", "caf\u00e9", b"\xff\xfe!", "\n"])
    equal(got["argv"], "/bin/echo 'a b' '' 'it'\\''s' '$HOME' caf\u00e9 '\ufffd\ufffd!' '\n'", "quoted")
    equal(got["argc"], 8, "argc")
    # 4096 bytes are kept: "/bin/echo" NUL, then 4085 and a NUL.
    got = argv_of(["/bin/echo", "x" * 4085])
    equal((got["argv"], got["truncated"]), ("/bin/echo " + "x" * 4085, False), "longest")
    got = argv_of(["/bin/echo", "x" * 4086])
    equal((got["argv"], got["truncated"], got["argc"]), ("/bin/echo " + "x" * 4086, True, 2), "one byte more")
    got = argv_of(["/bin/echo", "x" * 4085 + "\u00e9", "more"])
    equal((got["argv"], got["truncated"], got["argc"]), ("/bin/echo " + "x" * 4085, True, 3), "half a character")
    got = argv_of(["/bin/echo"] + ["y" * 100] * 1009)
    equal((got["truncated"], got["argc"]), (True, 1010), "many")
    # Deep and odd directories; a script; a chroot's path is the one from outside.
    deep = home
    for i in range(29):
        deep = os.path.join(deep, f"{i:02}" + "d" * 60)
    os.makedirs(deep)
    odd = os.path.join(home, "two words\n\u00e9")
    os.makedirs(odd)
    equal(argv_of(["/bin/true"], cwd=deep)["cwd"], deep, "deep directory")
    equal(argv_of(["/bin/true"], cwd=odd)["cwd"], odd, "odd directory")
    equal(argv_of(["/bin/true"], cwd="/")["cwd"], "/", "root")
    equal(argv_of(["/bin/true"], cwd="/proc/self/net")["cwd"].split("/")[1], "proc", "across a mount")
    very = deep
    for i in range(60):
        very = os.path.join(very, "v")
    os.makedirs(very)
    cut = argv_of(["/bin/true"], cwd=very)["cwd"]
    true(cut.startswith(".../") and very.endswith(cut[3:]), f"too deep: {cut[:80]}")
    script = os.path.join(home, "script")
    with open(script, "w") as f:
        f.write("#!/bin/sh -e\nexit 3\n")
    os.chmod(script, 0o755)
    got = argv_of([script, "one"])
    equal((got["filename"], got["exe"], got["argv"], got["argc"]),
          (script, os.path.realpath("/bin/sh"), f"/bin/sh -e {script} one", 4), "script")
    equal(rows(d, "exit", f"pid = {got['pid']}", 1)[0]["status"], 3, "its end")


def environment(d):
    env = {"PATH": "/bin", "RS_ONE": "first value", "RS_ONES": "no", "SECRET": "hidden"}
    p = child(["/bin/true"], env=env)
    equal(rows(d, "exec", f"pid = {p.pid}", 1)[0]["env"], None, "no environment by default")
    d.cli("plugin", "set", "exec", "env=RS_ONE,MISSING,PATH")
    p = child(["/bin/true"], env=env)
    equal(rows(d, "exec", f"pid = {p.pid}", 1)[0]["env"], "'RS_ONE=first value' PATH=/bin", "listed variables")
    d.cli("plugin", "set", "exec", "env=", "args_max=64")
    p = child(["/bin/echo", "z" * 80], stdout=subprocess.DEVNULL, env=env)
    got = rows(d, "exec", f"pid = {p.pid}", 1)[0]
    equal((got["env"], got["argv"], got["truncated"]), (None, "/bin/echo " + "z" * 54, True), "64 bytes")
    d.cli("plugin", "set", "exec", "args_max=4KiB")


def ends(d, home):
    pid, _ = load("statuses", "/x", N)
    got = rows(d, "exit", f"ppid = {pid}", N)
    want = [(None, 9) if i % 7 == 6 else (None, 15) if i % 11 == 10 else (i % 256, None) for i in range(N)]
    equal([(r["status"], r["signal"]) for r in got], want, "statuses")
    # Threads: one end a process, however many come to it at once; the program a thread starts is its process's.
    pid, _ = load("threads_end", "/x", 211)
    got = rows(d, "exit", f"ppid = {pid}", 211)
    equal({(r["status"], r["signal"]) for r in got}, {(0, None)}, "threads: status")
    equal(len({r["pid"] for r in got}), 211, "threads: processes")
    pid, _ = load("threads_exec", os.path.join(home, "rs-ev-true"), 53)
    got = rows(d, "exec", f"ppid = {pid}", 53)
    equal([int(r["argv"].split()[-1]) for r in got], [r["tid"] for r in got], "thread that called")
    true(all(r["tid"] != r["pid"] for r in got), "it isn't the first")
    _, out = load("usage", "/x", 150)
    pid, utime, stime, maxrss = map(int, out.split())
    end = rows(d, "exit", f"pid = {pid}", 1)[0]
    cpu = end["utime"] + end["stime"]
    true(600e6 < (utime + stime) * 1e3, "the workload worked")
    true(abs(cpu - (utime + stime) * 1e3) < 12e6, f"processor time {cpu}, wait4() says {utime} + {stime} us")
    true(abs(end["stime"] - stime * 1e3) < 40e6, f"system time {end['stime']}, wait4() says {stime} us")
    equal(end["maxrss"], maxrss * 1024, "maxrss")
    d.cli("plugin", "set", "exec", "exits=false")
    p = child(["/bin/true"])
    rows(d, "exec", f"pid = {p.pid}", 1)
    time.sleep(0.5)
    equal(d.sql(f"SELECT * FROM exit WHERE pid = {p.pid}"), [], "ends that weren't asked for")
    d.cli("plugin", "set", "exec", "exits=true")


@contextlib.contextmanager
def cgroup(*names):
    root = next((r for r in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified") if os.path.exists(r + "/cgroup.controllers")), None)
    made = []
    try:
        path = root
        for name in names:
            path = os.path.join(path, name)
            os.mkdir(path)
            made.append(path)
        yield root, path
    finally:
        for path in reversed(made):
            wait_until(lambda: not open(path + "/cgroup.procs").read(), 5, "an empty cgroup")
            os.rmdir(path)


def filters(d, home):
    """Each filter by itself and with others, changed while the plugin runs; every time the same seven processes."""
    container = "0123456789abcdef" * 4
    programs = [os.path.join(home, n) for n in ("rs-ev-one", "rs-ev-two", "rs-ev-a-name-that-is-long")]
    for p in programs:
        shutil.copy("/bin/true", p)
    with cgroup(f"rs-ev-{os.getpid()}", container) as (root, path):
        def enter():
            with open(path + "/cgroup.procs", "w") as f:
                f.write("0")

        def seven():
            return [child([programs[0]]), child([programs[0]], user=65534), child([programs[1]]), child([programs[1]], user=65534),
                    child([programs[2]]), child([programs[0]], preexec_fn=enter), child([programs[1]], preexec_fn=enter)]

        outer = "/" + os.path.relpath(os.path.dirname(path), root)
        # pids can't be known before: the shell runs the program in its own process after it was told to.
        for options, want in (
                ({}, "0123456"),
                ({"comms": "rs-ev-one"}, "015"),
                ({"comms": "rs-ev-a-name-that-is-long"}, "4"),
                ({"comms": "rs-ev-one,rs-ev-two", "uids": "65534"}, "13"),
                ({"comms": "rs-ev-one,rs-ev-two,rs-ev-a-name-that-is-long", "exclude_comms": "rs-ev-two"}, "0145"),
                ({"exclude_uids": "0"}, "13"),
                ({"uids": "0,65534", "exclude_uids": "65534"}, "02456"),
                ({"cgroups": outer}, "56"),
                ({"cgroups": str(os.stat(path).st_ino), "comms": "rs-ev-two"}, "6"),
                ({"exclude_cgroups": outer, "exclude_comms": "rs-ev-two"}, "014"),
                ({"cgroups": "/"}, "0123456")):
            clear = {k: "" for k in ("comms", "exclude_comms", "uids", "exclude_uids", "cgroups", "exclude_cgroups")}
            d.cli("plugin", "set", "exec", *(f"{k}={v}" for k, v in {**clear, **options}.items()))
            before = d.plugin("exec")["enabled_at"]
            got = [p.pid for p in seven()]
            seen = rows(d, "exec", f"pid IN ({', '.join(map(str, got))})", len(want))
            equal("".join(str(got.index(r["pid"])) for r in seen), want, f"processes with {options}")
            inside = {r["pid"]: r["container_id"] for r in seen}
            equal({i: inside[got[i]] for i in range(7) if got[i] in inside},
                  {int(i): container if i in "56" else None for i in want}, "containers")
            equal(d.plugin("exec")["enabled_at"], before, "it wasn't restarted")
        d.cli("plugin", "set", "exec", *(f"{k}=" for k in clear))
    for key in ("pids", "exclude_pids"):
        shell = subprocess.Popen(["/bin/sh", "-c", f"read x; exec {programs[0]}"], stdin=subprocess.PIPE)
        other = subprocess.Popen(["/bin/sh", "-c", f"read x; exec {programs[0]}"], stdin=subprocess.PIPE)
        d.cli("plugin", "set", "exec", f"{key}={shell.pid}")
        for p in (shell, other):
            p.communicate(b"go\n")
        got = rows(d, "exec", f"comm = 'rs-ev-one' AND pid IN ({shell.pid}, {other.pid})", 1)
        equal(got[0]["pid"], shell.pid if key == "pids" else other.pid, key)
        d.cli("plugin", "set", "exec", f"{key}=")
    for bad, says in (("uids=root", "isn't a number"), ("pids=-1", "isn't a number"), ("cgroups=/no/such", "no cgroup"),
                      ("pids=" + ",".join(map(str, range(1, 1100))), "more than 1024"), ("cgroups=99999999999999999999", "number")):
        contains(d.cli("plugin", "set", "exec", bad, code=1), says, bad[:20])
        d.cli("plugin", "set", "exec", bad.split("=")[0] + "=")


def unseen(d):
    """Daemon and query workers make no rows of themselves, however much is asked."""
    for _ in range(7):
        d.sql("SELECT count(*) FROM exec")
    for table in ("exec", "exit"):
        equal(d.sql(f"SELECT * FROM {table} WHERE pid = {d.pid} OR ppid = {d.pid}"), [], f"the daemon in {table}")


def loss(home):
    """A ring for a hundred events that nobody reads: each one is a row or is counted."""
    program = os.path.join(home, "rs-ev-true")
    with Daemon() as d:
        d.enable("exec", "ring_size=64KiB", "comms=rs-ev-true", "exits=false")
        d.process.send_signal(signal.SIGSTOP)
        try:
            pid, _ = load("execve", program, N)
        finally:
            d.process.send_signal(signal.SIGCONT)
        lost = wait_until(lambda: d.plugin("exec")["kernel_drops"], 10, "kernel_drops")
        true(0 < lost < N, f"{lost} lost")
        rows(d, "exec", f"ppid = {pid}", N - lost)
        wait_until(lambda: d.one("SELECT sum(lost) FROM loss WHERE plugin = 'exec'") == lost, 5, "the loss in its table")


def main():
    need_root()
    need_programs("sleep", "echo", "sh")
    home = os.path.realpath(tempfile.mkdtemp(prefix="ringside-exec-"))
    os.chmod(home, 0o755)
    try:
        with Daemon() as d:
            d.enable("exec", "ring_size=4MiB")
            ways(d, home)
            identity(d)
            texts(d, home)
            environment(d)
            ends(d, home)
            filters(d, home)
            unseen(d)
            plugin = d.plugin("exec")
            equal((plugin["kernel_drops"], plugin["decode_errors"], plugin["rows_dropped"], plugin["missed_runs"]), (0, 0, 0, 0), "losses")
        loss(home)
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
