# SPDX-License-Identifier: Apache-2.0
"""What kernel, e2e and fault tests share: a scratch daemon, its command line, namespaces and assertions."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

BUILD = os.environ.get("RINGSIDE_BUILD", "build")
DAEMON = os.path.join(BUILD, "bin", "ringsided")
CLI = os.path.join(BUILD, "bin", "ringside")


def skip(reason):
    """Ends the test as skipped; the reason is the last line."""
    print(reason)
    sys.exit(77)


def workload(name):
    """Path of a program that was built for tests."""
    path = os.path.join(BUILD, "tests", name)
    if not os.path.exists(path):
        skip(f"{name} isn't built")
    return path


def need_root():
    if os.geteuid() != 0:
        skip("needs root")


def need_programs(*names):
    for name in names:
        if not shutil.which(name):
            skip(f"needs {name}")


def equal(got, want, what="value"):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


def contains(text, part, what="text"):
    if part not in text:
        raise AssertionError(f"{what}: {part!r} isn't in {text!r}")


def true(condition, what):
    if not condition:
        raise AssertionError(what)


def wait_until(check, timeout=10, what="condition", interval=0.05):
    """Calls check until it gives something true, and returns that."""
    end = time.monotonic() + timeout
    while True:
        got = check()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError(f"{what} didn't come within {timeout} s")
        time.sleep(interval)


class CliError(AssertionError):
    def __init__(self, args, code, out, err):
        super().__init__(f"ringside {' '.join(args)}: exit {code}: {err.strip() or out.strip()}")
        self.code, self.out, self.err = code, out, err


class Notify:
    """The service manager's end of the notification socket, read by a thread of its own."""

    def __init__(self, path):
        self.lines = []
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(path)
        self.sock.settimeout(0.2)
        self.closing = False
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        while not self.closing:
            with contextlib.suppress(socket.timeout):
                self.lines += self.sock.recv(4096).decode().splitlines()

    def close(self):
        self.closing = True
        self.thread.join()
        self.sock.close()


class Daemon:
    """A ringsided of our own in a scratch directory. Use it with "with": it is stopped and checked at the end.

    config: text of a TOML file; flags: further arguments; env: further variables; netns: name of a namespace to run in.
    state: a directory to use instead of a scratch one (it stays).
    """

    def __init__(self, config="", flags=(), env=None, netns=None, state=None, ready_timeout=60):
        self.dir = tempfile.mkdtemp(prefix="ringside-test-")
        self.state = state or os.path.join(self.dir, "state")
        self.socket = os.path.join(self.dir, "s")
        self.log_path = os.path.join(self.dir, "log")
        self.config_path = os.path.join(self.dir, "ringside.toml")
        with open(self.config_path, "w") as f:
            f.write(config)
        self.flags, self.env, self.netns = list(flags), dict(env or {}), netns
        self.ready_timeout = ready_timeout
        self.process = None
        self.notify = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.kill()
            self.clean()
            raise
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind:
                print(f"---- log of the daemon\n{self.log()}----", file=sys.stderr)
                self.kill()
            elif self.process:
                self.stop()
        finally:
            self.kill()
            self.clean()

    def argv(self):
        argv = [DAEMON, "--config", self.config_path, "--state-dir", self.state, "--socket", self.socket, *self.flags]
        return ["ip", "netns", "exec", self.netns, *argv] if self.netns else argv

    def start(self, wait=True):
        """Starts it, and waits until it says READY=1."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("RINGSIDE_", "ENV_INPUT_EBPF_", "NOTIFY_"))}
        env.update(self.env)
        path = os.path.join(self.dir, "notify")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        if self.notify:
            self.notify.close()
        self.notify = Notify(path)
        env.setdefault("NOTIFY_SOCKET", path)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        if wait:
            end = time.monotonic() + self.ready_timeout
            while "READY=1" not in self.notify.lines:
                time.sleep(0.02)
                if self.process.poll() is not None:
                    raise AssertionError(f"ringsided ended with {self.process.returncode} before it was ready:\n{self.log()}")
                if time.monotonic() > end:
                    raise AssertionError(f"ringsided isn't ready after {self.ready_timeout} s:\n{self.log()}")
        return self

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def wait(self, timeout=30):
        """Waits until it ends by itself; returns the exit code."""
        code = self.process.wait(timeout)
        self.process = None
        return code

    def stop(self, sig=signal.SIGTERM, code=0, timeout=30):
        """Ends it in order and checks that it went as it should."""
        self.process.send_signal(sig)
        got = self.wait(timeout)
        if got != code:
            raise AssertionError(f"ringsided: exit {got}, want {code}; log:\n{self.log()}")
        if os.path.exists(self.socket):
            raise AssertionError("the socket is still there after the stop")

    def kill(self):
        """Ends it at once; also what a test uses to play a crash."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process = None

    def restart(self):
        self.stop()
        return self.start()

    def clean(self):
        if self.notify:
            self.notify.close()
            self.notify = None
        shutil.rmtree(self.dir, ignore_errors=True)

    def cli(self, *args, code=0, timeout=60, stdin=None):
        """Runs the command line on this daemon and returns what it prints; another exit code than code is an error."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("RINGSIDE_")}
        p = subprocess.run([CLI, "--socket", self.socket, *args], env=env, input=stdin, stdin=None if stdin else subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=timeout)
        if code is not None and p.returncode != code:
            raise CliError(args, p.returncode, p.stdout, p.stderr)
        return p.stdout if code == 0 or code is None else p.stderr

    def sql(self, query, timeout=60):
        """Rows of a statement as dicts."""
        out = self.cli("-o", "json", "sql", query, timeout=timeout)
        return [json.loads(line) for line in out.splitlines() if line.strip()]

    def one(self, query):
        """The single value of a statement."""
        rows = self.sql(query)
        if len(rows) != 1 or len(rows[0]) != 1:
            raise AssertionError(f"{query}: got {rows!r}, want one value")
        return next(iter(rows[0].values()))

    def wait_sql(self, query, timeout=15, what=None):
        """Repeats a statement until it gives rows."""
        return wait_until(lambda: self.sql(query), timeout, what or query, 0.2)

    def plugin(self, name):
        rows = self.sql(f"SELECT * FROM plugins WHERE name = '{name}'")
        if len(rows) != 1:
            raise AssertionError(f"plugin {name}: got {rows!r}")
        return rows[0]

    def enable(self, name, *options):
        """Enables a plugin, or skips the test where this kernel can't carry it."""
        try:
            return self.cli("plugin", "enable", name, *options)
        except CliError as e:
            if self.plugin(name)["state"] == "unsupported":
                skip(f"plugin {name}: {e.err.strip()}")
            raise

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def anon_fds(self, part=""):
        """How many descriptors of each kind without a file, those with that part in their name: programs, maps, links, events."""
        n = {}
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                kind = os.readlink(f"/proc/{self.pid}/fd/{fd}")
                if kind.startswith("anon_inode:") and part in kind:
                    n[kind] = n.get(kind, 0) + 1
        return n

    def threads(self):
        """Names of the threads."""
        names = []
        for tid in os.listdir(f"/proc/{self.pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{self.pid}/task/{tid}/comm") as f:
                names.append(f.read().strip())
        return names

    def rss_kib(self):
        with open(f"/proc/{self.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))


def exchange(n):
    """n connections of 1,000 bytes to a port of our own; returns the port."""
    server = socket.create_server(("127.0.0.1", 0), backlog=64)
    port = server.getsockname()[1]

    def serve():
        for _ in range(n):
            c, _ = server.accept()
            while c.recv(65536):
                pass
            c.close()
    t = threading.Thread(target=serve)
    t.start()
    for _ in range(n):
        with socket.create_connection(("127.0.0.1", port)) as c:
            c.sendall(b"x" * 1000)
    t.join()
    server.close()
    return port


def run(*argv, **kw):
    """Runs a program to its end; its output on failure."""
    p = subprocess.run(argv, capture_output=True, text=True, **kw)
    if p.returncode:
        raise AssertionError(f"{' '.join(argv)}: exit {p.returncode}: {p.stderr.strip()}")
    return p.stdout


@contextlib.contextmanager
def netns(*names):
    """Network namespaces with loopback up; gone at the end. Names begin with "rs-<area>-"."""
    need_programs("ip")
    made = []
    try:
        for name in names:
            run("ip", "netns", "add", name)
            made.append(name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=False)


def netns_link(a, b, subnet, dev, subnet6=None):
    """Joins two namespaces by a veth pair, which goes with them: .1 and .2 of subnet, ::1 and ::2 of subnet6."""
    run("ip", "link", "add", dev, "netns", a, "type", "veth", "peer", "name", dev, "netns", b)
    for i, ns in ((1, a), (2, b)):
        run("ip", "-n", ns, "addr", "add", f"{subnet}.{i}/24", "dev", dev)
        if subnet6:
            run("ip", "-n", ns, "addr", "add", f"{subnet6}::{i}/64", "dev", dev, "nodad")
        run("ip", "-n", ns, "link", "set", dev, "up")


@contextlib.contextmanager
def netns_pair(a, b, subnet, subnet6=None):
    """Two namespaces joined by a veth pair: .1 and .2 of subnet ("10.99.7"), ::1 and ::2 of subnet6 ("fd99:7")."""
    with netns(a, b):
        netns_link(a, b, subnet, "veth0", subnet6)
        yield f"{subnet}.1", f"{subnet}.2"
