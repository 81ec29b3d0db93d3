#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Calls of exec that fail, digests, parents, capabilities, users of other roots, and programs that sampling leaves out."""
# timeout: 300
import contextlib
import ctypes
import errno
import hashlib
import json
import os
import pwd
import shutil
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ringside import Daemon, equal, need_programs, need_root, run, true, wait_until, workload

N = 1009
NOBODY = 65534


def load(*args):
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    p = subprocess.Popen([workload("execload"), *map(str, args)], env=env)
    equal(p.wait(120), 0, f"execload {args}")
    return p.pid


def rows(d, table, where, n):
    query = f"SELECT * FROM {table} WHERE {where} ORDER BY ts"
    got = wait_until(lambda: len(r := d.sql(query)) >= n and r, 20, f"{n} rows of {table} where {where}", 0.2)
    equal(len(got), n, f"rows of {table} where {where}")
    return got


def child(argv, **kw):
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **kw)
    p.wait(20)
    return p.pid


def failed(d, home):
    """Ends of calls, with what they were given; none by default."""
    pid = load("failed_execve", "/nowhere/rs-ev-none", 53)
    time.sleep(0.5)
    equal(d.sql(f"SELECT * FROM exec WHERE pid = {pid} AND error IS NOT NULL"), [], "calls that fail, by default")
    said = d.cli("plugin", "set", "exec", "failed=true", code=None)
    if "failed" in said and "trace" in said:
        print(f"calls that fail can't be seen here: {said.strip()}")
        return
    plain = os.path.join(home, "plain")
    with open(plain, "w") as f:
        f.write("no program\n")
    for way, program, want, name in (("failed_execve", "/nowhere/rs-ev-none", "ENOENT", "/nowhere/rs-ev-none"),
                                     ("failed_execve", plain, "EACCES", plain),
                                     ("failed_execveat", home + "/rs-ev-none", "ENOENT", None),
                                     ("failed_thread", "/nowhere/rs-ev-none", "ENOENT", "/nowhere/rs-ev-none")):
        pid = load(way, program, N)
        got = rows(d, "exec", f"pid = {pid} AND error IS NOT NULL", N)
        equal({(r["error"], r["error_raw"], r["exe"], r["sha256"]) for r in got}, {(want, getattr(errno, want), None, None)}, f"{way}: error")
        equal([r["argv"] for r in got], [f"{program} {way} {i}" for i in range(N)], f"{way}: arguments")
        equal({(r["argc"], r["truncated"], r["cwd"], r["comm"], r["uid"]) for r in got}, {(3, False, os.getcwd(), "execload", 0)}, f"{way}: owner")
        names = {r["filename"] for r in got}
        if name:
            equal(names, {name}, f"{way}: names")
        else:
            true(all(n.startswith("/dev/fd/") and n.endswith("/rs-ev-none") for n in names), f"{way}: names {names}")
    # Long ones, and those that can't be read.
    libc = ctypes.CDLL(None, use_errno=True)
    args = (ctypes.c_char_p * 42)(*[b"x" * (511 if i == 1 else 600 if i == 2 else 3) for i in range(40)], None)
    libc.execve(b"/nowhere/long", args, None)
    libc.execve(ctypes.c_void_p(1), args, None)
    libc.execve(b"/nowhere/args", ctypes.c_void_p(1), None)
    got = rows(d, "exec", f"pid = {os.getpid()} AND error IS NOT NULL", 3)
    equal((got[0]["argv"], got[0]["argc"], got[0]["truncated"]), ("xxx " + "x" * 511 + " " + "x" * 511 + " xxx" * 29, 32, True), "long arguments")
    equal((got[1]["filename"], got[1]["error"]), (None, "EFAULT"), "a name nowhere")
    # Which of the two the kernel looks at first isn't the same everywhere.
    true(got[2]["error"] in ("EFAULT", "ENOENT"), got[2]["error"])
    equal((got[2]["argv"], got[2]["argc"]), (None, 0), "arguments nowhere")
    # What succeeds is one row.
    pid = load("execve", "/bin/true", N)
    equal({r["error"] for r in rows(d, "exec", f"ppid = {pid}", N)}, {None}, "calls that succeed")
    d.cli("plugin", "set", "exec", "failed=false")
    pid = load("failed_execve", "/nowhere/rs-ev-none", 53)
    time.sleep(0.5)
    equal(d.sql(f"SELECT * FROM exec WHERE pid = {pid} AND error IS NOT NULL"), [], "switched off again")


def digests(d, home):
    """1,009 programs of 101 files, each ending at once; a file that changes; what has none."""
    equal({r["sha256"] for r in rows(d, "exec", f"pid = {child(['/bin/true'])}", 1)}, {None}, "none by default")
    d.cli("plugin", "set", "exec", "sha256=true", "sha256_max=1MiB")
    with open("/bin/true", "rb") as f:
        true_bytes = f.read()
    want, pids = {}, []
    for i in range(101):
        path = os.path.join(home, f"rs-ev-{i}")
        data = true_bytes + b"%d" % i
        with open(path, "wb") as f:
            f.write(data)
        os.chmod(path, 0o755)
        want[path] = hashlib.sha256(data).hexdigest()
    began = time.monotonic()
    for i in range(N):
        path = os.path.join(home, f"rs-ev-{i % 101}")
        pids.append((child([path]), path))
    got = {r["pid"]: r["sha256"] for r in rows(d, "exec", f"exe LIKE '{home}/rs-ev-%' AND error IS NULL", N)}
    without = sum(got[pid] is None for pid, _ in pids)
    print(f"{N} programs of 101 files in {time.monotonic() - began:.1f} s, {without} without a digest")
    equal(without, 0, "without a digest")
    equal([got[pid] for pid, _ in pids], [want[path] for _, path in pids], "digests")
    stamps = [r["ts"] for r in d.sql("SELECT ts FROM exec ORDER BY ts")]
    equal(stamps, sorted(set(stamps)), "times")
    # The same name with other content, and the same content under another name.
    path = os.path.join(home, "rs-ev-0")
    os.unlink(path)
    with open(path, "wb") as f:
        f.write(true_bytes + b"other")
    os.chmod(path, 0o755)
    equal(rows(d, "exec", f"pid = {child([path])}", 1)[0]["sha256"], hashlib.sha256(true_bytes + b"other").hexdigest(), "changed file")
    os.link(path, path + "-link")
    equal(rows(d, "exec", f"pid = {child([path + '-link'])}", 1)[0]["sha256"], hashlib.sha256(true_bytes + b"other").hexdigest(), "another name")
    with open(path, "ab") as f:
        f.write(b"x" * (1 << 20))
    equal(rows(d, "exec", f"pid = {child([path])}", 1)[0]["sha256"], None, "too large")
    script = os.path.join(home, "script")
    with open(script, "w") as f:
        f.write("#!/bin/true\n")
    os.chmod(script, 0o755)
    equal(rows(d, "exec", f"pid = {child([script])}", 1)[0]["sha256"], hashlib.sha256(true_bytes).hexdigest(), "the interpreter of a script")
    d.cli("plugin", "set", "exec", "sha256_max=64MiB")
    equal(rows(d, "exec", f"pid = {child([path])}", 1)[0]["sha256"], hashlib.sha256(true_bytes + b"other" + b"x" * (1 << 20)).hexdigest(), "large")
    d.cli("plugin", "set", "exec", "sha256=false")
    equal(rows(d, "exec", f"pid = {child([path])}", 1)[0]["sha256"], None, "switched off again")


def comm(pid):
    with open(f"/proc/{pid}/comm") as f:
        return f.read().rstrip("\n")


def parents(d, home):
    chain, pid = [], os.getpid()
    while pid:
        chain.insert(0, f"{comm(pid)}({pid})")
        with open(f"/proc/{pid}/stat") as f:
            pid = int(f.read().rsplit(")", 1)[1].split()[1])
    got = rows(d, "exec", f"pid = {child(['/bin/true'])}", 1)[0]
    equal(got["ancestry"], "/".join(chain[-10:]) if len(chain) <= 10 else ".../" + "/".join(chain[-10:]), "parents")
    equal(got["parent"], comm(os.getpid()), "parent")
    # Twelve shells deep: ten are told.
    script = os.path.join(home, "deep")
    with open(script, "w") as f:
        f.write('#!/bin/sh\n[ "$1" = 0 ] && { /bin/true rs-deep; exit; }\n"$0" $(($1 - 1))\nexit 0\n')
    os.chmod(script, 0o755)
    child([script, "12"])
    got = rows(d, "exec", "argv = '/bin/true rs-deep'", 1)[0]
    true(got["ancestry"].startswith(".../deep(") and got["ancestry"].count("/deep(") == 10, f"deep: {got['ancestry']}")


def rights(d):
    def caps(**kw):
        return rows(d, "exec", f"pid = {child(['/bin/true'], **kw)}", 1)[0]["capabilities"]

    with open("/proc/self/status") as f:
        mine = int(next(line for line in f if line.startswith("CapEff")).split()[1], 16)
    with open("/proc/sys/kernel/cap_last_cap") as f:
        every = (2 << int(f.read())) - 1
    full = caps()
    equal(full == "all", mine == every, f"capabilities {mine:x} of {every:x}: {full}")
    true(full == "all" or len(full.split(",")) == bin(mine).count("1"), f"as many as there are: {full}")
    equal(caps(user=NOBODY), None, "no capabilities")
    if shutil.which("setpriv"):
        child(["setpriv", "--bounding-set", "-all,+kill,+net_raw,+chown", "--inh-caps", "-all", "/bin/true", "rs-caps"])
        equal(rows(d, "exec", "argv = '/bin/true rs-caps'", 1)[0]["capabilities"], "cap_chown,cap_kill,cap_net_raw", "some")


def users(d, home):
    """Names from the process's own root, also of processes that are gone when the row is made."""
    got = [rows(d, "exec", f"pid = {child(['/bin/true'], user=u)}", 1)[0] for u in (0, NOBODY)]
    equal([(r["uid"], r["user"]) for r in got], [(0, pwd.getpwuid(0).pw_name), (NOBODY, pwd.getpwuid(NOBODY).pw_name)], "users")
    root = os.path.join(home, "root")
    os.makedirs(root + "/etc")
    with open(root + "/etc/passwd", "w") as f:
        f.write("inside:x:0:0::/:/bin/sh\nlodger:x:65534:65534::/:/bin/sh\n")
    for lib in ("/bin/sleep", *subprocess.run(["ldd", "/bin/sleep"], capture_output=True, text=True, check=True).stdout.split()):
        if lib.startswith("/"):
            os.makedirs(root + os.path.dirname(lib), exist_ok=True)
            shutil.copy(lib, root + lib)

    def enter():
        os.chroot(root)
        os.chdir("/")
        os.setuid(NOBODY)

    p = subprocess.Popen(["/bin/sleep", "20"], preexec_fn=enter)
    try:
        got = rows(d, "exec", f"pid = {p.pid}", 1)[0]
        equal((got["uid"], got["user"], got["cwd"]), (NOBODY, "lodger", root), "user of a chroot")
    finally:
        p.kill()
        p.wait()


@contextlib.contextmanager
def shed_step(d, step):
    """Sampling as the governor sets it, by the map that it writes."""
    mine = []
    for fd in os.listdir(f"/proc/{d.pid}/fdinfo"):
        with open(f"/proc/{d.pid}/fdinfo/{fd}") as f:
            ids = [line.split()[1] for line in f if line.startswith("map_id:")]
        for i in ids:
            shown = json.loads(run("bpftool", "-j", "map", "show", "id", i))
            if ".data." in shown.get("name", "") and shown["bytes_value"] == 24:
                mine.append(i)
    equal(len(mine), 1, "maps that sampling is in")

    def write(value):
        words = struct.pack("<QIIQ", 0, value, value, 0)  # no cgroup apart, and not off
        run("bpftool", "map", "update", "id", mine[0], "key", *"0000", "value", *(str(b) for b in words))

    write(step)
    try:
        yield
    finally:
        write(0)


def sampled(d, home):
    """One process in four: its start and its end, or neither; the rows and the ledger say so."""
    if not shutil.which("bpftool", path=os.environ["PATH"]):
        print("no bpftool: sampling is left out")
        return
    before = d.plugin("exec")["sampled"]
    with shed_step(d, 2):
        pid = load("execve", "/bin/true", N)
        time.sleep(1)
    starts = d.sql(f"SELECT pid, sample_rate FROM exec WHERE ppid = {pid}")
    ends = d.sql(f"SELECT pid, sample_rate FROM exit WHERE ppid = {pid}")
    true(N / 6 < len(starts) < N / 3, f"{len(starts)} of {N} are left")
    equal({r["pid"] for r in ends}, {r["pid"] for r in starts}, "processes whose end is told")
    equal({r["sample_rate"] for r in starts + ends}, {4}, "rate")
    out = 2 * (N - len(starts))
    # Others of this host are left out, too.
    wait_until(lambda: d.plugin("exec")["sampled"] - before >= out, 5, "sampled")
    wait_until(lambda: d.one("SELECT coalesce(sum(lost), 0) FROM loss WHERE plugin = 'exec' AND stage = 'sampled'") >= out, 10, "the ledger")


def main():
    need_root()
    need_programs("sleep", "true", "ldd")
    os.environ["PATH"] += ":/usr/sbin"
    home = os.path.realpath(tempfile.mkdtemp(prefix="ringside-exec-"))
    os.chmod(home, 0o755)
    try:
        with Daemon() as d:
            d.enable("exec", "ring_size=4MiB")
            failed(d, home)
            digests(d, home)
            parents(d, home)
            rights(d)
            users(d, home)
            sampled(d, home)
            plugin = d.plugin("exec")
            equal((plugin["kernel_drops"], plugin["decode_errors"], plugin["rows_dropped"]), (0, 0, 0), "losses")
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
