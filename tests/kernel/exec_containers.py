#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Programs in containers have their container's id, and pass filters by id and name, whichever hierarchy of cgroups tells."""
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ringside import Daemon, equal, need_programs, need_root, skip, wait_until

RUN = f"{os.getpid():08x}"


def container(n):
    return (RUN + f"{n:02x}" + "5ca1ab1e" * 8)[:64]


@contextlib.contextmanager
def cgroup(root, path):
    """A cgroup and what of the path to it isn't there; gone at the end."""
    made, at = [], root
    try:
        for name in path.split("/"):
            at = os.path.join(at, name)
            if not os.path.exists(at):
                os.mkdir(at)
                made.append(at)
        yield at
    finally:
        for path in reversed(made):
            wait_until(lambda: not open(path + "/cgroup.procs").read(), 5, "an empty cgroup")
            os.rmdir(path)


@contextlib.contextmanager
def docker_name(cid, name):
    """What Docker writes before it starts a container."""
    path, made = "/var/lib/docker/containers/" + cid, None
    top = path
    while not os.path.exists(os.path.dirname(top)):
        top = os.path.dirname(top)
    try:
        os.makedirs(path)
        made = top
        with open(path + "/config.v2.json", "w") as f:
            json.dump({"ID": cid, "Name": "/" + name, "Config": {}}, f)
        yield
    finally:
        if made:
            shutil.rmtree(made)


def run_in(path, n=1):
    """Programs that start in that cgroup; their pids."""
    def enter():
        if path:
            with open(path + "/cgroup.procs", "w") as f:
                f.write("0")

    pids = []
    for _ in range(n):
        p = subprocess.Popen(["/bin/true"], preexec_fn=enter)
        p.wait(20)
        pids.append(p.pid)
    return pids


def containers_of(d, pids):
    """pid to container of the rows, when those of all that are wanted had time to come."""
    return {r["pid"]: r["container_id"] for r in d.sql(f"SELECT pid, container_id FROM exec WHERE pid IN ({', '.join(map(str, pids))})")}


def ids(d, hierarchies):
    """Short-lived programs: nothing of theirs is in /proc when the row is made."""
    for i, (kind, root, path) in enumerate(hierarchies):
        cid = container(i)
        with cgroup(root, path % cid) as at:
            pids = run_in(at, 101)
            want = {pid: cid for pid in pids}
            wait_until(lambda: containers_of(d, pids) == want, 10, f"101 rows of the container in {kind}")
            ends = d.sql(f"SELECT DISTINCT container_id FROM exit WHERE pid IN ({', '.join(map(str, pids))})")
            equal(ends, [{"container_id": cid}], f"ends of {kind}")


def seen(d, pids):
    time.sleep(1)
    return [i for i, pid in enumerate(pids) if pid in containers_of(d, pids)]


def filters(d, hierarchies):
    enabled = d.plugin("exec")["enabled_at"]
    for i, (kind, root, path) in enumerate(hierarchies):
        one, two = container(16 + 2 * i), container(17 + 2 * i)
        with cgroup(root, path % one) as at:
            d.cli("plugin", "set", "exec", f"containers={one[:12]}")
            equal(seen(d, run_in(None) + run_in(at)), [1], f"{kind}: one that was there")
            # The filter knows the other before it exists, and the first program in it is seen.
            d.cli("plugin", "set", "exec", f"containers={two[:12]}")
            with cgroup(root, path % two) as other, cgroup(other, "init.scope/deep") as deep:
                equal(seen(d, run_in(at) + run_in(other) + run_in(deep)), [1, 2], f"{kind}: one that came")
                d.cli("plugin", "set", "exec", f"containers={one[:12]},{two[:12]}", f"exclude_containers={two}")
                equal(seen(d, run_in(None) + run_in(at) + run_in(other) + run_in(deep)), [1], f"{kind}: one left out")
                d.cli("plugin", "set", "exec", "containers=", f"exclude_containers={one}")
                equal(seen(d, run_in(None) + run_in(at) + run_in(other)), [0, 2], f"{kind}: exclusion alone")
                d.cli("plugin", "set", "exec", "exclude_containers=")
        named = container(32 + i)
        name = f"rs-shell-{RUN}-{i}"
        d.cli("plugin", "set", "exec", f"containers={name}")
        with docker_name(named, name), cgroup(root, path % named) as at:
            equal(seen(d, run_in(None) + run_in(at)), [1], f"{kind}: by name")
            d.cli("plugin", "set", "exec", f"containers={name}", "comms=other")
            equal(seen(d, run_in(at)), [], f"{kind}: and by another list")
            d.cli("plugin", "set", "exec", "comms=", "containers=")
            equal(seen(d, run_in(None) + run_in(at)), [0, 1], f"{kind}: no filter")
    for nothing in ("abc", "nobody's", container(99)):
        d.cli("plugin", "set", "exec", f"containers={nothing}")
        equal(seen(d, run_in(None)), [], f"a container that isn't there: {nothing}")
        d.cli("plugin", "set", "exec", "containers=")
    # Many that come and go at once.
    d.cli("plugin", "set", "exec", f"containers={RUN}")
    kind, root, path = hierarchies[0]
    with contextlib.ExitStack() as all_of_them:
        at = [all_of_them.enter_context(cgroup(root, path % container(64 + i))) for i in range(53)]
        equal(seen(d, [run_in(p)[0] for p in at]), list(range(53)), "53 at once")
    equal(d.plugin("exec")["enabled_at"], enabled, "it wasn't restarted")
    d.cli("plugin", "set", "exec", "containers=")


def trees():
    """What tells containers here: its name, mount point, and the path of a container in it."""
    unified = next((r for r in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified") if os.path.exists(r + "/cgroup.controllers")), None)
    found = [("cgroup2", unified, "docker-%s.scope")] if unified else []
    memory = "/sys/fs/cgroup/memory"
    if os.path.exists(memory + "/memory.limit_in_bytes"):
        found += [("memory, Docker", memory, "docker/%s"), ("memory, Kubernetes", memory, "kubepods/besteffort/pod1-2-3/%s")]
    return found or skip("no hierarchy of cgroups to make containers in")


def main():
    need_root()
    need_programs("true")
    hierarchies = trees()
    with Daemon() as d:
        d.enable("exec", "ring_size=4MiB")
        ids(d, hierarchies)
        filters(d, hierarchies)
        plugin = d.plugin("exec")
        equal((plugin["kernel_drops"], plugin["decode_errors"], plugin["rows_dropped"]), (0, 0, 0), "losses")


if __name__ == "__main__":
    main()
