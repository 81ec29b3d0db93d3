#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Files touched by io_uring are rows with path, owner and result like those of system calls, each once; what never tells its result says so."""
# timeout: 180
import errno
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ringside import Daemon, equal, need_root, skip, true, wait_until, workload

N = 211
REMOVEDIR = 0x200
# io_uring adds O_LARGEFILE to every open; glibc hides its value on 64 bits.
LARGE = 0o400000 if os.uname().machine == "aarch64" else 0o100000


def load(what, home, n=N):
    """Runs the workload to its end; its pid and what it printed."""
    os.makedirs(home, exist_ok=True)
    p = subprocess.Popen([workload("vfsuringload"), what, home, str(n)], stdout=subprocess.PIPE, text=True,
                         env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
    out, _ = p.communicate(timeout=60)
    if p.returncode == 77:
        skip(out.strip())
    equal(p.returncode, 0, f"vfsuringload {what}")
    return p.pid, out


def rows(d, pid, n, where="1"):
    """The rows of that process's requests, when they are there, and no more a moment later."""
    which = f"pid = {pid} AND via = 'io_uring' AND {where}"
    wait_until(lambda: d.one(f"SELECT count(*) FROM vfs WHERE {which}") >= n, 20, f"{n} rows where {which}", 0.2)
    got = d.sql(f"SELECT * FROM vfs WHERE {which} ORDER BY ts")
    equal(len(got), n, f"rows where {which}")
    return got


def check(got, home, want):
    """want: call, operation, name of the file, error, what else the rows say; N rows each, in the order of the load, and no others."""
    total = 0
    for call, operation, prefix, error, values in want:
        values = dict(values)
        flags = values.get("flags")
        mine = [r for r in got if (r["syscall"], r["operation"], r["error_raw"]) == (call, operation, error) and
                (flags is None or r["flags"] == flags) and
                (r["path"] is None if prefix is None else (r["path"] or "").startswith(f"{home}/{prefix}"))]
        what = f"{call}, {operation}, {prefix}, {error}"
        equal(len(mine), N, f"{what}: rows")
        if prefix and prefix.endswith("-"):
            equal([r["path"] for r in mine], [f"{home}/{prefix}{i}" for i in range(N)], f"{what}: paths")
        for k, v in {"error": errno.errorcode[error] if error else None, "sample_rate": 1, "comm": "vfsuringload", "truncated": False, **values}.items():
            if k.endswith("+"):
                equal([r[k[:-1]] for r in mine], [v + i for i in range(N)], f"{what}: {k}")
            elif isinstance(v, str) and v.endswith("-"):
                equal([r[k] for r in mine], [f"{v}{i}" for i in range(N)], f"{what}: {k}")
            else:
                equal({r[k] for r in mine}, {v}, f"{what}: {k}")
        total += N
    equal(len(got), total, "rows of nothing else")


def kinds(d, top, what):
    """Every request that does what a system call does; with SQPOLL a thread of the kernel's submits them in the process's name."""
    home = os.path.join(top, what)
    pid, out = load(what, home)
    want = [
        ("openat", "create", "f-", 0, {"flags": LARGE | os.O_WRONLY | os.O_CREAT | os.O_EXCL, "mode": 0o640, "fd": 5, "file_type": "regular"}),
        ("openat", "open", "f-", 0, {"flags": LARGE | os.O_CLOEXEC, "mode": 0, "fd": 5, "file_type": "regular"}),
        ("openat2", "create", "n-", 0, {"flags": LARGE | os.O_RDWR | os.O_CREAT, "mode": 0o604, "fd": 5, "file_type": "regular"}),
        # Through a symbolic link, by a worker of io_uring's: where it led.
        ("openat", "open", "f-", 0, {"flags": LARGE, "fd": 5, "file_type": "regular"}),
        ("mkdirat", "mkdir", "m-", 0, {"mode": 0o710, "file_type": "directory", "fd": None}),
        ("renameat2", "rename", "n-", 0, {"flags": 1, "new_path": f"{home}/moved-"}),
        ("linkat", "link", "f-", 0, {"new_path": f"{home}/hard-", "flags": 0}),
        ("symlinkat", "symlink", "soft-", 0, {"source": "../to-", "file_type": "symlink"}),
        ("ftruncate", "truncate", "f-", 0, {"length+": 0, "fd": 5, "file_type": "regular"}),
        ("unlinkat", "unlink", "hard-", 0, {"flags": 0}),
        ("unlinkat", "rmdir", "m-", 0, {"flags": REMOVEDIR, "file_type": "directory"}),
    ]
    if "missing ftruncate" in out:
        want = [w for w in want if w[0] != "ftruncate"]
    got = rows(d, pid, N * len(want))
    check(got, home, want)
    threads = {r["tid"] for r in got}
    equal(len(threads), 1, "threads that submitted")
    equal(threads == {pid}, what == "kinds", "the program's own thread")
    equal({(r["ppid"], r["uid"], r["mntns_id"]) for r in got}, {(os.getpid(), 0, os.stat("/proc/self/ns/mnt").st_ino)}, "owner")


def failures(d, top):
    """Those that were refused at once, and those that failed as they were done."""
    home = os.path.join(top, "failures")
    pid, _ = load("failures", home)
    long_path = f"...{home}/{'x' * 4095}"
    got = rows(d, pid, 8 * N)
    too_long = [r for r in got if r["error_raw"] == errno.ENAMETOOLONG]
    equal((len(too_long), {(r["path"], r["truncated"]) for r in too_long}), (N, {(long_path, True)}), "a name that is too long")
    check([r for r in got if r not in too_long], home, [
        ("openat", "open", "no/such", errno.ENOENT, {"fd": None}),
        ("openat", "open", None, errno.EBADF, {"fd": None}),
        ("openat", "open", None, errno.EFAULT, {"fd": None}),
        ("mkdirat", "mkdir", "plain", errno.EEXIST, {"mode": 0o700, "file_type": None}),
        ("mkdirat", "mkdir", "refused", errno.EINVAL, {"mode": 0o700, "file_type": None}),
        ("renameat2", "rename", "from", errno.EINVAL, {"new_path": f"{home}/to"}),
        ("symlinkat", "symlink", "refused", errno.EINVAL, {"source": "contents", "file_type": None}),
    ])


def chains(d, top):
    home = os.path.join(top, "chains")
    pid, _ = load("chains", home)
    got = rows(d, pid, 5 * N)
    equal([r["path"] for r in got if r["syscall"] == "openat" and not r["error"]], [f"{home}/c-{i}/in" for i in range(N)], "files of the chains")
    check(got, home, [
        ("mkdirat", "mkdir", "c-", 0, {"mode": 0o700}),
        ("openat", "create", "c", 0, {"fd": 5}),
        ("unlinkat", "unlink", "c", 0, {}),
        ("openat", "open", "absent", errno.ENOENT, {}),
        ("mkdirat", "mkdir", "never-", errno.ECANCELED, {"file_type": None}),
    ])


def batches(d, top):
    """Many under way at once: each has its own result."""
    home = os.path.join(top, "batches")
    os.mkdir(home)
    with open(os.path.join(home, "there"), "w"):
        pass
    n = 10007
    pid, _ = load("batches", home, n)
    got = rows(d, pid, n)
    absent = sum(1 for i in range(n) if i % 61 % 3 == 0)
    equal(sorted({(r["path"], r["error"], r["fd"] is None) for r in got}),
          [(f"{home}/absent", "ENOENT", True), (f"{home}/there", None, False)], "kinds of rows")
    equal(sum(1 for r in got if r["error"]), absent, "failures")
    equal({r["error_raw"] for r in got}, {0, errno.ENOENT}, "results, all of them known")


def direct(d, top):
    """Files that never get a descriptor."""
    home = os.path.join(top, "direct")
    pid, out = load("direct", home)
    want = [
        ("openat", "create", "d-", 0, {"fd": None, "file_type": "regular", "mode": 0o600}),
        ("ftruncate", "truncate", "d-", 0, {"fd": None, "file_type": "regular", "length+": 10}),
        ("openat", "open", "d-", 0, {"fd": None, "file_type": "regular"}),
    ]
    want = [w for w in want if w[0] == "openat" or not out]
    check(rows(d, pid, len(want) * N), home, want)


def owners(d, top):
    home = os.path.join(top, "lent")
    pid, _ = load("lent", home)
    check(rows(d, pid, N), home, [("mkdirat", "mkdir", "p-", 0, {"uid": 12345, "gid": 0, "tid": pid})])
    home = os.path.join(top, "inherited")
    pid, out = load("inherited", home)
    child = int(out.split()[1])
    check(rows(d, child, N), home, [("mkdirat", "mkdir", "i-", 0, {"tid": child, "ppid": pid})])
    equal(d.one(f"SELECT count(*) FROM vfs WHERE pid = {pid} AND via = 'io_uring'"), 0, "rows of the parent")


def untold(d, top):
    """Whose result nobody is told has a row that says so; none is missing, none claims a result."""
    home = os.path.join(top, "silent")
    pid, _ = load("silent", home)
    unknown = ("unlinkat", "unlink", "s-", None, {"file_type": None})
    check(rows(d, pid, 2 * N), home, [unknown, ("openat", "open", "absent", errno.ENOENT, {})])
    home = os.path.join(top, "unread")
    pid, _ = load("unread", home)
    got = rows(d, pid, N)
    equal([r["path"] for r in got], [f"{home}/u-{i}" for i in range(N)], "unread: paths")
    true({r["error_raw"] for r in got} <= {0, None}, "unread: results")
    # Those that wait as the plugin stops.
    home = os.path.join(top, "stopped")
    pid, _ = load("silent", home)
    d.cli("plugin", "disable", "vfs")
    check(rows(d, pid, 2 * N), home, [unknown, ("openat", "open", "absent", errno.ENOENT, {})])
    d.enable("vfs", "comms=vfsuringload", "ring_size=16MiB")


def options(d, top):
    def some(name, what, n, *values, where="1"):
        d.cli("plugin", "set", "vfs", *values)
        pid, out = load(what, os.path.join(top, name))
        got = rows(d, pid, n, where)
        d.cli("plugin", "set", "vfs", "failures=all", "events=", "paths=", "exclude_paths=")
        return got, out

    def errors(got):
        return {r["error"] for r in got}

    # What may have failed is a row for those who ask for failures, and for those who don't.
    equal(errors(some("only", "silent", 2 * N, "failures=only")[0]), {None, "ENOENT"}, "failures=only")
    equal(errors(some("none", "silent", N, "failures=none")[0]), {None}, "failures=none")
    some("refused", "failures", 0, "failures=none")
    got, out = some("create", "kinds", 2 * N, "events=create")
    equal({r["operation"] for r in got}, {"create"}, "events=create")
    got, _ = some("rmdir", "kinds", N, "events=rmdir")
    equal({r["operation"] for r in got}, {"rmdir"}, "events=rmdir")
    # What was opened is at its own path, whatever link led there: three times f-0, but not link-0.
    home = os.path.join(top, "paths")
    truncated = "missing ftruncate" not in out
    got, _ = some("paths", "kinds", 4 + truncated, f"paths={home}/f-0,{home}/link-0")
    equal({r["path"] for r in got}, {f"{home}/f-0"}, "paths")
    got, _ = some("excluded", "kinds", 0, f"exclude_paths={top}/excluded")
    filtered = d.plugin("vfs")["filtered"]
    some("filtered", "kinds", 0, f"exclude_paths={top}/filtered")
    true(d.plugin("vfs")["filtered"] - filtered >= (10 + truncated) * N, "they are counted")


def main():
    need_root()
    top = os.path.realpath(tempfile.mkdtemp(prefix="ringside-uring-"))
    try:
        load("reads", top, 32)  # skips where there is no io_uring
        with Daemon() as d:
            d.enable("vfs", "comms=vfsuringload", "ring_size=16MiB")
            if "io_uring" in (d.plugin("vfs")["reason"] or ""):
                skip(d.plugin("vfs")["reason"])
            kinds(d, top, "kinds")
            kinds(d, top, "sqpoll")
            for test in (failures, chains, batches, direct, owners, untold, options):
                test(d, top)
            plugin = d.plugin("vfs")
            equal((plugin["kernel_drops"], plugin["decode_errors"], plugin["rows_dropped"], plugin["missed_runs"]), (0, 0, 0, 0), "losses")
    finally:
        shutil.rmtree(top)


if __name__ == "__main__":
    main()
