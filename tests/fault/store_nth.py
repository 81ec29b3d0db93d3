#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Allocations, writes, syncs, opens, locks, renames and removals fail at the nth call, for every n until the operation passes;
# then all of them from the nth on (disk full, read-only, out of memory). The store and its queries answer with an error that
# says why, count what they couldn't store, take nothing for damage and go on when the fault is over.
# timeout: 600
import concurrent.futures
import os
import shutil
import subprocess
import sys
import tempfile

BUILD = os.environ["RINGSIDE_BUILD"]


def run(scenario):
    # In memory, where there is room: syncs are what is counted here, not what they cost.
    base = tempfile.mkdtemp(prefix="ringside-nth-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    try:
        os.chmod(base, 0o755)  # the worker's user reads the ring
        p = subprocess.run([BUILD + "/tests/store_nth", base, scenario], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True, timeout=280)
        return scenario, p.returncode, p.stdout
    finally:
        shutil.rmtree(base, ignore_errors=True)


def main():
    failed = False
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for scenario, code, out in pool.map(run, ("rotate", "push", "open", "worker", "query", "index")):
            print("".join(out.splitlines(True)[-40:] if code else out.splitlines(True)[-1:]), end="", flush=True)
            failed |= code != 0
    sys.exit(1 if failed else 0)


main()
