#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The command line against a server made here: hostile rows, losses, broken messages, slow answers, the shell on a pty."""
import csv
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent import futures

import grpc

BUILD = os.environ["RINGSIDE_BUILD"]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RINGSIDE = os.path.join(BUILD, "bin", "ringside")
SCRATCH = tempfile.TemporaryDirectory(prefix="ringside-cli-")
SOCKET = os.path.join(SCRATCH.name, "s")

protos = [f"ringside/v1/{n}.proto" for n in ("table", "plugin", "query", "governor", "daemon")]
subprocess.run(["protoc", f"-I{ROOT}/api", f"--python_out={SCRATCH.name}", *protos], check=True)
sys.path.insert(0, SCRATCH.name)
from ringside.v1 import daemon_pb2, governor_pb2, plugin_pb2, query_pb2, table_pb2  # noqa: E402

HOSTILE = "rm -rf \x1b[2J\x1b]0;owned\x07 \u202e\u009b31m\tend\n"
COLUMNS = [
    table_pb2.Column(name="ts", type=table_pb2.COLUMN_TYPE_TIME),
    table_pb2.Column(name="cmd", type=table_pb2.COLUMN_TYPE_TEXT),
    table_pb2.Column(name="size", type=table_pb2.COLUMN_TYPE_INT64, unit="By"),
    table_pb2.Column(name="raw", type=table_pb2.COLUMN_TYPE_BYTES),
]
TABLES = [
    table_pb2.Table(name="shell", summary="what was typed", columns=COLUMNS, plugin="bash",
                    **{"class": table_pb2.TABLE_CLASS_AUDIT}),
    table_pb2.Table(name="sockets", summary="now", columns=COLUMNS, **{"class": table_pb2.TABLE_CLASS_LIVE}),
]


def value(v):
    if v is None:
        return table_pb2.Value()
    kind = {int: "integer", float: "real", str: "text", bytes: "blob"}[type(v)]
    return table_pb2.Value(**{kind: v})


def batch(rows):
    return table_pb2.RowBatch(row_count=len(rows), values=[value(v) for r in rows for v in r])


ROWS = [(1700000000123456789, HOSTILE, 1536, b"\x00\xff"), (1700000001000000000, "grüß 日本", None, None),
        (1700000002000000000, "", 2**63 - 1, b"")]
CSV_ROWS = [[str(r[0]), r[1], "" if r[2] is None else str(r[2]), (r[3] or b"").hex()] for r in ROWS]
seen = []


def query(req, ctx):
    seen.append(req)
    if "fail" in req.sql:
        ctx.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such column: \x1b[31mfoo")
    if "lazy" in req.sql:
        time.sleep(3)
    if "ever" in req.sql:
        while ctx.is_active():
            time.sleep(0.05)
    if "FROM segments" in req.sql:
        yield query_pb2.QueryResponse(columns=query_pb2.QueryColumns(
            columns=[table_pb2.Column(name=n) for n in ("ring", "ts_min", "ts_max", "rows", "bytes")]))
        yield query_pb2.QueryResponse(rows=batch(segments()))
    elif "param" in req.sql:
        yield query_pb2.QueryResponse(columns=query_pb2.QueryColumns(
            columns=[table_pb2.Column(name=f"p{i}") for i in range(len(req.parameters))]))
        yield query_pb2.QueryResponse(rows=table_pb2.RowBatch(row_count=1, values=req.parameters))
    else:
        yield query_pb2.QueryResponse(columns=query_pb2.QueryColumns(columns=COLUMNS))
        rows = table_pb2.RowBatch(row_count=3, values=[value(1)]) if "broken" in req.sql else batch(ROWS)
        yield query_pb2.QueryResponse(rows=rows)
    stats = query_pb2.QueryStats(rows=3, truncated=req.max_rows == 3)
    if "lossy" in req.sql:
        stats.completeness.add(table="shell", rows_lost=1234, since=1700000000000000000)
    if "bounded" in req.sql:
        stats.completeness.add(table="shell", rows_lost=12, since=1700000000000000000, rows_held=10400, why="ring_full 12",
                               **{"from": 1700000060000000000}, until=1700000120000000000)
    yield query_pb2.QueryResponse(stats=stats)


def segments():
    now = time.time_ns()
    ago = lambda s: now - s * 10**9  # noqa: E731
    # 1,000 rows and 100,000 bytes a second in those that the forecast is made of; one without rows.
    return [("audit", ago(20), ago(1), 10, 100000),
            ("flow", None, None, 0, 0), ("flow", ago(300), ago(0), 300000, 30000000), ("flow", ago(900), ago(300), 600000, 60000000),
            ("flow", ago(9000), ago(900), 77, 777)]


def watch(req, ctx):
    seen.append(req)
    tables = {t.name: t for t in TABLES}
    for n in req.tables:
        if n not in tables:
            ctx.abort(grpc.StatusCode.NOT_FOUND, f"no table '{n}', did you mean 'shell'?")
        yield table_pb2.WatchRowsResponse(table=tables[n], table_name=n)
    sent = 0
    while ctx.is_active():
        for n in req.tables:
            yield table_pb2.WatchRowsResponse(table_name=n, rows=batch(ROWS[:2]), dropped=7 if sent == 2 else 0,
                                              snapshot_end=n == "sockets", lost=5 if sent == 2 and n == "shell" else 0)
            sent += 2
            if req.max_rows and sent >= req.max_rows:
                return
        yield table_pb2.WatchRowsResponse()
        time.sleep(0.1)


PLUGIN = plugin_pb2.Plugin(name="netflow", help="flows", state=plugin_pb2.PLUGIN_STATE_DISABLED, tables=["netflow"])
PLUGIN.options.add(key="interval", type="duration", value="10s", default="10s", origin="default", help="time")


def answer(cls, **kw):
    def run(req, ctx):
        seen.append(req)
        return cls(**kw)
    return run


def set_log_level(req, ctx):
    ctx.abort(grpc.StatusCode.PERMISSION_DENIED, "viewers may not change the log level")


def handlers():
    def unary(fn, req):
        return grpc.unary_unary_rpc_method_handler(fn, req.FromString, lambda m: m.SerializeToString())

    def stream(fn, req):
        return grpc.unary_stream_rpc_method_handler(fn, req.FromString, lambda m: m.SerializeToString())

    services = {
        "QueryService": {"Query": stream(query, query_pb2.QueryRequest)},
        "TableService": {
            "ListTables": unary(answer(table_pb2.ListTablesResponse, tables=TABLES), table_pb2.ListTablesRequest),
            "WatchRows": stream(watch, table_pb2.WatchRowsRequest)},
        "PluginService": {
            "ListPlugins": unary(answer(plugin_pb2.ListPluginsResponse, plugins=[PLUGIN]), plugin_pb2.ListPluginsRequest),
            "GetPlugin": unary(answer(plugin_pb2.GetPluginResponse, plugin=PLUGIN), plugin_pb2.GetPluginRequest),
            "EnablePlugin": unary(answer(plugin_pb2.EnablePluginResponse, plugin=PLUGIN), plugin_pb2.EnablePluginRequest),
            "UpdatePlugin": unary(answer(plugin_pb2.UpdatePluginResponse, plugin=PLUGIN, restarted=True),
                                  plugin_pb2.UpdatePluginRequest),
            "CheckPlugin": unary(answer(plugin_pb2.CheckPluginResponse, supported=False, requirements=[
                plugin_pb2.Requirement(name="btf", met=False, required=True, detail="This kernel has no BTF.")]),
                plugin_pb2.CheckPluginRequest)},
        "GovernorService": {"UpdateLimits": unary(answer(governor_pb2.UpdateLimitsResponse,
                                                         governor=governor_pb2.Governor(state="ok")),
                                                  governor_pb2.UpdateLimitsRequest)},
        "DaemonService": {
            "GetDaemon": unary(answer(daemon_pb2.GetDaemonResponse, version="x", capabilities=[
                daemon_pb2.Capability(name="tp_btf", available=True, detail="Tracing programs can be attached.")]),
                daemon_pb2.GetDaemonRequest),
            "GetConfig": unary(answer(daemon_pb2.GetConfigResponse, values=[
                daemon_pb2.ConfigValue(key="store.flow.max_bytes", value="1GiB"),
                daemon_pb2.ConfigValue(key="store.flow.max_rows", value="0"),
                daemon_pb2.ConfigValue(key="store.flow.max_age", value="1d"),
                daemon_pb2.ConfigValue(key="store.audit.max_bytes", value="256MiB"),
                daemon_pb2.ConfigValue(key="store.audit.max_age", value="0")]), daemon_pb2.GetConfigRequest),
            "SetLogLevel": unary(set_log_level, daemon_pb2.SetLogLevelRequest)},
    }
    return [grpc.method_handlers_generic_handler(f"ringside.v1.{s}", m) for s, m in services.items()]


def run(*args, stdin=None, env=None, timeout=20):
    p = subprocess.run([RINGSIDE, "--socket", SOCKET, *args], input=stdin, capture_output=True, text=True,
                       env={**os.environ, **(env or {})}, timeout=timeout)
    return p.returncode, p.stdout, p.stderr


def expect(cond, *what):
    if not cond:
        print("FAILED:", *what)
        raise SystemExit(1)


def no_control(text, but="\n"):
    bad = re.findall(f"[\x00-\x1f\x7f-\x9f\u202a-\u202e]", "".join(c for c in text if c not in but))
    expect(not bad, "control characters reach the terminal", bad, text)


def test_outputs():
    rc, out, err = run("-o", "json", "sql", "SELECT 1")
    rows = [json.loads(line) for line in out.splitlines()]
    expect(rc == 0 and err == "" and len(rows) == 3, rc, out, err)
    expect(rows[0] == {"ts": ROWS[0][0], "cmd": HOSTILE, "size": 1536, "raw": "00ff"}, rows[0])
    expect(rows[1]["size"] is None and rows[1]["raw"] is None and rows[2]["size"] == 2**63 - 1, rows)
    rc, out, _ = run("-o", "csv", "sql", "SELECT 1")
    expect(list(csv.reader(io.StringIO(out, newline="")))[1:] == CSV_ROWS, out)
    rc, out, _ = run("-o", "tsv", "sql", "SELECT 1")
    lines = out.split("\n")
    expect(lines[0] == "ts\tcmd\tsize\traw" and len(lines) == 5 and lines[1].count("\t") == 3, out)
    rc, out, _ = run("sql", "SELECT 1", env={"TZ": "UTC"})
    no_control(out)
    expect("2023-11-14T22:13:20.123+00:00" in out and "1.5KiB" in out and "\\x1b[2J" in out and "\\u{202e}" in out, out)


def test_notes():
    rc, out, err = run("-o", "tsv", "sql", "SELECT lossy", env={"TZ": "UTC"})
    expect("1,234 rows of shell are known to be lost since 2023-11-14T22:13:20" in err and "3 rows (" in err, err)
    expect("lost" not in out, out)
    rc, out, err = run("-o", "json", "sql", "SELECT bounded", env={"TZ": "UTC"})
    expect("incomplete: 12 of 10,412 rows of shell are known to be lost from 2023-11-14T22:14:20" in err and
           " to 2023-11-14T22:15:20" in err and err.rstrip().endswith(": ring_full 12"), err)
    rc, _, err = run("sql", "-n", "3", "SELECT 1")
    expect(rc == 0 and "cut at 3" in err and seen[-1].max_rows == 3, err)
    rc, out, err = run("sql", "SELECT fail")
    expect(rc == 1 and out == "" and err == "ringside: no such column: \\x1b[31mfoo\n", rc, out, err)
    rc, out, err = run("sql", "SELECT broken")
    expect(rc == 1 and "Protocol error" in err, rc, err)
    rc, _, err = run("--timeout", "300ms", "sql", "SELECT forever")
    expect(rc == 1 and err, rc, err)
    rc, _, err = run("log-level", "debug")
    expect(rc == 1 and "viewers" in err, rc, err)


def test_params():
    rc, out, _ = run("-o", "json", "sql", "SELECT param", *sum((["--param", p] for p in
                     ("42", "-1.5", "null", "'7'", "nan", "1e3", "a'b", "9223372036854775808")), []))
    got = json.loads(out)
    expect(list(got.values()) == [42, -1.5, None, "7", "nan", 1000.0, "a'b", 9.223372036854775808e18], got)


def test_pipe():
    before = len(seen)
    rc, out, _ = run("-o", "tsv", "sql", stdin="SELECT ';' -- ;\n; \n\n/* x */ SELECT 2;;SELECT 3")
    expect(rc == 0 and [s.sql for s in seen[before:]] == ["SELECT ';' -- ;\n", "/* x */ SELECT 2", "SELECT 3"],
           [s.sql for s in seen[before:]])
    rc, out, err = run("sql", stdin="SELECT fail; SELECT 1;")
    expect(rc == 1 and out == "" and "no such column" in err, rc, out, err)
    rc, out, err = run("sql", stdin="SELECT 1\0;")
    expect(rc == 1 and "NUL" in err, rc, err)
    rc, out, _ = run("sql", "  ; ")
    expect(rc == 2, rc)


def test_watch():
    rc, out, err = run("-o", "json", "watch", "shell", "--max-rows", "4", "--where", "size > 1", "--since", "5m")
    req = seen[-1]
    expect(rc == 0 and len(out.splitlines()) == 4 and req.where == "size > 1" and req.since == -300 * 10**9, rc, out, err)
    expect("7 rows were missed" in err and "5 rows of shell are lost or were left out" in err and "4 rows, 7 missed, 5 lost" in err, err)
    rc, out, _ = run("-o", "json", "watch", "shell", "sockets", "--max-rows", "4")
    expect([json.loads(x)["_table"] for x in out.splitlines()] == ["shell"] * 2 + ["sockets"] * 2, out)
    rc, out, _ = run("-o", "tsv", "watch", "shell", "--columns", "size,ts", "--max-rows", "2")
    expect(out == f"size\tts\n1536\t{ROWS[0][0]}\n\t{ROWS[1][0]}\n", out)
    rc, _, err = run("watch", "shell", "--columns", "nope")
    expect(rc == 2 and "no column 'nope'" in err, rc, err)
    rc, _, err = run("-o", "csv", "watch", "shell", "sockets")
    expect(rc == 2, rc, err)
    rc, _, err = run("watch", "shel")
    expect(rc == 1 and "did you mean" in err, rc, err)
    rc, out, err = run("watch", "sockets", "--for", "500ms")
    expect(rc == 0 and out.count("ts ") >= 2, rc, out, err)
    no_control(out)


def test_signals():
    p = subprocess.Popen([RINGSIDE, "--socket", SOCKET, "watch", "shell"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.5)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=5)
    expect(p.returncode == 0 and b"ringside:" not in err, p.returncode, err)
    p = subprocess.Popen([RINGSIDE, "--socket", SOCKET, "sql", "SELECT forever"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.5)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=5)
    expect(p.returncode == -signal.SIGINT and err == b"", p.returncode, err)
    p = subprocess.Popen([RINGSIDE, "--socket", SOCKET, "watch", "shell"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdout.readline()
    p.stdout.close()
    expect(p.wait(timeout=5) == -signal.SIGPIPE, p.returncode)
    with open("/dev/full", "w") as full:
        p = subprocess.run([RINGSIDE, "--socket", SOCKET, "sql", "SELECT 1"], stdout=full, stderr=subprocess.PIPE, timeout=5)
    expect(p.returncode == 1 and b"No space left" in p.stderr, p)


def test_usage():
    for args, rc, text in [
        (["plugni"], 2, "did you mean 'plugin'"), (["sql", "--parm", "1"], 2, "did you mean '--param'"),
        (["plugin", "enable"], 2, "needs NAME"), (["-o", "xml", "tables"], 2, "none of table, json"),
        (["sql", "a", "b"], 2, "too much"), (["watch"], 2, "needs a TABLE"), (["--timeout", "5", "tables"], 2, "--timeout"),
        (["plugin", "set", "netflow", "interval"], 2, "not KEY=VALUE"), (["sql", "--param"], 2, "needs a value"),
        (["limits", "set", "cpu=1"], 2, "none of cpu_limit"), (["schema", "shel"], 1, "did you mean 'shell'"),
        (["plugin", "set", "netflow", "a=1", "a=2"], 2, "given twice"), (["--address", "h:1", "tables"], 2, "exclude"),
        (["doctor"], 1, "1 required thing is missing"), (["plugin", "check", "netflow"], 1, "cannot carry"),
        (["completion", "tcsh"], 2, "bash, zsh and fish"), (["sql", "-n", "-3", "SELECT 1"], 2, "whole number"),
    ]:
        got, out, err = run(*args)
        expect(got == rc and text in err, args, got, out, err)
    p = subprocess.run([RINGSIDE, "--socket", SOCKET + ".none", "tables"], capture_output=True, text=True)
    expect(p.returncode == 69 and SOCKET + ".none" in p.stderr and "is the daemon running" in p.stderr, p)
    p = subprocess.run([RINGSIDE, "tables"], capture_output=True, text=True, env={**os.environ, "RINGSIDE_SOCKET": SOCKET})
    expect(p.returncode == 0 and "shell" in p.stdout, p)
    for verb in ["sql", "plugin", "plugin enable", "watch", "limits set", "completion"]:
        got, out, err = run(*verb.split(), "--help")
        expect(got == 0 and out.startswith("Usage: ringside ") and err == "", verb, out, err)


def test_history():
    rc, out, err = run("-o", "json", "history")
    rings = {r["ring"]: r for r in map(json.loads, out.splitlines())}
    flow, audit = rings["flow"], rings["audit"]
    expect((flow["segments"], flow["rows"], flow["bytes"], flow["max_bytes"]) == (4, 900077, 90000777, 2**30), flow)
    expect(flow["newest"] - flow["oldest"] == 9000 * 10**9, flow)
    expect(990 < flow["rows_per_s"] <= 1001 and 99000 < flow["bytes_per_s"] <= 100100, flow)
    # 2^30 bytes at that rate.
    expect(10720 * 10**9 < flow["reach"] < 10850 * 10**9, flow)
    expect(audit["segments"] == 1 and audit["reach"] is None, "too young for a forecast", audit)
    rc, out, err = run("history")
    expect(rc == 0 and "  2h5" in out, out)


def test_requests():
    run("plugin", "enable", "netflow", "interval=5s", "--persist", "--for", "90s")
    req = seen[-1]
    expect(req.name == "netflow" and req.persist and req.options == {"interval": "5s"} and req.duration.seconds == 90, req)
    rc, out, _ = run("plugin", "set", "netflow", "interval=", "loopback=true")
    req = seen[-1]
    expect(list(req.update_mask.paths) == ["interval", "loopback"] and req.options == {"loopback": "true"}, req)
    expect("restarted" in out, out)
    run("limits", "set", "cpu_limit=0.5", "mem_limit=")
    req = seen[-1]
    expect(req.limits.cpu_limit == "0.5" and list(req.update_mask.paths) == ["cpu_limit", "mem_limit"], req)
    rc, out, _ = run("-o", "json", "plugin", "show", "netflow")
    expect(json.loads(out)["option.interval"] == "10s", out)
    rc, out, _ = run("doctor")
    expect("ok  tp_btf: Tracing" in out and "--  btf: This kernel has no BTF." in out, out)


def test_completion():
    def words(*args):
        return [line.split("\t")[0] for line in run("complete", *args)[1].splitlines()]
    expect(words("plugin", "en") == ["enable"], words("plugin", "en"))
    expect(words("--socket", SOCKET, "plugin", "show", "") == ["netflow"], words("--socket", SOCKET, "plugin", "show", ""))
    expect(words("plugin", "enable", "netflow", "") == ["interval="])
    expect(words("watch", "so") == ["sockets"] and words("-o", "") == ["table", "json", "csv", "tsv"])
    expect("--where" in words("watch", "--w") and words("log-level", "d") == ["debug"] and words("config", "check", "") == ["@file"])
    for shell in ("bash", "zsh", "fish"):
        rc, out, _ = run("completion", shell)
        expect(rc == 0 and "complete" in out)
        if subprocess.run(["sh", "-c", f"command -v {shell}"], capture_output=True).returncode == 0:
            p = subprocess.run([shell, "-n"], input=out, text=True, capture_output=True)
            expect(p.returncode == 0, shell, p.stderr)
    script = (run("completion", "bash")[1] + f"COMP_WORDS=({RINGSIDE} plugin sh); COMP_CWORD=2; _ringside; "
              "echo \"${COMPREPLY[@]}\"")
    p = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    expect(p.stdout.strip() == "show", p)


class Pty:
    """A program on a terminal of 100 columns. setsid rather than pty.fork: gRPC's fork handlers wait for the server's threads."""

    def __init__(self, *args, env=None):
        import fcntl
        import struct
        import termios
        self.fd, tty = pty.openpty()
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        env = {**os.environ, "TERM": "xterm", "XDG_STATE_HOME": SCRATCH.name, "LANG": "C.UTF-8", **(env or {})}
        env.pop("NO_COLOR", None)
        self.process = subprocess.Popen(["setsid", "--ctty", RINGSIDE, "--socket", SOCKET, *args], env=env,
                                        stdin=tty, stdout=tty, stderr=tty)
        os.close(tty)
        self.text = ""

    def send(self, text):
        os.write(self.fd, text.encode())

    def until(self, want, timeout=10):
        end = time.time() + timeout
        while want not in self.text:
            expect(time.time() < end, "waiting for", repr(want), "got", repr(self.text))
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    break
        expect(want in self.text, "ended without", repr(want), repr(self.text))
        got, _, self.text = self.text.partition(want)
        return got + want

    def wait(self):
        end = time.time() + 10
        while time.time() < end:
            if self.process.poll() is not None:
                os.close(self.fd)
                return self.process.returncode
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.text += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    pass
        self.process.kill()
        expect(False, "did not end", repr(self.text))


def test_shell():
    t = Pty("sql")
    t.until("ringside> ")
    t.send("SELECT\n")
    t.until("...> ")
    before = len(seen)
    t.send("1;\n")
    out = t.until("3 rows (")
    expect(seen[before].sql == "SELECT\n1" and "\x1b[2J" not in out and "\\x1b[2J" in out, seen[before:], repr(out))
    t.until("ringside> ")
    t.send(".tables\n")
    t.until("sockets")
    t.until("ringside> ")
    t.send(".schema shell\n")
    t.until("TIME")
    t.until("ringside> ")
    t.send(".mode json\n")
    t.until("ringside> ")
    t.send("SELECT 2;\n")
    t.until('"size":1536')
    t.until("ringside> ")
    t.send("SELECT fail;\n")
    t.until("no such column")
    t.until("ringside> ")
    # Ctrl-C drops a half-typed statement, then ends a running one.
    t.send("SELECT half\n")
    t.until("...> ")
    t.send("\x03")
    t.until("ringside> ")
    t.send("SELECT forever;\n")
    time.sleep(0.7)
    t.send("\x03")
    t.until("interrupted")
    t.until("ringside> ")
    t.send("SELECT * FROM sock\t;\n")
    t.until('"size":1536')
    expect(seen[-1].sql == "SELECT * FROM sockets ", seen[-1])
    t.until("ringside> ")
    t.send("SELECT 'grüß 日本';\n")
    t.until('"size":1536')
    expect(seen[-1].sql == "SELECT 'grüß 日本'", seen[-1])
    t.until("ringside> ")
    t.send("\x1b[A\x1b[A")
    t.until("sockets")
    t.send("\n")
    t.until("ringside> ")
    t.send(".nonsense\n")
    t.until("unknown command")
    t.send(".quit\n")
    expect(t.wait() == 0, t.text)
    path = os.path.join(SCRATCH.name, "ringside", "history")
    expect(os.stat(path).st_mode & 0o777 == 0o600, oct(os.stat(path).st_mode))
    t = Pty("sql")
    t.until("ringside> ")
    t.send("\x1b[A")
    t.until(".quit")
    t.send("\x05\x15\x04")
    expect(t.wait() == 0, t.text)


def test_terminal():
    t = Pty("sql", "SELECT 1")
    expect(t.wait() == 0, t.text)
    expect("\x1b[2J" not in t.text and "\x1b[1m" in t.text and "3 rows (" in t.text, repr(t.text))
    t = Pty("--no-color", "sql", "SELECT 1")
    expect(t.wait() == 0 and "\x1b" not in t.text, repr(t.text))
    t = Pty("-o", "csv", "sql", "SELECT 1")
    expect(t.wait() == 0 and "\x1b" not in t.text, repr(t.text))
    t = Pty("sql", "SELECT lazy")
    expect(t.wait() == 0 and "querying: 2 s" in t.text, repr(t.text))
    t = Pty("watch", "sockets", "--for", "600ms")
    expect(t.wait() == 0 and t.text.count("\x1b[H") >= 2, repr(t.text))


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), handlers=handlers())
    server.add_insecure_port("unix:" + SOCKET)
    server.start()
    try:
        for name, fn in list(globals().items()):
            if name.startswith("test_") and (len(sys.argv) < 2 or sys.argv[1] in name):
                fn()
                print("ok", name)
    finally:
        server.stop(0)
        threading.Event().wait(0.1)


main()
