#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Lines of shells wherever they are: edited lines, other users, other roots, copies, containers, zsh, programs with readline."""
# timeout: 300
import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from bash_lines import PS1, PS2, Shell, rows_of
from exec_containers import cgroup
from ringside import BUILD, Daemon, contains, equal, need_programs, need_root, true, wait_until

BASH = ["/bin/bash", "--norc", "--noprofile", "-i"]
left_out = []


def lines(d, pid, n):
    """(cmd, status) of that many rows, and no more."""
    got = wait_until(lambda: len(r := rows_of(d, pid)) >= n and r, 8, f"{n} rows of {pid}")
    time.sleep(0.7)
    got = rows_of(d, pid)
    equal(len(got), n, f"rows: {[r['cmd'] for r in got]}")
    return got


def told(rows):
    return [(r["cmd"], r["exit_status"]) for r in rows]


def edited(d, home):
    """What the line is in the end, not the keys."""
    shell = Shell(BASH, home)
    try:
        shell.type(b"echo one")
        shell.type(b"\x1b[A")                           # up: the line before
        shell.type(b"echo twx\x7fo")                    # backspace
        shell.type(b"echo three\x01\x1b[C\x1b[C\x1b[C\x1b[Cx")  # begin, four right: ech|o -> echox
        shell.type(b"junk\x15echo four")                # kill the line
        shell.type(b"\x12thr\x1b[C")                    # search back
        shell.type(b"cd /us\t")                         # completion
        shell.got = b""
        os.write(shell.fd, b"never run\x03")            # Ctrl-C: no line
        shell.wait_for(PS1)
        shell.type(b"(exit 130)")
        os.write(shell.fd, b"sleep 30\r")
        time.sleep(1)
        shell.got = b""
        os.write(shell.fd, b"\x03")
        shell.wait_for(PS1)
        shell.type(b"echo 'two", PS2)
        shell.type(b"lines'")
        shell.type(b"cat <<'E' >/dev/null", PS2)
        shell.type(b"$HOME", PS2)
        shell.type(b"E")
        rows = lines(d, shell.pid, 14)
        equal(told(rows), [("echo one", 0), ("echo one", 0), ("echo two", 0), ("echox three", 127), ("echo four", 0),
                           ("echox three", 127), ("cd /usr/", 0), ("(exit 130)", 130), ("sleep 30", None),
                           ("echo 'two", None), ("lines'", 0), ("cat <<'E' >/dev/null", None), ("$HOME", None), ("E", 0)], "edited lines")
        equal({r["comm"] for r in rows}, {"bash"}, "name")
    finally:
        shell.end()


def other_users(d, home):
    """su and sudo: the shell's user, the terminal of the session; the login stays."""
    for program, argv in (("su", ["su", "-s", "/bin/bash", "nobody"]), ("sudo", ["sudo", "-u", "nobody", "/bin/bash", "--norc"])):
        path = shutil.which(program)
        if not path:
            left_out.append(program)
            continue
        shell = Shell(BASH, "/")
        try:
            shell.type(f"exec 3>&1; PS1=@1@ {' '.join(argv)} {'-- --norc' if program == 'su' else ''}".encode(), None)
            child = wait_until(lambda: [r["pid"] for r in d.sql("SELECT pid FROM processes WHERE comm = 'bash' AND uid = 65534")], 8,
                               f"a shell by {program}")[-1]
            shell.got = b""
            time.sleep(0.5)
            shell.type(b"PS1=@1@")
            shell.type(b"(exit 6)")
            rows = lines(d, child, 2)
            nobody = pwd.getpwnam("nobody")
            equal({(r["uid"], r["user"]) for r in rows}, {(nobody.pw_uid, "nobody")}, f"user by {program}")
            equal(rows[1]["exit_status"], 6, f"status by {program}")
            outer = rows_of(d, shell.pid)[0]
            equal({r["loginuid"] for r in rows} | {r["session_id"] for r in rows}, {outer["loginuid"], outer["session_id"]}, "login and session")
            shell.type(b"exit", None)
        finally:
            shell.end()


def copy_program(root, *programs):
    """Programs and the libraries that they need, at the same paths below root."""
    for program in programs:
        needs = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.split()
        for path in [program, *(p for p in needs if p.startswith("/"))]:
            os.makedirs(root + os.path.dirname(path), exist_ok=True)
            shutil.copy(path, root + path)


class NewShell(Shell):
    """A shell from a file that hasn't run before: probes come within a tenth of a second, as the ring is read."""

    def __init__(self, *args):
        super().__init__(*args)
        time.sleep(0.4)


class Inside(NewShell):
    """A shell in a mount namespace with a root of its own on a tmpfs, as containers have it."""

    def __init__(self, base, argv, cgroup_path=None):
        self.base = base
        script = os.path.join(base, "enter")
        with open(script, "w") as f:
            f.write(f"#!/bin/bash\nset -e\nexport PS1={PS1.decode()} PS2={PS2.decode()}\n")
            if cgroup_path:
                f.write(f"echo $$ >{cgroup_path}/cgroup.procs\n")
            f.write(f"mount -t tmpfs -o mode=755 none {base}/root\ncp -a {base}/tree/. {base}/root/\n"
                    f"exec {shutil.which('chroot', path=os.defpath + ':/usr/sbin:/sbin')} {base}/root {' '.join(argv)}\n")
        os.chmod(script, 0o755)
        super().__init__(["/usr/bin/unshare", "-m", "--propagation", "private", script], base)


def tree(base):
    root = os.path.join(base, "tree")
    os.makedirs(root + "/etc")
    os.mkdir(os.path.join(base, "root"))
    copy_program(root, "/bin/bash")
    with open(root + "/etc/passwd", "w") as f:
        f.write("captain:x:0:0::/:/bin/bash\n")
    return root


def containers(d, home):
    """Several with the same bash, each on a file system of its own; in one the shell was there before the plugin."""
    base = tempfile.mkdtemp(prefix="c", dir=home)
    tree(base)
    cid = f"{os.getpid():08x}" * 8
    root = next((r for r in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified") if os.path.exists(r + "/cgroup.controllers")), None)
    with contextlib.ExitStack() as stack:
        at = stack.enter_context(cgroup(root, f"docker-{cid}.scope")) if root else None
        d.cli("plugin", "disable", "bash")
        before = Inside(base, BASH)
        stack.callback(before.end)
        d.enable("bash")
        before.type(b"echo first")
        before.type(b"(exit 3)")
        rows = lines(d, before.pid, 2)
        equal(told(rows), [("echo first", 0), ("(exit 3)", 3)], "a shell that was there")
        equal({(r["user"], r["cwd"], r["container_id"]) for r in rows}, {("captain", "/", None)}, "its user")
        for i in range(3):
            shell = Inside(base, BASH, at)
            stack.callback(shell.end)
            shell.type(b"cd /etc")
            shell.type(b"(exit %d)" % i)
            rows = lines(d, shell.pid, 2)
            equal(told(rows), [("cd /etc", 0), (f"(exit {i})", i)], f"container {i}")
            equal({(r["user"], r["container_id"]) for r in rows}, {("captain", cid if at else None)}, "user and container")
            equal(rows[1]["cwd"], "/etc", "directory")
        # The filters of all event plugins.
        d.cli("plugin", "set", "bash", f"exclude_containers={cid[:12]}")
        shell.type(b"echo unseen")
        before.type(b"echo seen")
        d.cli("plugin", "set", "bash", "exclude_containers=")
        lines(d, before.pid, 3)
        lines(d, shell.pid, 2 if at else 3)


def freed(d, home):
    """Probes go with the last process of a container, whose file system must not be held."""
    base = tempfile.mkdtemp(prefix="f", dir=home)
    tree(base)

    def links():
        return len([fd for fd in os.listdir(f"/proc/{d.pid}/fd")])

    wait_until(lambda: "links" not in d.threads(), 60, "the probes of what was before are gone")
    before = links()
    shell = Inside(base, BASH)
    shell.type(b"echo inside")
    lines(d, shell.pid, 1)
    true(links() > before, "probes in it")
    shell.end()
    wait_until(lambda: links() <= before, 60, "its probes are gone", 1)


def copies(d, home):
    """The same program at other paths, statically told by its name; another name isn't looked for."""
    for name, want in (("bash", 1), ("notbash", 0)):
        folder = tempfile.mkdtemp(prefix="d", dir=home)
        path = os.path.join(folder, name)
        shutil.copy("/bin/bash", path)
        shell = NewShell([path, *BASH[1:]], home)
        try:
            shell.type(b"true")
            time.sleep(1)
            equal(len(rows_of(d, shell.pid)), want, f"rows of {name}")
        finally:
            shell.end()
    # A file of that name that is none, and one that ends at once.
    for content in (b"#!/bin/sh\n", open("/bin/true", "rb").read()):
        path = os.path.join(tempfile.mkdtemp(prefix="d", dir=home), "bash")
        with open(path, "wb") as f:
            f.write(content)
        os.chmod(path, 0o755)
        subprocess.run([path], check=True)


def many(d, home):
    """53 different files one after the other: each line is there."""
    shells = []
    try:
        for i in range(53):
            path = os.path.join(home, f"m{i}", "bash")
            os.mkdir(os.path.dirname(path))
            shutil.copy("/bin/bash", path)
            shells.append(Shell([path, *BASH[1:]], home))
            time.sleep(0.08)  # 16 a second are looked at once they start
        time.sleep(0.5)
        for i, s in enumerate(shells):
            s.type(b"echo %d" % i)
        time.sleep(2)
        got = {r["pid"]: r["cmd"] for r in d.sql("SELECT pid, cmd FROM bash WHERE cmd LIKE 'echo %'")}
        equal([got.get(s.pid) for s in shells], [f"echo {i}" for i in range(53)], "lines of copies")
    finally:
        for s in shells:
            s.end()


def zsh(d, home):
    path = shutil.which("zsh")
    if not path:
        left_out.append("zsh")
        return
    d.cli("plugin", "disable", "bash")
    d.enable("bash", "programs=bash,zsh")
    NewShell([os.path.realpath(path), "-f", "-i"], home).end()
    shell = Shell([os.path.realpath(path), "-f", "-i"], home)
    try:
        shell.type(b"PROMPT=@1@ PROMPT2=@2@ PROMPT_SP=; unsetopt prompt_cr prompt_sp zle_bracketed_paste")
        shell.type(b"(exit 9)")
        shell.type("echo café €uro 😀".encode())
        shell.type(b"for i in 1 2; do", PS2)
        shell.type(b"true; done")
        shell.type(b"cd /usr")
        shell.type(b"nosuchcommand-rs")
        rows = lines(d, shell.pid, 7)
        equal(told(rows)[1:], [("(exit 9)", 9), ("echo café €uro 😀", 0), ("for i in 1 2; do", None), ("true; done", 0),
                               ("cd /usr", 0), ("nosuchcommand-rs", 127)], "lines")
        equal([r["cwd"] for r in rows[-2:]], [home, "/usr"], "directories")
        equal({(r["comm"], r["tty"], r["uid"]) for r in rows}, {("zsh", shell.tty, 0)}, "owner")
    finally:
        shell.end()


def with_library(d, home):
    """A program that takes readline from the library, told by its name."""
    built = os.path.join(BUILD, "tests", "readline_shell")
    if not os.path.exists(built):
        left_out.append("libreadline")
        return
    d.cli("plugin", "disable", "bash")
    d.enable("bash", "programs=bash,readline_shell")
    NewShell([built], home).end()
    shell = Shell([built], home)
    try:
        shell.type(b"status 9")
        shell.type(b"more", PS2)
        shell.type(b"rest")
        rows = lines(d, shell.pid, 3)
        equal(told(rows), [("status 9", 9), ("more", None), ("rest", 0)], "lines")
        equal({r["comm"] for r in rows}, {"readline_shell"}, "name")
    finally:
        shell.end()


def callbacks(d, home):
    """Programs that readline calls when a line is there: python, which was there before the plugin, and gdb."""
    d.cli("plugin", "disable", "bash")
    python = os.path.realpath("/usr/bin/python3")
    # From 3.13 on it has an editor of its own, unless told otherwise.
    argv = ["/usr/bin/env", "PYTHON_BASIC_REPL=1", python, "-q", "-s", "-i", "-c", f"import readline, sys; sys.ps1, sys.ps2 = '{PS1.decode()}', '{PS2.decode()}'"]
    before = Shell(argv, home)
    gdb = shutil.which("gdb")
    d.enable("bash", f"programs=bash,gdb,{os.path.basename(python)}")
    try:
        before.type(b"a = 1")
        before.type("b = 'café €uro'".encode())
        before.type(b"def f():", PS2)
        before.type(b" return 7", PS2)
        before.type(b"", PS1)
        before.type(b"a = 1")
        rows = lines(d, before.pid, 5)
        equal([r["cmd"] for r in rows], ["a = 1", "b = 'café €uro'", "def f():", " return 7", "a = 1"], "python's lines")
        equal({(r["comm"], r["tty"], r["uid"], r["cwd"], r["exit_status"]) for r in rows}, {(os.path.basename(python), before.tty, 0, home, None)},
              "owner")
        if not gdb:
            left_out.append("gdb")
            return
        shell = NewShell([gdb, "-q", "-nx", "-ex", f"set prompt {PS1.decode()}"], home)
        try:
            shell.type(b"echo one\\n")
            shell.type(b"print 6 * 7")
            rows = lines(d, shell.pid, 2)
            equal([r["cmd"] for r in rows], ["echo one\\n", "print 6 * 7"], "gdb's lines")
        finally:
            shell.end()
    finally:
        before.end()


def scripts(d, home):
    """bash -c and scripts are rows of exec, and share the session of the line that started them."""
    login = "/proc/self/loginuid"
    shell = Shell(BASH, home)
    try:
        if os.path.exists(login):
            # A login of its own, as a login program sets it.
            shell.type(b"echo 4242 >/proc/self/loginuid")
        shell.type(b"bash -c 'true rs-shell-scripts'; /bin/true")
        row = wait_until(lambda: [r for r in rows_of(d, shell.pid) if "rs-shell-scripts" in r["cmd"]], 8, "the line")[0]
        got = wait_until(lambda: d.sql(f"SELECT * FROM exec WHERE ppid = {shell.pid} AND comm = 'bash'"), 8, "the row of exec")[0]
        equal((got["session_id"], got["loginuid"]), (row["session_id"], row["loginuid"]), "session")
        contains(got["argv"], "bash -c 'true rs-shell-scripts'")
        if os.path.exists(login):
            equal(row["loginuid"], 4242, "login")
            true(row["session_id"] is not None, "a session")
    finally:
        shell.end()


def main():
    need_root()
    need_programs("bash", "ldd", "unshare", "mount")
    home = os.path.realpath(tempfile.mkdtemp(prefix="ringside-bash-"))
    os.chmod(home, 0o755)
    only = sys.argv[1:]
    try:
        with Daemon() as d:
            d.enable("exec")
            d.enable("bash", "ring_size=4MiB")
            for part in (edited, other_users, containers, copies, many, scripts, zsh, with_library, callbacks, freed):
                if only and part.__name__ not in only:
                    continue
                part(d, home)
                print(f"{part.__name__}: as it should be")
            plugin = d.plugin("bash")
            equal((plugin["kernel_drops"], plugin["decode_errors"], plugin["rows_dropped"]), (0, 0, 0), "losses")
    finally:
        shutil.rmtree(home)
    if left_out:
        print(f"left out, since they aren't here: {', '.join(left_out)}")


if __name__ == "__main__":
    main()
