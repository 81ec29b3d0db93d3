#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# attach.sql in a stock sqlite3 shell while the store writes: root reads the live segment too, the group the sealed ones.
import os
import shutil
import subprocess
import sys
import tempfile
import time

BUILD = os.environ["RINGSIDE_BUILD"]
GROUP = 65534


def shell(ring, sql, prefix=()):
    r = subprocess.run([*prefix, "sqlite3", "-init", ring + "/attach.sql", ":memory:", sql], text=True,
                       stdin=subprocess.DEVNULL, capture_output=True)
    return r.returncode, r.stdout.strip(), r.stderr.strip()


def main():
    if os.geteuid() != 0:
        print("needs root to be somebody else")
        sys.exit(77)
    if not shutil.which("sqlite3"):
        print("needs the sqlite3 shell")
        sys.exit(77)
    base = tempfile.mkdtemp(prefix="ringside-attach-")
    ring = base + "/ring"
    os.chown(base, 0, GROUP)
    os.chmod(base, 0o750)
    p = subprocess.Popen([BUILD + "/tests/store_driver", ring, str(64 << 20), "7000", "0"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True, bufsize=1)
    try:
        assert p.stdout.readline().startswith("ready")
        for _ in range(3):  # rotates each thousand rows
            p.stdin.write("push 1000\nflush\n")
            p.stdin.flush()
            assert p.stdout.readline().startswith("flushed 0")
        p.stdin.write("push 53\nflush\n")
        p.stdin.flush()
        assert p.stdout.readline().startswith("flushed 0")
        for _ in range(100):
            names = sorted(n for n in os.listdir(ring) if n.startswith("flow-") and n.endswith(".db"))
            if [oct(os.stat(ring + "/" + n).st_mode & 0o777) for n in names] == ["0o440"] * 3 + ["0o600"]:
                break
            time.sleep(0.05)
        time.sleep(0.3)  # attach.sql comes right behind
        rc, out, err = shell(ring, "SELECT count(*), count(DISTINCT src_ip) FROM netflow WHERE dst_ip LIKE '10.%' "
                                   "OR dst_ip LIKE '2001:%'")
        assert rc == 0 and out.split("|")[0] == "3053", (out, err)
        group = ["setpriv", "--reuid", "65534", "--regid", str(GROUP), "--clear-groups"]
        rc, out, err = shell(ring, "SELECT count(*) FROM netflow", group)
        assert rc == 0 and out == "3000", (rc, out, err)
        assert "attach-live.sql" in err, err
        rc, out, err = shell(ring, "SELECT ts, process_name, dst_ip FROM netflow ORDER BY ts DESC LIMIT 1", group)
        assert out.startswith("1700000000000002999|"), (out, err)
        # Nobody else gets in, and nobody can write.
        rc, out, err = shell(ring, "SELECT count(*) FROM netflow",
                             ["setpriv", "--reuid", "65533", "--regid", "65533", "--clear-groups"])
        assert "3000" not in out, out
        rc, out, err = shell(ring, "DELETE FROM flow1.netflow_data")
        assert "readonly" in err or "readonly" in out, (out, err)
        out, _ = p.communicate("push 10\nflush\nquit\n", timeout=30)
        assert "flushed 0" in out
        print("root reads 3053 rows with the live segment, the group 3000")
    finally:
        if p.poll() is None:
            p.kill()
            p.wait()
        shutil.rmtree(base, ignore_errors=True)


main()
