#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Start, readiness, status, refusals, signals, reload, exit codes: what a service manager and an operator rely on."""

import grp
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ringside as rs


def fails(*args, code, text, env=None):
    """Runs the daemon's binary to a quick end."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("RINGSIDE_", "ENV_INPUT_EBPF_"))}
    environ.update(env or {})
    p = subprocess.run([rs.DAEMON, *args], env=environ, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    rs.equal(p.returncode, code, f"exit code of ringsided {' '.join(args)} ({p.stderr.strip()})")
    rs.contains(p.stderr + p.stdout, text, "what it says")


def has_group(name):
    try:
        grp.getgrnam(name)
        return True
    except KeyError:
        return False


def usage_and_configuration():
    with tempfile.TemporaryDirectory(prefix="ringside-test-") as tmp:
        config = os.path.join(tmp, "c.toml")

        def write(text):
            with open(config, "w") as f:
                f.write(text)

        fails("--version", code=0, text="ringsided ")
        fails("--help", code=0, text="--store-flow-max-bytes")
        fails("--cpu-limt", "1.0", code=2, text="did you mean '--cpu-limit'?")
        fails("--cpu-limit", code=2, text="needs a value")
        fails("word", code=2, text="unexpected word 'word'")
        fails("--set", "cpu_limit", code=2, text="expected KEY=VALUE")
        fails("--config", tmp + "/none.toml", "--check-config", code=2, text="doesn't exist")
        write('log_level = "info"\n\ncpu_limt = "1.0"\n')
        fails("--config", config, code=2, text=f"{config}:3: unknown option 'cpu_limt'; did you mean 'cpu_limit'?")
        write('mem_limit = "4gigs"\n')
        fails("--config", config, code=2, text=f"{config}:1: mem_limit '4gigs'")
        write("a = = 1\n")
        fails("--config", config, code=2, text=f"{config}:1")
        write('[plugins.netflow]\ninterval = "30s"\n')
        fails("--config", config, "--check-config", code=0, text="configuration is fine")
        fails("--config", config, "--check-config", code=2, text="RINGSIDE_CPU_LIMIT", env={"RINGSIDE_CPU_LIMIT": "lots"})
        fails("--config", config, "--check-config", code=2, text="unknown plugin 'ebpf-trace'",
              env={"ENV_INPUT_EBPF_ENABLED_PLUGINS": "ebpf-net,ebpf-trace"})
        fails("--config", config, "--check-config", code=0, text="ENV_INPUT_EBPF_CONV_TO_DDTRACE names no option",
              env={"ENV_INPUT_EBPF_CONV_TO_DDTRACE": "true"})
        fails("--config", config, "--check-config", "--api-listen", "0.0.0.0:1", code=2, text="mutual TLS")
        fails("--config", "/dev/null", "--state-dir", tmp + "/no/such/parent", code=1, text="cannot make state directory")


def kernel_unsupported():
    """Without the kernel's BTF: exit code 3 and the sentence. In a mount namespace of its own."""
    if not os.path.isdir("/sys/kernel/btf"):
        return
    with tempfile.TemporaryDirectory(prefix="ringside-test-") as tmp:
        os.mkdir(tmp + "/empty")
        script = f"mount --bind {tmp}/empty /sys/kernel/btf && exec {rs.DAEMON} --config /dev/null --state-dir {tmp}/s --socket {tmp}/sock"
        p = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=60)
        rs.equal(p.returncode, 3, f"exit code without BTF ({p.stderr})")
        rs.contains(p.stderr, "no /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF is off): no plugin can run")


def ready_status_stop():
    with rs.Daemon() as d:
        lines = rs.wait_until(lambda: [x for x in d.notify.lines if x.startswith("STATUS=Watching")], what="a status")
        rs.equal(lines[0], "STATUS=Watching: nothing (no plugin is enabled)")
        rs.equal(os.stat(d.state).st_mode & 0o777, 0o750, "mode of the state directory")
        mode = 0o660 if has_group("ringside") else 0o600
        rs.equal(os.stat(d.socket).st_mode & 0o777, mode, "mode of the socket")

        fails("--config", "/dev/null", "--state-dir", d.state, "--socket", d.socket + "2", code=1,
              text=f"state directory '{d.state}' is in use by another ringsided (pid {d.pid})")

        info = json.loads(d.cli("-o", "json", "status").splitlines()[0])
        rs.equal(int(info["pid"]), d.pid, "pid in the status")
        with open(f"/proc/{d.pid}/status") as f:
            names = f.read()
        rs.true("Threads:" in names, "threads")
        for line in names.splitlines():
            if line.startswith("SigBlk:"):  # SIGHUP, SIGINT, SIGTERM
                rs.equal(int(line.split()[1], 16) & 0x4003, 0x4003, "blocked signals")

        d.cli("plugin", "enable", "netflow")
        rs.wait_until(lambda: "STATUS=Watching: netflow" in d.notify.lines, what="the plugin in the status")
        events = [(e["event"], e["subject"], e["actor"])
                  for e in d.wait_sql("SELECT * FROM daemon_events WHERE event = 'plugin_enabled'")]
        actor = events[0][2] if events else ""
        rs.equal(events, [("plugin_enabled", "netflow", actor)], "audit rows")
        rs.true(re.fullmatch(r"uid 0, pid \d+", actor), f"who enabled it is told: '{actor}'")
        pid = d.pid
        d.stop()
        rs.contains(d.log(), "ringsided stopped, exit code 0")
        rs.wait_until(lambda: "STOPPING=1" in d.notify.lines, what="STOPPING=1")
        rs.true(not os.path.exists(f"/proc/{pid}"), "the process is gone")

        d.start()
        rows = d.wait_sql("SELECT event FROM daemon_events WHERE event = 'stop'")
        rs.equal(len(rows), 1, "the first run's last row")
        d.stop(sig=signal.SIGINT)
        d.start()
        d.cli("plugin", "enable", "netflow")
        d.wait_sql("SELECT count(*) FROM daemon_events WHERE event = 'start' GROUP BY event HAVING count(*) = 3", what="the third start")
        d.kill()  # a crash: the lock goes with the process, the ring stays readable
        d.start()
        d.wait_sql("SELECT count(*) FROM daemon_events WHERE event = 'start' GROUP BY event HAVING count(*) = 4", what="the fourth start")


def watchdog():
    """WATCHDOG=1 about once a second while all is well."""
    d = rs.Daemon(env={"WATCHDOG_USEC": "9000000"})
    with d:
        rs.wait_until(lambda: d.notify.lines.count("WATCHDOG=1") >= 2, what="the watchdog's keep-alive")


def manager_that_does_not_read():
    """A service manager that hangs doesn't hang us."""
    with tempfile.TemporaryDirectory(prefix="ringside-test-") as tmp:
        deaf = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        deaf.bind(tmp + "/deaf")
        d = rs.Daemon()
        with d:
            d.stop()
            d.env["NOTIFY_SOCKET"] = tmp + "/deaf"
            d.start(wait=False)
            rs.wait_until(lambda: d.log().count("is ready") == 2, what="the second start")
            for _ in range(17):  # each changes the status; a queue of the kernel holds ten
                d.cli("plugin", "enable", "netflow")
                d.cli("plugin", "disable", "netflow")
            rs.contains(d.log(), "the service manager doesn't take")
        deaf.close()


def reload_configuration():
    with rs.Daemon(config='log_level = "info"\n[plugins.netflow]\ninterval = "5s"\n') as d:
        d.cli("plugin", "enable", "netflow")

        def value(key):
            for line in d.cli("-o", "json", "config", "show").splitlines():
                v = json.loads(line)
                if v["key"] == key:
                    return v
            raise AssertionError(f"no {key} in config show")

        rs.equal((value("plugins.netflow.interval")["value"], value("plugins.netflow.interval")["origin"]), ("5s", "file"))
        rs.contains(value("plugins.netflow.interval")["detail"], "line 3 of")

        with open(d.config_path, "w") as f:
            f.write('mem_limit = "2GiB"\nplugins.netflow.interval = "7s"\n[query]\nmax_workers = 2\n')
        os.kill(d.pid, signal.SIGHUP)
        rs.wait_until(lambda: "configuration read again; changed: " in d.log(), what="the reload")
        rs.contains(d.log(), "query.max_workers*")
        rs.contains(d.log(), "mem_limit")
        rs.equal(value("mem_limit")["value"], "2GiB")
        rs.equal(value("plugins.netflow.interval")["value"], "7s")
        rs.equal(d.plugin("netflow")["state"], "running")
        limit = d.one("SELECT limit_value FROM governor WHERE resource = 'mem'")
        rs.equal(limit, 2 << 30, "limit of the governor")

        # A bad file changes nothing.
        with open(d.config_path, "w") as f:
            f.write('mem_limit = "1GiB"\nnonsense = 1\n')
        os.kill(d.pid, signal.SIGHUP)
        rs.wait_until(lambda: "configuration not taken over: " in d.log(), what="the refusal")
        rs.equal(value("mem_limit")["value"], "2GiB")

        # What was set by RPC stands above the file.
        d.cli("limits", "set", "mem_limit=3GiB")
        with open(d.config_path, "w") as f:
            f.write('mem_limit = "1GiB"\n')
        os.kill(d.pid, signal.SIGHUP)
        rs.wait_until(lambda: d.log().count("configuration read again") == 2, what="the second reload")
        rs.equal((value("mem_limit")["value"], value("mem_limit")["origin"]), ("3GiB", "rpc"))


def socket_activation():
    """A listening socket from the service manager is used and left alone at the end."""
    with tempfile.TemporaryDirectory(prefix="ringside-test-") as tmp:
        path = tmp + "/activated"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(8)

        def pass_fd():
            os.dup2(listener.fileno(), 3)
            os.set_inheritable(3, True)

        script = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'
        argv = ["sh", "-c", script, "sh", rs.DAEMON, "--config", "/dev/null", "--state-dir", tmp + "/state", "--socket", tmp + "/unused"]
        log = open(tmp + "/log", "w")
        p = subprocess.Popen(argv, preexec_fn=pass_fd, close_fds=False, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            out = subprocess.run([rs.CLI, "--socket", path, "-o", "json", "status"], capture_output=True, text=True, timeout=60)
            rs.equal(out.returncode, 0, f"status over the activated socket ({out.stderr})")
            rs.true(not os.path.exists(tmp + "/unused"), "no socket of its own")
        finally:
            p.send_signal(signal.SIGTERM)
            code = p.wait(30)
            listener.close()
        rs.equal(code, 0, "exit code")
        rs.true(os.path.exists(path), "the manager's socket is still there")


def stop_under_way():
    """SIGTERM with clients, watchers and a query running: ends within seconds."""
    with rs.Daemon() as d:
        d.cli("plugin", "enable", "netflow", "interval=1s")
        watch = subprocess.Popen([rs.CLI, "--socket", d.socket, "watch", "plugins"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        slow = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c"
        query = subprocess.Popen([rs.CLI, "--socket", d.socket, "sql", slow], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)
        start = time.monotonic()
        d.stop()
        took = time.monotonic() - start
        for p in (watch, query):
            rs.true(p.wait(10) != 0, "a client that was cut off says so")
        rs.true(took < 10, f"the stop took {took:.1f} s")


def main():
    rs.need_root()
    usage_and_configuration()
    kernel_unsupported()
    ready_status_stop()
    watchdog()
    manager_that_does_not_read()
    reload_configuration()
    socket_activation()
    stop_under_way()


main()
