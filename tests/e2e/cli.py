#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every verb of the command line on a real daemon: outputs, exit codes, what they change, and script-like use."""
import csv
import io
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
import ringside  # noqa: E402
from ringside import CLI, Daemon, contains, equal, exchange, true, wait_until  # noqa: E402

CONNECTIONS = 7


def objects(text):
    return [json.loads(line) for line in text.splitlines()]


def test_status(d):
    status = objects(d.cli("-o", "json", "status"))[0]
    equal((status["pid"], status["plugin.netflow"], status["role"]), (d.pid, "running", "admin"), "status")
    contains(d.cli(), "plugin netflow", "status for people")
    contains(d.cli("-o", "tsv", "status"), f"pid\t{d.pid}\n", "status in tsv")


def test_tables(d):
    tables = {t["name"]: t for t in objects(d.cli("-o", "json", "tables"))}
    for name, kind in (("netflow", "flow"), ("connections", "live"), ("plugins", "live"), ("governor", "live"),
                       ("sinks", "live"), ("capabilities", "live")):
        equal(tables[name]["class"], kind, f"class of {name}")
    for name, table in tables.items():
        columns = list(csv.DictReader(io.StringIO(d.cli("-o", "csv", "schema", name))))
        equal(len(columns), table["columns"], f"columns of {name}")
        true(all(c["type"] and c["help"] for c in columns), f"{name}: types and help")
    contains(d.cli("schema", "netflows", code=1), "did you mean 'netflow'", "nearest table")


def test_sql(d, port):
    where = f"FROM netflow WHERE dst_port = {port} AND direction = 'outgoing'"
    total = f"SELECT sum(tcp_established) n, sum(bytes_written) w {where}"
    wait_until(lambda: d.sql(total)[0]["n"] == CONNECTIONS, 20, "the rows of our connections")
    equal(d.sql(total), [{"n": CONNECTIONS, "w": CONNECTIONS * 1000}], "sums")
    equal(d.cli("-o", "tsv", "sql", total), f"n\tw\n{CONNECTIONS}\t{CONNECTIONS * 1000}\n", "tsv")
    equal(d.cli("-o", "csv", "sql", total), f"n,w\n{CONNECTIONS},{CONNECTIONS * 1000}\n", "csv")
    query = f"SELECT ts, process_name, src_ip, dst_port, bytes_written, rtt {where} ORDER BY ts"
    rows = objects(d.cli("-o", "json", "sql", query))
    true(rows and all(isinstance(r["ts"], int) and r["src_ip"] == "127.0.0.1" for r in rows), f"rows {rows}")
    equal([[str(v) for v in r.values()] for r in rows],
          list(csv.reader(io.StringIO(d.cli("-o", "csv", "sql", query))))[1:], "csv against json")
    table = d.cli("sql", query)
    equal(len(table.splitlines()), len(rows) + 1, "lines of the table")
    true(re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", table), f"local time in {table}")
    same = d.cli("-o", "tsv", "sql", "--param", str(port), "SELECT sum(tcp_established) n FROM netflow WHERE dst_port = ?1 "
                 "AND direction = 'outgoing'")
    equal(same, f"n\n{CONNECTIONS}\n", "parameter")
    equal(d.cli("-o", "tsv", "sql", stdin="SELECT 1 a; -- one\nSELECT ';' b;\nSELECT 3 c"), "a\n1\nb\n;\nc\n3\n", "pipe")
    equal(d.cli("-o", "json", "sql", "SELECT x'00ff' b, NULL n, 0.1 r, 'ü' t"), '{"b":"00ff","n":null,"r":0.1,"t":"ü"}\n',
          "types")
    contains(d.cli("sql", "SELECT nope FROM netflow", code=1), "nope", "bad column")
    contains(d.cli("sql", "DELETE FROM netflow", code=1), "ringside: ", "a statement that isn't a read")
    start = time.monotonic()
    d.cli("--timeout", "1s", "sql", "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c",
          code=1)
    true(time.monotonic() - start < 6, "the deadline holds")
    p = subprocess.run([CLI, "--socket", d.socket, "-o", "tsv", "sql", "-n", "3", "SELECT 1 UNION SELECT 2 UNION SELECT 3 "
                        "UNION SELECT 4"], capture_output=True, text=True, timeout=30)
    equal((p.returncode, p.stdout.count("\n")), (0, 4), "max rows")
    contains(p.stderr, "more rows", "note on the cut")


def watcher(d, *args):
    return subprocess.Popen([CLI, "--socket", d.socket, "-o", "json", "watch", *args], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def test_watch(d):
    w = watcher(d, "netflow", "--columns", "dst_port,direction,tcp_established", "--for", "8s")
    time.sleep(1)
    port = exchange(CONNECTIONS)
    out, err = w.communicate(timeout=30)
    equal((w.returncode, err), (0, ""), "watch")
    mine = [r for r in objects(out) if r["dst_port"] == port and r["direction"] == "outgoing"]
    equal(sum(r["tcp_established"] for r in mine), CONNECTIONS, "connections seen by watch")
    out = d.cli("-o", "json", "watch", "netflow", "--where", f"dst_port = {port}", "--since", "5m", "--max-rows", "1")
    equal(objects(out)[0]["dst_port"], port, "watch since")
    out = d.cli("-o", "json", "watch", "plugins", "--interval", "200ms", "--max-rows", "4")
    true(len(objects(out)) >= 4 and "netflow" in out, f"live table {out}")
    w = watcher(d, "netflow")
    time.sleep(0.5)
    w.send_signal(signal.SIGINT)
    out, err = w.communicate(timeout=10)
    equal((w.returncode, err), (0, ""), "watch ended by Ctrl-C")
    contains(d.cli("watch", "netflow", "--where", "nope = 1", code=1), "nope", "bad expression")
    contains(d.cli("watch", "netflo", code=1), "netflow", "nearest table")


def test_services(d, port):
    """Ports by name where that is asked for, and only in tables."""
    path = os.path.join(d.dir, "services")
    with open(path, "w") as f:
        f.write(f"# ours\nringside-test {port}/tcp\nringside-udp {port}/udp\n")
    of = ("sql", f"SELECT dst_port, transport FROM netflow WHERE dst_port = {port} LIMIT 1")
    equal(d.cli("--services-file", path, *of).split()[2:], ["ringside-test", "tcp"], "a port by its name")
    equal(d.cli(*of).split()[2:], [str(port), "tcp"], "a port by its number")
    equal(d.cli("--services", *of).split()[2:], [str(port), "tcp"], "a port that nobody named")
    equal(objects(d.cli("-o", "json", "--services-file", path, *of)), [{"dst_port": port, "transport": "tcp"}], "json has numbers")
    equal(d.cli("--services-file", path, "sql", "SELECT 443 AS port, 'tcp' AS transport, 443 AS n").split()[3:],
          ["https" if os.path.exists("/etc/services") else "443", "tcp", "443"], "the distribution's names behind ours")
    contains(d.cli("--services-file", path + "-none", *of, code=1), "services-none", "a file that isn't there")
    top = ("top", "--for", "1s", "--window", "10m", "--rows", "1000")
    true("ringside-test" in d.cli("--services-file", path, *top) and "ringside-test" not in d.cli(*top), "names in top")


def test_plugin(d):
    plugins = {p["name"]: p for p in objects(d.cli("-o", "json", "plugin", "list"))}
    equal(plugins["netflow"]["state"], "running", "state")
    show = objects(d.cli("-o", "json", "plugin", "show", "netflow"))[0]
    equal((show["state"], show["option.loopback"], show["tables"].split(", ")[0]), ("running", "true", "netflow"), "show")
    contains(d.cli("plugin", "disable", "netflow"), "netflow: disabled", "disable")
    equal(objects(d.cli("-o", "json", "plugin", "show", "netflow"))[0]["state"], "disabled", "state after disable")
    contains(d.cli("plugin", "enable", "netflow", "intervall=5s", code=1), "interval", "nearest option")
    contains(d.cli("plugin", "enable", "netflow", "interval=5parsecs", code=1), "5parsecs", "bad value")
    contains(d.cli("plugin", "enable", "netflux", code=1), "netflow", "nearest plugin")
    on = objects(d.cli("-o", "json", "plugin", "enable", "netflow", "interval=1s", "loopback=true", "--for", "3s"))[0]
    true(on["state"] == "running" and on["disable_at"] > time.time_ns(), f"enabled {on}")
    wait_until(lambda: objects(d.cli("-o", "json", "plugin", "show", "netflow"))[0]["state"] == "disabled", 15,
               "the end of --for")
    d.cli("plugin", "enable", "netflow", "interval=1s", "loopback=true")
    d.cli("plugin", "set", "netflow", "interval=2s", "--check")
    equal(objects(d.cli("-o", "json", "plugin", "show", "netflow"))[0]["option.interval"], "1s", "--check changes nothing")
    d.cli("plugin", "set", "netflow", "interval=2s")
    equal(objects(d.cli("-o", "json", "plugin", "show", "netflow"))[0]["option.interval"], "2s", "set")
    d.cli("plugin", "set", "netflow", "interval=")
    equal(objects(d.cli("-o", "json", "plugin", "show", "netflow"))[0]["option.interval"], "10s", "back to the default")
    checks = objects(d.cli("-o", "json", "plugin", "check", "netflow"))
    true(checks and all(c["detail"] for c in checks if not c["met"]), f"requirements {checks}")


def test_limits(d):
    before = objects(d.cli("-o", "json", "limits"))[0]
    true(before["mem_usage"] > 1 << 20, f"usage {before}")
    d.cli("limits", "set", "mem_limit=3GiB", "cpu_limit=1.5")
    now = objects(d.cli("-o", "json", "limits"))[0]
    equal((now["mem_limit"], now["cpu_limit"]), (3 << 30, 1500), "limits")
    contains(d.cli("limits"), "of 1.500 cores", "limits for people")
    contains(d.cli("limits", "set", "mem_limit=4gigs", code=1), "4gigs", "bad limit")
    d.cli("limits", "set", "mem_limit=", "cpu_limit=")
    now = objects(d.cli("-o", "json", "limits"))[0]
    equal((now["mem_limit"], now["cpu_limit"]), (None, None), "no limit again")


def test_history(d):
    time.sleep(1)  # until the rows about limits that were set are written
    rings = {r["ring"]: r for r in objects(d.cli("-o", "json", "history"))}
    equal(set(rings), {"flow", "audit"}, "rings")
    equal((rings["flow"]["max_bytes"], rings["audit"]["max_bytes"]), (1 << 30, 256 << 20), "bounds")
    segments = objects(d.cli("-o", "json", "sql", "SELECT ring, count(*) n, min(ts_min) oldest FROM segments GROUP BY ring"))
    for s in segments:
        r = rings[s["ring"]]
        equal((r["segments"], r["oldest"]), (s["n"], s["oldest"]), f"ring {s['ring']}")
    audit = rings["audit"]
    true(audit["rows"] > 0 and audit["oldest"] <= audit["newest"] <= time.time() * 1e9, f"audit {audit}")
    true(audit["rows_per_s"] is not None and audit["reach"] is None, f"too young for a forecast: {audit}")
    d.cli("history", "nonsense", code=2)
    contains(d.cli("history"), "reach", "history for people")


def test_config(d):
    values = {v["key"]: v for v in objects(d.cli("-o", "json", "config", "show"))}
    equal((values["socket"]["value"], values["socket"]["origin"]), (d.socket, "flag"), "socket")
    equal(values["log_level"]["origin"], "file", "log_level comes from the file")
    true(all(v["help"] for v in values.values()), "help of every option")
    equal({v["key"].split(".")[0] for v in objects(d.cli("-o", "json", "config", "show", "store."))}, {"store"}, "prefix")
    d.cli("config", "show", "nonsense", code=1)
    d.cli("config", "check")
    good, bad = os.path.join(d.dir, "good.toml"), os.path.join(d.dir, "bad.toml")
    with open(good, "w") as f:
        f.write('log_level = "debug"\n')
    with open(bad, "w") as f:
        f.write('log_leevl = "debug"\n')
    d.cli("config", "check", good)
    contains(d.cli("config", "check", bad, code=1), "log_level", "nearest key")
    d.cli("config", "check", os.path.join(d.dir, "none.toml"), code=1)


def test_others(d):
    p = subprocess.run([CLI, "--socket", d.socket, "-o", "json", "doctor", "netflow"], capture_output=True, text=True, timeout=60)
    found = objects(p.stdout)
    required = [f for f in found if f["required"] and not f["met"]]
    equal(p.returncode, 1 if required else 0, "exit code of doctor")
    true({f["subject"] for f in found} == {"host", "netflow"} and all(f["detail"] for f in found), f"doctor {found}")
    d.cli("log-level", "debug")
    contains(d.cli("log-level", "loud", code=1), "loud", "bad level")
    d.cli("log-level", "info")
    contains(d.cli("version"), "ringside ", "version")
    frames = d.cli("top", "--for", "2s", "--interval", "1s")
    true(frames.count("PLUGIN ") >= 2 and "flows of the last" in frames and "\x1b" not in frames, f"frames {frames}")
    off = [p["name"] for p in objects(d.cli("-o", "json", "plugin", "list")) if p["state"] == "disabled"]
    true(len(off) > 9, f"disabled plugins: {off}")
    equal({line for line in frames.splitlines() if "disabled" in line.split()[:2] or line.startswith("disabled")},
          {"disabled: " + ", ".join(off)}, "disabled plugins are on one line")
    equal(frames.count("\ndisabled: "), frames.count("PLUGIN "), "in each frame")
    top = subprocess.Popen([CLI, "--socket", d.socket, "top"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    time.sleep(1)
    top.send_signal(signal.SIGTERM)
    equal((top.wait(10), top.stderr.read()), (0, b""), "top ended by a signal")


def certificates(where):
    """A CA, a certificate for the server at 127.0.0.1 and one for a client named viewer."""
    def openssl(*args):
        ringside.run("openssl", *args, cwd=where)
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test CA",
            "-keyout", "ca.key", "-out", "ca.pem")
    for name, extension in (("server", "subjectAltName=IP:127.0.0.1"), ("viewer", "extendedKeyUsage=clientAuth")):
        with open(os.path.join(where, "ext"), "w") as f:
            f.write(extension)
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout",
                f"{name}.key", "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-extfile", "ext", "-out", f"{name}.pem")


def test_tls():
    ringside.need_programs("openssl")
    with tempfile.TemporaryDirectory(prefix="ringside-tls-") as where:
        certificates(where)
        with socket.create_server(("127.0.0.1", 0)) as s:
            port = s.getsockname()[1]
        config = f'[api]\nlisten = "127.0.0.1:{port}"\ntls_ca = "{where}/ca.pem"\ntls_cert = "{where}/server.pem"\n'
        config += f'tls_key = "{where}/server.key"\n'

        def cli(*args, cert="viewer", at=port):
            p = subprocess.run([CLI, "--address", f"127.0.0.1:{at}", "--tls-ca", f"{where}/ca.pem", "--tls-cert",
                                f"{where}/{cert}.pem", "--tls-key", f"{where}/{cert}.key", *args], capture_output=True,
                               text=True, timeout=60)
            return p.returncode, p.stdout, p.stderr
        with Daemon(config):
            code, out, err = cli("-o", "json", "status")
            equal((code, err), (0, ""), "status over TLS")
            equal(objects(out)[0]["role"], "viewer", "role over TLS")
            code, _, err = cli("plugin", "enable", "netflow")
            equal(code, 1, "a viewer may not enable")
            contains(err, "admin role", "why not")
            equal(cli("tables", at=1)[0], 69, "nobody there")


def main():
    ringside.need_root()
    config = 'log_level = "info"\nenabled_plugins = ["netflow"]\n[plugins.netflow]\ninterval = "1s"\nloopback = true\n'
    with Daemon(config) as d:
        if d.plugin("netflow")["state"] != "running":
            ringside.skip("netflow can't run here: " + str(d.plugin("netflow")["reason"]))
        port = exchange(CONNECTIONS)
        test_status(d)
        test_tables(d)
        test_sql(d, port)
        test_watch(d)
        test_services(d, port)
        test_plugin(d)
        test_limits(d)
        test_history(d)
        test_config(d)
        test_others(d)
        d.cli("shutdown")
        equal(d.wait(), 0, "exit code after shutdown")
        wait_until(lambda: subprocess.run([CLI, "--socket", d.socket, "tables"], capture_output=True).returncode == 69, 5,
                   "exit code 69")
    test_tls()


main()
