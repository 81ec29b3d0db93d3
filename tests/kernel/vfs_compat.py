#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Files touched by system calls of 32-bit programs are rows like any other, with their own numbers and widths; nothing is taken for what it isn't."""
# timeout: 120
import errno
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ringside import Daemon, equal, need_root, skip, wait_until, workload

N = 211


def load(top):
    p = subprocess.Popen([workload("vfs32load"), top, str(N)], env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
    code = p.wait(timeout=60)
    if code == 77:
        skip("this kernel has no system calls for 32-bit programs (CONFIG_IA32_EMULATION)")
    equal(code, 0, "vfs32load")
    return p.pid


def main():
    need_root()
    top = os.path.realpath(tempfile.mkdtemp(prefix="ringside-vfs32-"))
    try:
        with Daemon() as d:
            d.enable("vfs", "comms=vfs32load", "ring_size=16MiB")
            pid = load(top)
            # Call, operation, name, and what else the row says; "+": and the number of the file.
            want = [
                ("open", "create", "f", {"flags": os.O_CREAT | os.O_EXCL | os.O_WRONLY, "mode": 0o640, "file_type": "regular"}),
                ("openat", "open", "f", {"flags": os.O_WRONLY, "mode": 0, "file_type": "regular"}),
                ("openat2", "open", "f", {"flags": os.O_RDONLY}),
                ("ftruncate", "truncate", "f", {"length+": 100, "file_type": "regular"}),
                ("truncate64", "truncate", "f", {"length+": 1 << 32}),
                ("chmod", "chmod", "f", {"mode": 0o604}),
                ("chown", "chown", "f", {}),
                ("link", "link", "f", {"new": "g"}),
                ("unlink", "unlink", "g", {}),
                ("rename", "rename", "f", {"new": "g"}),
                ("symlinkat", "symlink", "f", {"file_type": "symlink"}),
                ("mkdir", "mkdir", "d", {"mode": 0o710}),
                ("rmdir", "rmdir", "d", {}),
                ("open", "open", "absent", {"error": errno.errorcode[errno.ENOENT], "fd": None}),
            ]
            total = N * (len(want) + 1)  # chown twice
            rows = f"pid = {pid} AND path GLOB '{top}/*'"
            wait_until(lambda: d.one(f"SELECT count(*) FROM vfs WHERE {rows}") >= total, 30, f"{total} rows", 0.2)
            equal(d.one(f"SELECT count(*) FROM vfs WHERE {rows}"), total, "all of them")
            for call, operation, prefix, values in want:
                got = d.sql(f"SELECT * FROM vfs WHERE {rows} AND syscall = '{call}' AND operation = '{operation}' AND path GLOB '{top}/{prefix}-*' ORDER BY ts")
                what = f"{call}, {operation}"
                if call == "chown":
                    equal([(r["new_uid"], r["new_gid"]) for r in got], [(None, 7), (70000, None)] * N, f"{what}: owners")
                    got = got[::2]
                equal([r["path"] for r in got], [f"{top}/{prefix}-{i}" for i in range(N)], f"{what}: paths")
                for k, v in {"error": None, **values}.items():
                    if k == "new":
                        equal([r["new_path"] for r in got], [f"{top}/{v}-{i}" for i in range(N)], f"{what}: new paths")
                    elif k.endswith("+"):
                        equal([r[k[:-1]] for r in got], [v + i for i in range(N)], f"{what}: {k}")
                    else:
                        equal({r[k] for r in got}, {v}, f"{what}: {k}")
            # Its own 64-bit calls among them: numbers of one width mean other things in the other.
            odd = d.sql(f"SELECT syscall, operation, count(*) AS n FROM vfs WHERE pid = {pid} AND path IS NULL GROUP BY 1, 2")
            equal(odd, [], "rows without a path")
            plugin = d.plugin("vfs")
            equal((plugin["kernel_drops"], plugin["decode_errors"]), (0, 0), "losses")
    finally:
        shutil.rmtree(top)


if __name__ == "__main__":
    main()
