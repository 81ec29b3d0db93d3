#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""1,009 calls of every function of the allocator are these counts and bytes, leaks are found to the byte, others run free."""
import contextlib
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ringside import Daemon, contains, equal, need_root, skip, true, wait_until, workload

N = 1009
SMALL = ("duty_cycle=1", "interval=1s")


class Load:
    """The workload, which waits for a byte before each round."""

    def __init__(self, kind, n=N, argv=None, cgroup=None):
        def enter():
            if cgroup:
                with open(f"{cgroup}/cgroup.procs", "w") as f:
                    f.write("0")
        self.p = subprocess.Popen(argv or [workload("mallocload"), kind, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  text=True, bufsize=0, preexec_fn=enter)
        self.pid = int(self.p.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.p.wait(10)
        self.p.kill()
        self.p.wait()

    def begin(self):
        self.p.stdin.write("x")

    def finish(self):
        out = []
        while (line := self.p.stdout.readline()) not in ("done\n", ""):
            out.append(line)
        return out

    def run(self):
        self.begin()
        return self.finish()


def traps(pid):
    """Bytes of libc's code in that process that aren't as in the file: breakpoints."""
    with open(f"/proc/{pid}/maps") as f:
        lines = [line.split() for line in f if " r-xp " in line and "libc.so" in line]
    found = 0
    for span, _, offset, _, _, path in lines:
        start, end = (int(x, 16) for x in span.split("-"))
        with open(path, "rb") as code, open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
            code.seek(int(offset, 16))
            mem.seek(start)
            want, got = code.read(end - start), mem.read(end - start)
        if got[:len(want)] != want:
            found += sum(a != b for a, b in zip(want, got))
    return found


def sums(d, pid, where="1"):
    return {(r["function"], r["size_class"]): (r["n"], r["b"], r["f"]) for r in d.sql(
        "SELECT function, size_class, sum(count) n, sum(bytes) b, sum(failed) f FROM malloc "
        f"WHERE pid = {pid} AND ({where}) GROUP BY function, size_class")}


def refused(d):
    contains(d.cli("plugin", "enable", "malloc", code=1), "options pids, cgroups or containers, or set force=true", "no scope")
    contains(d.cli("plugin", "enable", "malloc", "comms=bash", code=1), "force=true", "a name is no scope")
    for option, why in (("pids=x", "isn't a number"), ("cgroups=/no-such-cgroup", "no cgroup"), ("containers=abc", "12 to 64 hex digits")):
        contains(d.cli("plugin", "enable", "malloc", option, code=1), why, option)


def watch(d, load, *options):
    d.enable("malloc", f"pids={load.pid}", *SMALL, *options)
    wait_until(lambda: traps(load.pid), 10, "probes in the process")
    time.sleep(0.3)  # the window opens behind the last probe


def exact(d, outstanding):
    with Load("each") as load, Load("each") as other:
        watch(d, load, f"outstanding={outstanding}")
        load.run()
        other.run()
        equal(traps(other.pid), 0, "probes in another process")
        who = d.sql("SELECT * FROM malloc_processes")
        equal([(r["pid"], r["probes"], r["error"]) for r in who], [(load.pid, True, None)], "who is watched")
        true("libc" in who[0]["allocator"] and 0 < who[0]["observed"] < who[0]["watched"], f"{who}")
        got = wait_until(lambda: (s := sums(d, load.pid)).get(("pvalloc", 32768), (0,))[0] >= N and s, 15, "rows")
        want = {
            ("malloc", 16): (N, 10 * N, 0), ("malloc", 128): (N, 100 * N, 0), ("malloc", 1 << 46): (N, 0, N),
            ("calloc", 4096): (N, 2100 * N, 0), ("realloc", 8192): (N, 5000 * N, 0), ("realloc", 131072): (N, 70000 * N, 0),
            ("realloc(0)", 0): (N, 0, 0), ("posix_memalign", 262144): (N, 200000 * N, 0), ("aligned_alloc", 1024): (N, 640 * N, 0),
            ("valloc", 16384): (N, 9000 * N, 0), ("pvalloc", 32768): (N, 17000 * N, 0)}
        if outstanding == "true":
            want |= {("free", size): (N, b * N, 0) for size, b in ((128, 100), (4096, 2100), (131072, 70000), (262144, 200000),
                                                                  (1024, 640), (16384, 9000), (32768, 17000))}
        else:
            want[("free", None)] = (7 * N, None, 0)
        equal(got, want, "counts")
        equal(d.sql(f"SELECT * FROM malloc WHERE pid = {other.pid}"), [], "rows of another process")
        rows = d.sql(f"SELECT * FROM malloc WHERE pid = {load.pid} AND function = 'calloc'")
        for r in rows:
            equal((r["comm"], r["uid"], r["ppid"], r["operation"], r["sample_rate"]), ("mallocload", 0, os.getpid(), 2, r["count"]), "columns")
        true(all(r["observed"] > 0.2 and r["count_estimate"] >= r["count"] for r in rows), f"{rows}")
        if outstanding == "true":
            equal(d.sql("SELECT * FROM malloc_outstanding"), [], "what is left")
    d.cli("plugin", "disable", "malloc")


def threads(d):
    with Load("threads") as load:
        watch(d, load, "outstanding=true")
        load.run()
        wait_until(lambda: sums(d, load.pid).get(("malloc", 128)) == (3 * N, 300 * N, 0), 10, "calls of three threads")
        wait_until(lambda: sums(d, load.pid).get(("free", 128)) == (3 * N, 300 * N, 0), 10, "what they gave back")
    d.cli("plugin", "disable", "malloc")


def leaks(d):
    with Load("leak") as load:
        watch(d, load, "outstanding=true", "symbols=true")
        load.run()
        rows = wait_until(lambda: d.sql("SELECT * FROM malloc_outstanding WHERE bytes > 5000 ORDER BY bytes DESC"), 10, "what is held")
        equal([(r["pid"], r["comm"], r["count"], r["bytes"], r["uncertain_bytes"], r["bytes_estimate"]) for r in rows],
              [(load.pid, "mallocload", N, 1013 * N, 0, 1013 * N), (load.pid, "mallocload", 1, 60000, 0, 60000)], "leaks to the byte")
        true(rows[0]["stack"].startswith("leaker+0x") and ";leak+0x" in rows[0]["stack"] and ";main+0x" in rows[0]["stack"], rows[0]["stack"])
        d.cli("plugin", "set", "malloc", "symbols=false")
        plain = d.one(f"SELECT stack FROM malloc_outstanding WHERE stack_id = {rows[0]['stack_id']}")
        true(re.match(r"mallocload\+0x[0-9a-f]+;mallocload\+0x", plain), plain)
        # Nobody looks for a while: it may have been given back.
        d.cli("plugin", "set", "malloc", "duty_cycle=0.05")
        wait_until(lambda: d.one("SELECT sum(uncertain_bytes) = sum(bytes) FROM malloc_outstanding"), 10, "uncertainty")
    wait_until(lambda: not d.sql("SELECT * FROM malloc_outstanding"), 15, "the end of what a process held")
    d.cli("plugin", "disable", "malloc")


def sampled(d):
    """One in 4 KiB: about a quarter of 1,013 bytes each, and an estimate near the truth."""
    with Load("leak", 4 * N) as load:
        watch(d, load, "outstanding=true", "sample_bytes=4KiB")
        load.run()
        rows = wait_until(lambda: d.sql("SELECT * FROM malloc_outstanding WHERE count > 10"), 10, "what is held")
        true(0.18 < rows[0]["count"] / (4 * N) < 0.32, f"{rows[0]['count']} of {4 * N} taken")
        true(0.7 < rows[0]["bytes_estimate"] / (1013 * 4 * N) < 1.3, f"{rows[0]['bytes_estimate']} of {1013 * 4 * N} bytes")
        true(0.7 < rows[0]["count_estimate"] / (4 * N) < 1.3, f"{rows[0]['count_estimate']} of {4 * N}")
    d.cli("plugin", "disable", "malloc")


def full(d):
    """More than fits: what is left out is counted."""
    with Load("leak", 1511) as load:
        watch(d, load, "outstanding=true", "outstanding_max=1024")
        load.run()
        lost = wait_until(lambda: d.plugin("malloc")["kernel_drops"], 10, "the loss")
        # 487 that stay, 488 that don't, and the one that is moved.
        true(970 <= lost <= 977, f"{lost} of 3024 didn't fit beside 1024")
        wait_until(lambda: sums(d, load.pid).get(("malloc", 1024)) == (1512, 1511 * 1013 + 600, 0), 10, "counts all the same")
    d.cli("plugin", "disable", "malloc")


@contextlib.contextmanager
def cgroup():
    with open("/proc/self/mountinfo") as f:
        roots = [line.split()[4] for line in f if " - cgroup2 " in line]
    if not roots:
        skip("needs a cgroup2 hierarchy")
    path = f"{roots[0]}/rs-malloc-{os.getpid()}"
    os.makedirs(f"{path}/below")
    try:
        yield path, path.removeprefix(roots[0])
    finally:
        for p in (f"{path}/below", path):
            wait_until(lambda p=p: remove(p), 5, f"the end of {p}")


def remove(path):
    with contextlib.suppress(OSError):
        os.rmdir(path)
        return True


def groups(d):
    """By cgroup: who is there, who comes later, below too; a new program in the same process; not who is excluded."""
    with cgroup() as (path, name), Load("pairs", cgroup=path) as first, Load("pairs") as outside:
        d.enable("malloc", f"cgroups={name}", *SMALL, "exclude_comms=rs-not-me")
        with Load("pairs", cgroup=f"{path}/below") as later:
            for load in (first, later):
                wait_until(lambda pid=load.pid: traps(pid), 10, "probes")
            time.sleep(0.3)
            for load in (first, later, outside):
                load.run()
            for load in (first, later):
                wait_until(lambda pid=load.pid: sums(d, pid).get(("malloc", 128)) == (N, 100 * N, 0), 10, "its calls")
            equal(traps(outside.pid), 0, "probes outside")
        equal(d.sql(f"SELECT * FROM malloc WHERE pid = {outside.pid}"), [], "rows from outside")
        # The id instead of the path, changed while it runs.
        d.cli("plugin", "set", "malloc", f"cgroups={os.stat(path + '/below').st_ino}")
        wait_until(lambda: not traps(first.pid), 10, "the end of the probes in what isn't wanted any more")
        before = sums(d, first.pid)
        first.run()
        time.sleep(1.5)
        equal(sums(d, first.pid), before, "no more rows")
        contains(d.cli("plugin", "set", "malloc", "cgroups=", code=1), "force=true", "the scope taken away")
    d.cli("plugin", "disable", "malloc")


def execs(d):
    """A process that becomes another program is followed, and what it held before is forgotten."""
    script = "import ctypes, os, sys; c = ctypes.CDLL(None); c.malloc.restype = ctypes.c_void_p\n" \
        "print(os.getpid(), flush=True); sys.stdin.read(1)\n" \
        "for i in range(11): c.malloc(777777)\n" \
        "print('done', flush=True); os.read(0, 1); os.execv(sys.argv[1], sys.argv[1:])"
    argv = [sys.executable, "-c", script, workload("mallocload"), "pairs", str(N)]
    with Load("", argv=argv) as load:
        watch(d, load, "outstanding=true")
        load.run()
        wait_until(lambda: (r := d.sql("SELECT * FROM malloc_outstanding WHERE bytes = 11 * 777777")) and r, 10, "what it holds")
        load.begin()
        equal(int(load.p.stdout.readline()), load.pid, "the same process")
        wait_until(lambda: traps(load.pid), 10, "probes in the new program")
        wait_until(lambda: not d.sql("SELECT * FROM malloc_outstanding WHERE bytes = 11 * 777777"), 10, "the end of what it held")
        time.sleep(1.5)
        load.run()
        wait_until(lambda: sums(d, load.pid, "comm = 'mallocload'").get(("malloc", 128), (0,))[0] >= N, 10, "its calls by the new name")
    d.cli("plugin", "disable", "malloc")


def duty(d):
    """By default a process is free of probes most of the time, and rows say for how long it was observed."""
    with Load("heavy", 12) as load:
        d.enable("malloc", f"pids={load.pid}", "interval=2s")
        load.begin()
        trapped = n = 0
        end = time.monotonic() + 10
        while time.monotonic() < end:
            trapped += traps(load.pid) > 0
            n += 1
            time.sleep(0.02)
        load.finish()
        rows = d.sql(f"SELECT ts, max(observed) observed, sum(count) n, sum(count_estimate) e FROM malloc WHERE pid = {load.pid} "
                     "AND function = 'malloc' GROUP BY ts ORDER BY ts")
        print(f"probes seen in {trapped} of {n} looks; observed {[round(r['observed'], 4) for r in rows]}")
        true(trapped / n < 0.2, f"probes in {trapped} of {n} looks")
        # Without the first and the last interval, which are in part.
        inner = rows[1:-1]
        # Two or three windows fall into an interval, and an interval after a busy moment is short.
        true(len(inner) >= 3 and all(0.005 < r["observed"] < 0.3 for r in inner), f"{rows}")
        mean = sum(r["observed"] for r in inner) / len(inner)
        true(0.02 < mean < 0.1, f"observed {mean:.3f} of the time on average; wanted 0.05")
        true(all(abs(r["e"] - r["n"] / r["observed"]) <= r["n"] / r["observed"] / 100 + 5 for r in inner), f"estimates {rows}")
    d.cli("plugin", "disable", "malloc")


def forced(d):
    """The whole host, if somebody insists; here in effect one name."""
    with Load("pairs") as load, Load("pairs"):
        d.enable("malloc", "force=true", "comms=mallocload", f"exclude_pids={os.getpid()}", *SMALL, "max_processes=1")
        contains(d.plugin("malloc")["reason"], "max_processes, 1", "what isn't watched")
        d.cli("plugin", "set", "malloc", f"pids={load.pid}")
        wait_until(lambda: traps(load.pid), 15, "probes")
        time.sleep(0.3)
        load.run()
        wait_until(lambda: sums(d, load.pid).get(("malloc", 128)) == (N, 100 * N, 0), 10, "its calls")
    d.cli("plugin", "disable", "malloc")


def main():
    need_root()
    with Daemon() as d:
        refused(d)
        for part in (lambda x: exact(x, "false"), lambda x: exact(x, "true"), threads, leaks, sampled, full, groups, execs, duty, forced):
            part(d)
        equal(d.sql(f"SELECT * FROM malloc WHERE pid = {d.pid}"), [], "the daemon's own")
        plugin = d.plugin("malloc")
        equal((plugin["decode_errors"], plugin["rows_dropped"]), (0, 0), "losses")


if __name__ == "__main__":
    main()
