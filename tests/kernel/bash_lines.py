#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""53 lines typed at a real terminal are 53 rows with owner, terminal, directory, status and text; nothing else is."""
import os
import pwd
import re
import select
import shutil
import signal
import sys
import tempfile
import time
from datetime import datetime

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ringside import BUILD, Daemon, contains, equal, need_programs, need_root, skip, true, wait_until

PS1, PS2 = b"@1@", b"@2@"


class Shell:
    """A shell on a pseudo-terminal. Each line waits for the prompt that follows it."""

    def __init__(self, argv, cwd, uid=0):
        env = {"PATH": "/usr/bin:/bin", "HOME": cwd, "TERM": "xterm", "LC_ALL": "C.UTF-8", "INPUTRC": "/dev/null",
               "PS1": PS1.decode(), "PS2": PS2.decode(), "HISTFILE": "/dev/null"}
        self.pid, self.fd = os.forkpty()
        if self.pid == 0:
            try:
                os.chdir(cwd)
                os.setgid(uid)
                os.setuid(uid)
                os.execve(argv[0], argv, env)
            finally:
                os._exit(127)
        # Shells that start later must not keep this terminal open.
        os.set_inheritable(self.fd, False)
        self.got = b""
        self.wait_for(PS1)
        self.tty = os.readlink(f"/proc/{self.pid}/fd/0").removeprefix("/dev/")

    def read(self, timeout):
        while select.select([self.fd], [], [], timeout)[0]:
            self.got += os.read(self.fd, 65536)
            timeout = 0

    def wait_for(self, mark, timeout=20):
        """The prompt is the last that the terminal shows; escape sequences around it don't count."""
        end = time.monotonic() + timeout
        while not re.sub(rb"\x1b\[\??[0-9;]*[a-zA-Z]", b"", self.got).endswith(mark):
            true(time.monotonic() < end, f"prompt {mark!r} didn't come, got {self.got[-200:]!r}")
            self.read(0.5)

    def type(self, line, mark=PS1):
        """In pieces, as from a terminal: a long line must not overrun its buffer."""
        self.got = b""
        line += b"\r"
        for i in range(0, len(line), 512):
            os.write(self.fd, line[i:i + 512])
            if len(line) > 512:
                self.read(0.01)
        if mark:
            self.wait_for(mark)

    def end(self):
        os.close(self.fd)
        end = time.monotonic() + 5
        while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                break
            time.sleep(0.02)


def rows_of(d, pid):
    return d.sql(f"SELECT * FROM bash WHERE pid = {pid} ORDER BY ts")


def audit_id(pid, name):
    """loginuid or sessionid; None: not set, or a kernel without audit."""
    try:
        with open(f"/proc/{pid}/{name}") as f:
            value = int(f.read())
    except FileNotFoundError:
        return None
    return None if value == 0xffffffff else value


def session(shell, home):
    """Types the 53 lines; returns what the rows must say: (cmd, exit_status, cwd, truncated)."""
    want = []

    def line(text, status=0, mark=PS1, cmd=None, cwd=home, truncated=0):
        shell.type(text, mark)
        want.append((text.decode() if cmd is None else cmd, status, cwd, truncated))

    def silent(text, mark=PS1):
        shell.type(text, mark)

    line(b"true")
    line(b"false", 1)
    silent(b"")
    line(b"(exit 7)", 7)
    line(b"# a comment keeps the status", 7)
    line(b"x=1")
    line(b"nosuchcommand-rs", 127)
    line(b"/etc", 126)
    line(b"kill -9 $BASHPID | false", 1)
    line(b"(kill -9 $BASHPID)", 137)
    silent(b"   ")
    line(b"cd /usr")
    line(b"pwd", cwd="/usr")
    line(b"cd /nowhere-rs", 1, cwd="/usr")
    line(b"cd -", cwd="/usr")
    line(b"echo 'single' \"double\" $((6 * 7)) | cat")
    line(b"  echo  spaces  stay  ")
    line("echo café €uro 😀 日本".encode())
    line(b"echo bad \xff\xfe end", cmd="echo bad \ufffd\ufffd end")
    line(b"for i in 1 2; do", None, PS2)
    line(b"echo $i", None, PS2)
    line(b"done")
    line(b"cat <<EOF", None, PS2)
    line(b"inside the document", None, PS2)
    silent(b"", PS2)
    line(b"EOF")
    line(b"echo joined \\", None, PS2)
    line(b"lines")
    line(b"if [ ; fi", 2)
    line(b"!!", 2)
    line(b"read -e -p @r@ answer", mark=b"@r@")
    silent(b"typed into a program")
    line(b'test "$answer" = "typed into a program"')
    line(b"eval 'false; true'")
    line(b"bash -c 'exit 3'", 3)
    line(b"set -o pipefail; false | true", 1)
    line(b"sleep 0.1")
    line(b": " + b"a" * 4094)
    line(b": " + b"b" * 4095, cmd=": " + "b" * 4094, truncated=1)
    line(b": " + b"c" * 4093 + "é€".encode(), cmd=": " + "c" * 4093, truncated=1)
    while len(want) < 52:
        line(f"echo line {len(want)}".encode())
    line(b"sleep 4", None, mark=None)
    return want


def owned(d, home):
    shell = Shell(["/bin/bash", "--norc", "--noprofile", "-i"], home)
    try:
        before = datetime.now().timestamp()
        want = session(shell, home)
        # The last line still runs: its row must be there within about a second, without waiting for the end.
        start = time.monotonic()
        wait_until(lambda: d.one(f"SELECT count(*) FROM bash WHERE pid = {shell.pid} AND cmd = 'sleep 4'"), 4, "row of sleep")
        told = time.monotonic() - start
        true(told < 2.5, f"the row came after {told:.2f} s")
        print(f"a running command is in the table after {told:.2f} s")
        facts = {"ppid": os.getpid(), "uid": 0, "user": pwd.getpwuid(0).pw_name, "tty": shell.tty,
                 "loginuid": audit_id(shell.pid, "loginuid"), "session_id": audit_id(shell.pid, "sessionid")}
        shell.wait_for(PS1)
        time.sleep(1)
        rows = rows_of(d, shell.pid)
        equal([r["cmd"] for r in rows], [w[0] for w in want], "lines")
        equal(len(rows), 53, "rows")
        for row, (cmd, status, cwd, truncated) in zip(rows, want):
            equal({k: row[k] for k in facts}, facts, f"owner of {cmd[:40]!r}")
            equal((row["exit_status"], row["cwd"], int(row["truncated"])), (status, cwd, truncated), f"outcome of {cmd[:40]!r}")
            equal(row["duration"] is None, status is None, f"duration of {cmd[:40]!r} unknown")
            m = re.fullmatch(r"(\S+) pid:`(\d+)` user:`(.*?)` cmd:`(.*)`", row["message"], re.S)
            true(m, f"form of {row['message'][:80]!r}")
            equal((int(m[2]), m[3], m[4]), (shell.pid, facts["user"], cmd), "message")
            at = datetime.fromisoformat(m[1]).timestamp()
            true(abs(at - row["ts"] / 1e9) < 0.002, f"time of message {m[1]} and ts {row['ts']}")
            true(before - 1 < at < time.time() + 1, f"time {m[1]}")
        durations = {r["cmd"]: r["duration"] for r in rows}
        true(100e6 <= durations["sleep 0.1"] < 500e6, f"sleep 0.1 took {durations['sleep 0.1']} ns")
    finally:
        shell.end()


def other_user(d):
    nobody = pwd.getpwnam("nobody")
    shell = Shell(["/bin/bash", "--norc", "--noprofile", "-i"], "/", nobody.pw_uid)
    try:
        shell.type(b"id -u")
        shell.type(b"exit 5", None)
        rows = wait_until(lambda: len(r := rows_of(d, shell.pid)) == 2 and r, 5, "rows of the other user")
        equal([(r["cmd"], r["exit_status"], r["uid"], r["user"], r["cwd"]) for r in rows],
              [("id -u", 0, nobody.pw_uid, "nobody", "/"), ("exit 5", None, nobody.pw_uid, "nobody", "/")], "rows")
    finally:
        shell.end()


def not_interactive(d):
    marker = f"rs-{os.getpid()}"
    os.spawnv(os.P_WAIT, "/bin/bash", ["bash", "-c", f": {marker}"])
    time.sleep(1)
    equal(d.one(f"SELECT count(*) FROM bash WHERE cmd LIKE '%{marker}%'"), 0, "rows of bash -c")


def switched_off(d, home):
    """Nothing while it is off; the first line after it is on again, though the shell waited at its prompt before."""
    shell = Shell(["/bin/bash", "--norc", "--noprofile", "-i"], home)
    try:
        d.cli("plugin", "disable", "bash")
        shell.type(b"echo unseen")
        d.enable("bash")
        shell.type(b"(exit 4)")
        shell.type(b"echo seen")
        rows = wait_until(lambda: len(r := rows_of(d, shell.pid)) > 1 and r, 5, "rows after enable")
        equal([(r["cmd"], r["exit_status"], r["cwd"]) for r in rows], [("(exit 4)", 4, home), ("echo seen", 0, home)], "lines")
    finally:
        shell.end()


def refusals(d, home):
    d.cli("plugin", "disable", "bash")
    text = os.path.join(home, "text")
    with open(text, "w") as f:
        f.write("#!/bin/sh\n")
    for path, says in (("/nowhere/bash", "No such file"), (text, "isn't a program"), ("/bin/true", "readline"), ("/", "isn't a file")):
        said = d.cli("plugin", "enable", "bash", f"paths={path}", code=1)
        contains(said, f"'{path}'")
        contains(said, says)
    contains(d.cli("plugin", "enable", "bash", "paths=", "programs=", code=1), "paths")


def library_shell(d, home):
    """A shell that takes readline from the library; other users of the library make no rows."""
    built = os.path.join(BUILD, "tests", "readline_shell")
    if not os.path.exists(built):
        print("no libreadline when this was built: that part is left out")
        return
    d.cli("plugin", "enable", "bash", f"paths={built}")
    shell = Shell([built], home)
    python = Shell([sys.executable, "-i", "-c", "import readline, sys; sys.ps1 = '@1@'"], home)
    try:
        python.type(b"'typed at python'")
        shell.type(b"status 9")
        shell.type(b"read", b"@r@")
        shell.type(b"an answer")
        shell.type(b"more", PS2)
        shell.type(b"rest")
        rows = wait_until(lambda: len(r := rows_of(d, shell.pid)) == 4 and r, 5, "rows of the shell with the library")
        equal([(r["cmd"], r["exit_status"], r["cwd"]) for r in rows],
              [("status 9", 9, home), ("read", 0, home), ("more", None, home), ("rest", 0, home)], "rows")
        equal(rows_of(d, python.pid), [], "rows of python")
    finally:
        python.end()
        shell.end()


def main():
    need_root()
    need_programs("bash")
    if not os.path.exists("/bin/bash"):
        skip("needs /bin/bash")
    home = os.path.realpath(tempfile.mkdtemp(prefix="ringside-bash-"))
    try:
        with Daemon() as d:
            d.enable("bash")
            owned(d, home)
            other_user(d)
            not_interactive(d)
            switched_off(d, home)
            plugin = d.plugin("bash")
            equal((plugin["kernel_drops"], plugin["decode_errors"], plugin["rows_dropped"]), (0, 0, 0), "losses")
            refusals(d, home)
            library_shell(d, home)
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
