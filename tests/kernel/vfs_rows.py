#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""1,009 files touched in each way are that many rows with path, type and error; 10,007 opens in a burst; filters; losses."""
# timeout: 300
import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ringside import Daemon, contains, equal, need_programs, need_root, true, wait_until, workload

N = 1009
BURST = 10007
CLOEXEC = os.O_CLOEXEC


def load(what, home, n, **kw):
    """Runs the workload to its end; its pid and what it printed."""
    # A debug build would look for leaks in a process of its own.
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    p = subprocess.Popen([workload("vfsload"), what, home, str(n)], stdout=subprocess.PIPE, text=True, env=env, **kw)
    out, _ = p.communicate(timeout=120)
    equal(p.returncode, 0, f"vfsload {what}")
    return p.pid, out


def rows(d, where, n, columns="*"):
    """That many rows, when they are there, and no more a moment later."""
    query = f"SELECT {columns} FROM vfs WHERE {where} ORDER BY ts"
    wait_until(lambda: d.one(f"SELECT count(*) FROM vfs WHERE {where}") >= n, 30, f"{n} rows where {where}", 0.2)
    got = d.sql(query)
    equal(len(got), n, f"rows where {where}")
    return got


def kinds(d, top):
    home = os.path.join(top, "kinds")
    os.mkdir(home)
    began = time.time_ns()
    pid, out = load("kinds", home, N)
    ended = time.time_ns()
    missing = {line.split()[1] for line in out.splitlines()}

    def of(prefix):
        return [f"{home}/{prefix}-{i}" for i in range(N)]

    # System call, operation, path, and what else the row says.
    want = [
        ("openat", "open", "f", {"file_type": "regular", "flags": CLOEXEC, "mode": 0}),
        ("openat2", "create", "n", {"file_type": "regular", "flags": os.O_RDWR | os.O_CREAT | os.O_EXCL, "mode": 0o640}),
        ("unlinkat", "unlink", "n", {"flags": 0, "fd": None}),
        ("unlinkat", "rmdir", "e", {"flags": 0x200, "file_type": "directory"}),
        ("mkdirat", "mkdir", "m", {"mode": 0o710, "file_type": "directory"}),
        ("mknodat", "mknod", "fifo", {"mode": stat.S_IFIFO | 0o600, "file_type": "fifo"}),
        ("renameat2", "rename", "fifo", {"flags": 1, "new": "moved"}),
        ("linkat", "link", "f", {"new": "hard", "flags": 0}),
        ("symlinkat", "symlink", "soft", {"file_type": "symlink", "source": "../to"}),
        ("fchmod", "chmod", "f", {"mode": 0o604, "file_type": "regular", "fd": 4}),
        ("fchmodat", "chmod", "f", {"mode": 0o640, "fd": None}),
        ("fchmodat2", "chmod", "f", {"mode": 0o644, "flags": 0}),
        ("fchown", "chown", "f", {"new_uid": None, "new_gid": 7, "file_type": "regular"}),
        ("fchownat", "chown", "f", {"new_uid": 3, "new_gid": None, "flags": 0x100}),
        ("truncate", "truncate", "f", {"length": 1000}),
        ("ftruncate", "truncate", "f", {"length": 0, "file_type": "regular"}),
        ("open", "create", "o", {"flags": os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "mode": 0o600, "fd": 4}),
        ("creat", "create", "c", {"flags": os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "mode": 0o604, "fd": 4}),
        ("unlink", "unlink", "o", {}),
        ("rmdir", "rmdir", "d", {"file_type": "directory"}),
        ("mkdir", "mkdir", "k", {"mode": 0o755}),
        ("rename", "rename", "c", {"new": "renamed", "flags": 0}),
        ("renameat", "rename", "renamed", {"new": "again"}),
        ("chmod", "chmod", "f", {"mode": 0o600}),
        ("chown", "chown", "f", {"new_uid": 1, "new_gid": 2}),
        ("lchown", "chown", "f", {"new_uid": None, "new_gid": None}),
        ("link", "link", "f", {"new": "h"}),
        ("symlink", "symlink", "s", {"source": "nowhere", "file_type": "symlink"}),
        ("mknod", "mknod", "node", {"mode": 0o600, "file_type": "regular"}),
    ]
    if os.uname().machine != "x86_64":
        want = [w for w in want if "at" in w[0][3:] or w[0] in ("fchmod", "fchown", "truncate", "ftruncate")]
    for call, operation, prefix, values in want:
        if call in missing:
            print(f"this kernel has no {call}")
            continue
        where = f"pid = {pid} AND syscall = '{call}' AND operation = '{operation}' AND path GLOB '{home}/{prefix}-*'"
        # Its own are the first; fchmod and fchown open files the same way.
        got = rows(d, where + f" AND flags = {CLOEXEC}", 3 * N)[:N] if call == "openat" else rows(d, where, N)
        what = f"{call}, {operation}"
        equal([r["path"] for r in got], of(prefix), f"{what}: paths")
        values = dict(values)
        if "new" in values:
            equal([r["new_path"] for r in got], of(values.pop("new")), f"{what}: new paths")
        if "source" in values:
            equal([r["source"] for r in got], [f"{values['source']}-{i}" for i in range(N)], f"{what}: contents")
            del values["source"]
        if "length" in values:
            equal([r["length"] for r in got], [values["length"] + i for i in range(N)], f"{what}: lengths")
            del values["length"]
        for k, v in {"error_raw": 0, "comm": "vfsload", "uid": 0, "ppid": os.getpid(), "tid": pid, "truncated": False,
                     "sample_rate": 1, "mntns_id": os.stat("/proc/self/ns/mnt").st_ino, **values}.items():
            equal({r[k] for r in got}, {v}, f"{what}: {k}")
        true(all(began <= r["ts"] <= ended for r in got), f"{what}: times")
    # The descriptors for fchmod, fchown and ftruncate, the files, and nothing that wasn't done.
    equal(d.one(f"SELECT count(*) FROM vfs WHERE pid = {pid} AND path GLOB '{home}/*' AND operation = 'create' AND syscall = 'openat'"), N, "made before")
    equal(d.one(f"SELECT count(*) FROM vfs WHERE pid = {pid} AND path GLOB '{home}/*'"),
          N * (3 + 3 + sum(1 for w in want if w[0] not in missing)) + len(missing), "all of them")


def burst(d, top):
    """They fit the ring as it is by default, even if nobody read it meanwhile."""
    pid, _ = load("burst", top, BURST)
    rows(d, f"pid = {pid} AND path = '{top}/burst' AND operation = 'open' AND file_type = 'regular' AND fd = 4", BURST, "ts")


def first_touch(d, top):
    home = os.path.join(top, "untouched")
    os.mkdir(home)
    pid, _ = load("untouched", home, N)
    there = [f"{home}/f-{i}" for i in range(0, N, 3)]
    equal([r["path"] for r in rows(d, f"pid = {pid} AND operation = 'open' AND error_raw = 0 AND path GLOB '{home}/f-*'", len(there))],
          there, "opened")
    for operation, rest in (("unlink", 1), ("open", 2)):
        absent = [f"{home}/absent-{i}" for i in range(rest, N, 3)]
        equal([r["path"] for r in rows(d, f"pid = {pid} AND operation = '{operation}' AND error_raw = {errno.ENOENT} AND path GLOB '{home}/absent-*'",
                                       len(absent))], absent, operation)


def threads(d, top):
    home = os.path.join(top, "threads")
    os.mkdir(home)
    pid, _ = load("threads", home, 211)
    got = rows(d, f"pid = {pid} AND operation = 'create' AND path GLOB '{home}/t*'", 7 * 211)
    equal({r["path"] for r in got}, {f"{home}/t{t}-{i}" for t in range(7) for i in range(211)}, "paths")
    by_thread = {}
    for r in got:
        by_thread.setdefault(r["tid"], []).append(r["path"])
    equal(len(by_thread), 7, "threads")
    for paths in by_thread.values():
        first = os.path.basename(paths[0]).split("-")[0]
        equal(paths, [f"{home}/{first}-{i}" for i in range(211)], "paths of a thread")


def failures(d, top):
    home = os.path.join(top, "failures")
    os.mkdir(home)
    pid, _ = load("failures", home, 101)
    for error, path, operation, more in (
            (errno.ENOENT, f"{home}/no/such", "open", {"fd": None, "truncated": False}),
            (errno.ENOTDIR, f"{home}/plain/below", "open", {}),
            (errno.EEXIST, f"{home}/plain", "open", {"mode": 0o644}),
            (errno.EFAULT, None, "open", {}),
            (errno.EBADF, None, "open", {}),
            (errno.ENAMETOOLONG, f"...{home}/{'x' * 4095}", "open", {"truncated": True}),
            (errno.ELOOP, f"{home}/loop", "open", {}),
            (errno.ENOENT, None, "open", {}),
            (errno.EEXIST, f"{home}/plain", "mkdir", {"mode": 0o700, "file_type": None}),
            (errno.EBADF, None, "chmod", {"fd": 999})):
        which = f"path = '{path}'" if path else "path IS NULL"
        got = rows(d, f"pid = {pid} AND operation = '{operation}' AND error_raw = {error} AND ({which})", 101)
        for k, v in {"error": errno.errorcode[error], **more}.items():
            equal({r[k] for r in got}, {v}, f"{errno.errorcode[error]}: {k}")
    got = rows(d, f"pid = {pid} AND operation = 'chmod' AND error_raw = 0 AND file_type = 'fifo'", 101)
    equal({r["path"] for r in got}, {None}, "a pipe has no path")


def act(what, *args, **kw):
    """Python of our own with that source; its pid, what it printed."""
    p = subprocess.Popen([sys.executable, "-c", "import os, sys\n" + what, *args], stdout=subprocess.PIPE, text=True, **kw)
    out, _ = p.communicate(timeout=30)
    equal(p.returncode, 0, what)
    return p.pid, out


def paths(d, top):
    """Relative, below a descriptor, odd, long, deep."""
    home = os.path.join(top, "paths")
    os.makedirs(os.path.join(home, "one/two"))
    with open(os.path.join(home, "one/file"), "w"):
        pass
    os.symlink("one", os.path.join(home, "link"))

    def seen(source, *want, cwd=home, where="operation IN ('open', 'create', 'mkdir')", column="path"):
        pid, _ = act(source, cwd=cwd)
        last = d.wait_sql(f"SELECT 1 FROM vfs WHERE pid = {pid} AND path = '{want[-1]}'", 20, f"{source}: {want[-1]}") and \
            d.sql(f"SELECT {column} FROM vfs WHERE pid = {pid} AND {where} AND path NOT GLOB '*.py*' ORDER BY ts DESC LIMIT {len(want)}")
        equal([r[column] for r in reversed(last)], list(want), source)

    opens = "f = lambda p, **k: os.close(os.open(p, os.O_RDONLY, **k))\ndef g(p, **k):\n  try: f(p, **k)\n  except OSError: pass\n"
    seen(opens + "f('file'); f('./file'); f('../one/./file'); f('..'); f('.'); f('../link/file')",
         *[f"{home}/one/file"] * 3, home, f"{home}/one", f"{home}/one/file", cwd=os.path.join(home, "one"))
    # What isn't there is called as it was named, from its directory on.
    seen(opens + "g('no'); g('./no'); g('..//.././no'); g('./a//b/.'); g('/no//such/'); g('a/../b'); g('../../../../../../../../../no')",
         f"{home}/one/no", f"{home}/one/no", f"{top}/no", f"{home}/one/a/b", "/no/such", f"{home}/one/a/../b", "/no",
         cwd=os.path.join(home, "one"))
    seen(opens + "d = os.open('one/two', os.O_PATH); f('../file', dir_fd=d); g('x', dir_fd=d); g('../../x', dir_fd=d); os.mkdir('new', dir_fd=d)",
         f"{home}/one/two", f"{home}/one/file", f"{home}/one/two/x", f"{home}/x", f"{home}/one/two/new")
    seen(opens + "os.chdir('/'); f('etc/hostname'); g('none'); f('/'); g('./.././none2')", "/etc/hostname", "/none", "/", "/none2")
    seen(opens + "os.mkdir('two words'); f('two words'); os.mkdir('caf\u00e9'); os.mkdir(b'\\xff!')",
         f"{home}/two words", f"{home}/two words", f"{home}/caf\u00e9", f"{home}/\ufffd!")
    # In no tree.
    seen(opens + "m = os.memfd_create('rs-memory'); f('/proc/self/fd/%d' % m)", "/memfd:rs-memory")
    # As long as a path may be: 4,095 bytes, opened and not there.
    deep = home
    while len(deep) + 201 < 4095 - 210:
        deep = os.path.join(deep, "d" * 200)
    name = "n" * (4095 - len(deep) - 1)
    equal(len(deep + "/" + name), 4095, "length of the longest")
    os.makedirs(deep)
    seen(opens + f"p = {deep!r} + '/' + {name!r}; os.close(os.open(p, os.O_CREAT | os.O_WRONLY)); os.unlink(p); g(p)",
         *[f"{deep}/{name}"] * 2)
    # Relative names reach further: their directory is put before them.
    seen(opens + f"os.chdir({deep!r}); os.mkdir('m' * 200); os.chdir('m' * 200); os.mkdir('e' * 200); os.chdir('e' * 200); os.mkdir('y' * 200)",
         f"{deep}/{'m' * 200}", f"{deep}/{'m' * 200}/{'e' * 200}", where="operation = 'mkdir'") \
        if len(deep) + 402 < 4000 else None
    many = os.path.join(home, *["s"] * 150)
    os.makedirs(many)
    pid, _ = act(opens + f"f({many!r}); os.chdir({many!r}); g('absent')")
    equal(rows(d, f"pid = {pid} AND path = '{many}'", 1)[0]["truncated"], False, "more directories than are followed, by its name")
    got = d.sql(f"SELECT path, truncated FROM vfs WHERE pid = {pid} AND error_raw = 2 AND path GLOB '*/absent'")
    equal(len(got), 1, "below them")
    true(got[0]["truncated"] and got[0]["path"].startswith(".../s/") and (many + "/absent").endswith(got[0]["path"][3:]), f"cut off: {got}")


def mounts(d, top):
    """A mount namespace with a root of its own, and another root in ours."""
    home = os.path.join(top, "mounts")
    os.makedirs(os.path.join(home, "jail/etc"))
    os.mkdir(os.path.join(home, "at"))
    libc = "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\n"
    with open(os.path.join(home, "jail/etc/file"), "w"):
        pass
    pid, _ = act("os.chroot(sys.argv[1]); os.chdir('/etc')\nfor p in ('/etc/file', 'file', '/etc/none', 'none'):\n  try: os.close(os.open(p, 0))\n  except OSError: pass",
                 f"{home}/jail")
    got = rows(d, f"pid = {pid} AND path GLOB '{home}/jail/*'", 4)
    equal([os.path.relpath(r["path"], home) for r in got], ["jail/etc/file"] * 2 + ["jail/etc/none"] * 2, "in a chroot")
    # unshare and make it private: nothing of it is seen outside.
    pid, out = act(libc + f"assert c.unshare(0x20000) == 0 and c.mount(b'none', b'/', None, 0x44000, None) == 0\n"
                   f"assert c.mount(b'rs-tmpfs', {(home + '/at').encode()!r}, b'tmpfs', 6, b'size=1m') == 0\n"
                   f"os.close(os.open({home + '/at/file'!r}, os.O_CREAT))\nos.chdir({home + '/at'!r}); os.mkdir('sub'); os.chdir('/')\n"
                   "print(os.stat('/proc/self/ns/mnt').st_ino)\n"
                   f"assert c.umount2({(home + '/at').encode()!r}, 2) == 0\nassert c.mount(b'x', b'/no/such', b'tmpfs', 0, None) < 0")
    got = rows(d, f"pid = {pid} AND path GLOB '{home}/at*'", 4)
    equal([(r["operation"], os.path.relpath(r["path"], home)) for r in got],
          [("mount", "at"), ("create", "at/file"), ("mkdir", "at/sub"), ("umount", "at")], "on a mount")
    equal({r["mntns_id"] for r in got}, {int(out)}, "its namespace")
    equal((got[0]["source"], got[0]["fstype"], got[0]["flags"], got[3]["flags"]), ("rs-tmpfs", "tmpfs", 6, 2), "mount")
    got = rows(d, f"pid = {pid} AND operation = 'mount' AND path = '/no/such'", 1)[0]
    equal((got["error_raw"], got["source"]), (errno.ENOENT, "x"), "a mount that failed")


def filters(d, top):
    """By operation, result, path and process, changed while it runs; each time the same deeds."""
    home = os.path.join(top, "filters")
    for name in ("a", "ab", "a/deep/er"):
        os.makedirs(os.path.join(home, name))
    deeds = [f"os.close(os.open('{home}/a/f', os.O_CREAT))", f"os.close(os.open('{home}/a/f', 0))", f"os.rename('{home}/a/f', '{home}/ab/f')",
             f"os.chmod('{home}/ab/f', 0o600)", f"os.close(os.open('{home}/a/deep/er', 0))", f"os.unlink('{home}/ab/f')",
             f"\ntry: os.open('{home}/a/deep/none', 0)\nexcept OSError: pass\n"]
    clear = ("events=", "failures=all", "paths=", "exclude_paths=", "comms=", "uids=", "exclude_comms=")
    enabled = d.plugin("vfs")["enabled_at"]
    for options, want in (
            ((), "0123456"),
            (("events=create",), "0"),
            (("events=OPEN,unlink",), "1456"),
            (("events=rename,chmod",), "23"),
            (("failures=none",), "012345"),
            (("failures=only",), "6"),
            ((f"paths={home}/a",), "012" + "46"),
            ((f"paths={home}/ab/",), "235"),
            ((f"paths={home}//a/./deep",), "46"),
            ((f"exclude_paths={home}/ab",), "012" + "46"),
            ((f"paths={home}", f"exclude_paths={home}/a/deep"), "01235"),
            ((f"exclude_paths={home}/a,{home}/ab",), ""),
            ((f"paths={home}/a/deep", f"exclude_paths={home}"), ""),
            (("paths=/",), "0123456"),
            (("paths=/nowhere",), ""),
            ((f"paths={home}/ab/f",), "235"),
            (("comms=nobody",), ""),
            (("exclude_comms=nobody", "uids=0"), "0123456")):
        d.cli("plugin", "set", "vfs", *clear)
        if options:
            d.cli("plugin", "set", "vfs", *options)
        pid, _ = act("\n".join(f"{x}" for x in deeds))
        marks = {("create", f"{home}/a/f"): 0, ("open", f"{home}/a/f"): 1, ("rename", f"{home}/a/f"): 2, ("chmod", f"{home}/ab/f"): 3,
                 ("open", f"{home}/a/deep/er"): 4, ("unlink", f"{home}/ab/f"): 5, ("open", f"{home}/a/deep/none"): 6}
        where = f"pid = {pid} AND path GLOB '{home}/*'"
        got = rows(d, where, len(want)) if want else (time.sleep(0.5), d.sql(f"SELECT * FROM vfs WHERE {where}"))[1]
        equal("".join(str(marks[r["operation"], r["path"]]) for r in got), want, f"with {options}")
    equal(d.plugin("vfs")["enabled_at"], enabled, "it wasn't restarted")
    d.cli("plugin", "set", "vfs", *clear)
    for bad, says in (("events=opne", "there is no 'opne'"), ("paths=relative", "isn't an absolute path"), ("exclude_paths=/a/../b", "'..'"),
                      ("paths=/" + "x" * 252, "more than 250 bytes"), ("paths=" + ",".join(f"/{i}" for i in range(257)), "more than 256"),
                      ("pids=x", "isn't a number")):
        contains(d.cli("plugin", "set", "vfs", bad, code=1), says, bad[:20])
        d.cli("plugin", "set", "vfs", bad.split("=")[0] + "=")
    # 256 of them, the longest there may be among them.
    d.cli("plugin", "set", "vfs", "paths=" + ",".join([f"/rs-no-such-{i}" for i in range(254)] + ["/" + "x" * 249, f"{home}/a"]))
    pid, _ = act("\n".join(deeds))
    rows(d, f"pid = {pid} AND path GLOB '{home}/*'", 5)
    d.cli("plugin", "set", "vfs", "paths=")


def ledger(d, top):
    """Every event is somewhere: a row, left out by a filter, or lost."""
    d.cli("plugin", "set", "vfs", "comms=vfsload", "events=open,create", f"paths={top}/burst")
    before = d.plugin("vfs")
    pid, _ = load("burst", top, N)
    rows(d, f"pid = {pid} AND operation = 'open'", N, "ts")
    wait_until(lambda: d.plugin("vfs")["events"] >= before["events"] + N, 10, "events")
    after = d.plugin("vfs")
    true(after["filtered"] > before["filtered"], "filtered")
    equal((after["kernel_drops"], after["decode_errors"]), (before["kernel_drops"], before["decode_errors"]), "losses")
    d.cli("plugin", "set", "vfs", "comms=", "events=", "paths=")


def unseen(d):
    """Daemon and query workers make no rows of themselves, however much is asked."""
    for _ in range(7):
        d.sql("SELECT count(*) FROM vfs")
    equal(d.sql(f"SELECT * FROM vfs WHERE pid = {d.pid} OR ppid = {d.pid}"), [], "the daemon's own")


def loss(top):
    """A ring for some hundred events that nobody reads: each one is a row or is counted."""
    with Daemon() as d:
        d.enable("vfs", "ring_size=64KiB", "comms=vfsload", f"paths={top}/burst", "events=open")
        d.process.send_signal(signal.SIGSTOP)
        try:
            pid, _ = load("burst", top, N)
        finally:
            d.process.send_signal(signal.SIGCONT)
        lost = wait_until(lambda: d.plugin("vfs")["kernel_drops"], 10, "kernel_drops")
        true(0 < lost < N, f"{lost} lost")
        rows(d, f"pid = {pid}", N - lost, "ts")
        wait_until(lambda: d.one("SELECT sum(lost) FROM loss WHERE plugin = 'vfs'") == lost, 5, "the loss in its table")
        # What is in the ring when it is switched off is stored.
        pid, _ = load("burst", top, 101)
        d.cli("plugin", "disable", "vfs")
        rows(d, f"pid = {pid}", 101, "ts")


def main():
    need_root()
    need_programs("hostname")
    top = os.path.realpath(tempfile.mkdtemp(prefix="ringside-vfs-"))
    os.chmod(top, 0o755)
    try:
        with Daemon() as d:
            # Not the rest of the host, whatever it does.
            d.enable("vfs", "comms=vfsload")
            burst(d, top)
            d.cli("plugin", "disable", "vfs")
            d.enable("vfs", "ring_size=16MiB", "comms=")
            for test in (kinds, first_touch, threads, failures, paths, mounts, filters, ledger):
                test(d, top)
            unseen(d)
            plugin = d.plugin("vfs")
            equal((plugin["kernel_drops"], plugin["decode_errors"], plugin["rows_dropped"], plugin["missed_runs"]), (0, 0, 0, 0), "losses")
        loss(top)
    finally:
        shutil.rmtree(top)


if __name__ == "__main__":
    main()
