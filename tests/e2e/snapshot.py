#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""ringside snapshot and sql --file: the same rows byte for byte as from the ring, for any reader, and whole or not there."""
import json
import os
import pty
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ringside  # noqa: E402
from ringside import CLI, Daemon, contains, equal, exchange, run, true, wait_until  # noqa: E402

CONNECTIONS = 7
EXECS = 11
NOBODY = 65534
CONFIG = """
[api]
listen = "127.0.0.1:%d"
tls_ca = "%s"
tls_cert = "%s"
tls_key = "%s"
"""


def certificates(d):
    """An authority, a server and a client."""
    paths = {}
    for name in ("ca", "server", "client"):
        key, cert, csr = (os.path.join(d, name + x) for x in (".key", ".crt", ".csr"))
        paths[name] = cert, key
        req = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=" + name,
               "-keyout", key]
        if name == "ca":
            run(*req, "-x509", "-days", "2", "-out", cert)
            continue
        ext = os.path.join(d, "ext")
        with open(ext, "w") as f:
            f.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n" if name == "server" else "subjectAltName=DNS:client\n")
        run(*req, "-out", csr)
        run("openssl", "x509", "-req", "-in", csr, "-CA", paths["ca"][0], "-CAkey", paths["ca"][1], "-CAcreateserial", "-days",
            "2", "-extfile", ext, "-out", cert)
    return paths


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def from_file(path, query, *options, code=0, **kw):
    env = {k: v for k, v in os.environ.items() if not k.startswith("RINGSIDE_")}
    p = subprocess.run([kw.pop("cli", CLI), *options, "sql", "--file", path, query], env=env, capture_output=True, timeout=60, **kw)
    equal(p.returncode, code, f"exit of sql --file {query}: {p.stderr.decode()}")
    return p.stdout if code == 0 else p.stderr.decode()


def from_ring(d, query, *options):
    return subprocess.run([CLI, "--socket", d.socket, *options, "sql", query], check=True, capture_output=True, timeout=60).stdout


def info(path):
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        return dict(db.execute("SELECT key, value FROM snapshot_info"))


def make_rows(d):
    for plugin in ("netflow", "exec"):
        d.enable(plugin, *(["interval=1s", "loopback=true"] if plugin == "netflow" else []))
    port = exchange(CONNECTIONS)
    for i in range(EXECS):
        subprocess.run(["/bin/true", f"rs-snap-{port}-{i}", "ü 'quoted'"], check=True)
    d.wait_sql(f"SELECT 1 FROM netflow WHERE dst_port = {port} AND direction = 'outgoing' "
               f"GROUP BY dst_port HAVING sum(tcp_established) = {CONNECTIONS}", 20)
    for plugin in ("netflow", "exec"):
        d.cli("plugin", "disable", plugin)
    time.sleep(3.5)  # whatever is in the window is in the ring now
    return port


def compare(d, path):
    """Every history table of the window, in every format for programs, and as people see it."""
    about = info(path)
    tables = json.loads(from_ring(d, "SELECT 1 x", "-o", "json") and
                        run("sqlite3", "-json", path, "SELECT name, rows, class FROM snapshot_tables"))
    total = 0
    for t in tables:
        total += t["rows"]
        if t["class"] == "live":
            continue
        window = f"WHERE ts >= {about['since']} AND ts <= {about['until']}"
        for options in (["-o", "json"], ["-o", "csv"], ["-o", "tsv"], []):
            equal(from_file(path, f"SELECT * FROM {t['name']} ORDER BY ts", *options),
                  from_ring(d, f"SELECT * FROM {t['name']} {window} ORDER BY ts", *options), f"{t['name']} {options}")
        got = len(from_file(path, f"SELECT ts FROM {t['name']}", "-o", "tsv").splitlines()) - 1
        equal(got, t["rows"], f"rows of {t['name']}")
    equal(total, about["rows"], "rows in all")


def questions(d, path, port):
    """With the functions of Ringside, grouped and joined: the same answers."""
    about = info(path)
    window = f"ts >= {about['since']} AND ts <= {about['until']}"
    for q in (f"SELECT count(*) n, sum(bytes_written) b FROM netflow WHERE dst_port = {port} AND {window}",
              f"SELECT service(443) s, in_cidr(dst_ip, '127.0.0.0/8') l, ip_family(src_ip) f, count(*) n FROM netflow WHERE {window} "
              "GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
              f"SELECT percentile(bytes_written, 90) p, median(rtt) m FROM netflow WHERE {window}",
              f"SELECT rfc3339(ts) t, argv FROM exec WHERE argv LIKE '%rs-snap-{port}-%' AND exe LIKE '%/true' AND {window} ORDER BY ts"):
        equal(from_file(path, q, "-o", "json"), from_ring(d, q, "-o", "json"), q)
    mine = f"FROM exec WHERE argv LIKE '%rs-snap-{port}-%' AND exe LIKE '%/true'"
    equal(from_file(path, f"SELECT count(*) n {mine}", "-o", "tsv"), f"n\n{EXECS}\n".encode(), "programs started")
    equal(from_file(path, f"SELECT sum(tcp_established) n FROM netflow WHERE dst_port = {port} AND direction = 'outgoing'", "-o",
                    "tsv"), f"n\n{CONNECTIONS}\n".encode(), "connections")
    equal(from_file(path, "SELECT now_ns() - value d FROM snapshot_info WHERE key = 'until'", "-o", "tsv"), b"d\n0\n", "now")
    all_rows = from_file(path, "SELECT count(*) n FROM exec", "-o", "tsv")
    equal(from_file(path, "SELECT count(*) n FROM exec WHERE ts >= ago('5m')", "-o", "tsv"), all_rows, "ago() counts from the end")
    equal(from_file(path, "SELECT ?1 + ?2 s", "-o", "tsv", code=1), "ringside: the statement has 2 parameters, but 0 values are given\n",
          "parameters")
    contains(from_file(path, "SELECT argvv FROM exec", code=1), "did you mean 'argv'", "misspelt column")
    contains(from_file(path, "DELETE FROM exec", code=1), "only reads", "a statement that writes")
    contains(from_file(path, "SELECT printf('%9999999d', 1)", code=1), "not offered", "a function that isn't offered")
    p = subprocess.run([CLI, "-o", "tsv", "sql", "--file", path], input=b"SELECT 1 a;\nSELECT count(*) > 0 b FROM netflow;\n",
                       capture_output=True, timeout=60)
    equal(p.stdout, b"a\n1\nb\n1\n", "statements from a pipe")


def stock_readers(path, port):
    """The sqlite3 shell and Python's module, which know nothing of us."""
    equal(run("sqlite3", path, "PRAGMA integrity_check").strip(), "ok", "integrity")
    contains(run("sqlite3", path, "EXPLAIN QUERY PLAN SELECT * FROM netflow WHERE ts > 5"), "USING INTEGER PRIMARY KEY", "index on ts")
    query = f"SELECT ts, src_ip, dst_port, process_name, bytes_written, rtt FROM netflow WHERE dst_port = {port} ORDER BY ts"
    ours = [json.loads(x) for x in from_file(path, query, "-o", "json").splitlines()]
    with sqlite3.connect(path) as db:
        db.row_factory = sqlite3.Row
        equal([dict(r) for r in db.execute(query)], ours, "rows by Python")
        equal([tuple(r) for r in db.execute("SELECT type, unit, sensitivity FROM snapshot_columns WHERE table_name = 'exec' AND "
                                            "name = 'argv'")], [("TEXT", "", "content")], "what a column is")
        equal([r[0] for r in db.execute("SELECT rows_lost FROM snapshot_tables WHERE name = 'netflow'")], [0], "known lost")
    equal(run("sqlite3", "-separator", "\t", "-header", path, query).replace("\t\n", "\t\n"),
          "\t".join(ours[0]) + "\n" + "".join("\t".join("" if v is None else str(v) for v in r.values()) + "\n" for r in ours),
          "rows by the shell")


def refusals(d, path):
    before = open(path, "rb").read()
    there = set(os.listdir(d.dir))
    contains(d.cli("snapshot", path, code=1), "--force replaces it", "a file that is there")
    equal(open(path, "rb").read(), before, "the file as it was")
    contains(d.cli("snapshot", "--table", "netflw", path + "x", code=1), "did you mean 'netflow'", "misspelt table")
    contains(d.cli("snapshot", os.path.join(d.dir, "no", "where"), code=1), "cannot make a file", "no such directory")
    contains(d.cli("snapshot", "--since", "yesterday", path + "x", code=2), "neither a duration", "no time")
    contains(d.cli("snapshot", "--since", "1m", "--until", "5m", path + "x", code=1), "ends before it begins", "a window turned round")
    contains(d.cli("snapshot", "--force", d.dir, code=1), "not a file", "a directory")
    equal(set(os.listdir(d.dir)), there, "nothing left behind")
    d.cli("snapshot", "--force", "--table", "exec", "--since", "10m", path)
    equal(run("sqlite3", path, "SELECT group_concat(name) FROM snapshot_tables").strip(), "exec,loss", "the table asked for")
    equal(os.stat(path).st_mode & 0o777, 0o600, "rights")
    equal(set(os.listdir(d.dir)), there, "nothing beside it")
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 600))
    d.cli("snapshot", "--force", "--since", date, path)
    true(abs(info(path)["since"] // 10**9 - (time.time() - 600)) < 30, "since as a date")


def disk_full(d):
    small = os.path.join(d.dir, "small")
    os.mkdir(small)
    run("mount", "-t", "tmpfs", "-o", "size=64k", "none", small)
    try:
        contains(d.cli("snapshot", os.path.join(small, "a.db"), code=1), "no space left", "disk full")
        equal(os.listdir(small), [], "left on the full disk")
    finally:
        run("umount", small)


def interrupted(d):
    """Ctrl-C while the daemon is slow; on a terminal a line of progress came before."""
    path = os.path.join(d.dir, "late.db")
    there = set(os.listdir(d.dir))
    ours, theirs = pty.openpty()
    os.kill(d.pid, signal.SIGSTOP)
    try:
        p = subprocess.Popen([CLI, "--socket", d.socket, "snapshot", path], stdout=subprocess.DEVNULL, stderr=theirs,
                             env={**os.environ, "TERM": "xterm"})
        wait_until(lambda: len(set(os.listdir(d.dir)) - there) == 1, 10, "the file under its other name")
        time.sleep(3)
        true(not os.path.exists(path), "no file under its name before it is whole")
        p.send_signal(signal.SIGINT)
        equal(p.wait(20), -signal.SIGINT, "ended by the signal")
    finally:
        os.kill(d.pid, signal.SIGCONT)
        os.close(theirs)
    said = os.read(ours, 65536).decode()
    os.close(ours)
    contains(said, "taking the snapshot: ", "progress")
    equal(set(os.listdir(d.dir)), there, "left by an interrupt")


def unprivileged(d, path):
    """A user who may read the file and nothing else; and a command line without the worker's binary beside it."""
    with tempfile.TemporaryDirectory(prefix="rs-snap-") as scratch:
        os.chmod(scratch, 0o755)
        copy, cli = os.path.join(scratch, "copy.db"), os.path.join(scratch, "ringside")
        shutil.copy(path, copy)
        shutil.copy(CLI, cli)
        os.chmod(copy, 0o444)
        equal(from_file(copy, "SELECT count(*) n FROM exec", "-o", "tsv", user=NOBODY, group=NOBODY, extra_groups=[], cli=cli),
              from_file(path, "SELECT count(*) n FROM exec", "-o", "tsv"), "as nobody, by its own binary")
        contains(from_file(path, "SELECT 1", code=1, user=NOBODY, group=NOBODY, extra_groups=[], cli=cli), "cannot open", "0600")


def shell(path):
    """On a terminal it is the shell; names come from the file, and no daemon is asked."""
    ours, theirs = pty.openpty()
    p = subprocess.Popen([CLI, "--socket", "/nowhere", "sql", "--file", path], stdin=theirs, stdout=theirs, stderr=theirs,
                         env={**os.environ, "TERM": "dumb", "HOME": os.path.dirname(path)}, start_new_session=True)
    os.close(theirs)
    os.write(ours, b".tables\n.schema exec\nSELECT 'an' || 'swer' a FROM exec LIMIT 1;\n.quit\n")
    said = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        said += part
    os.close(ours)
    equal(p.wait(30), 0, "exit of the shell")
    for word in ("snapshot_info", "argv", "answer"):
        contains(said.decode(errors="replace"), word, "the shell's screen")
    true("not reachable" not in said.decode(errors="replace"), "no daemon is asked")


def other_files(d):
    """Segments are read as well; what is neither is said to be."""
    ring = os.path.join(d.state, "ring")
    d.cli("snapshot", os.path.join(d.dir, "b.db"), "--table", "daemon_events")
    n = int(from_file(os.path.join(d.dir, "b.db"), "SELECT count(*) n FROM daemon_events", "-o", "tsv").split()[1])
    segments = [os.path.join(ring, x) for x in os.listdir(ring) if x.startswith("audit-") and x.endswith(".db")]
    held = sum(int(from_file(s, "SELECT count(*) n FROM daemon_events", "-o", "tsv").split()[1]) for s in segments)
    true(held >= n > 0, f"rows in segments: {held}, in the snapshot: {n}")
    contains(from_file("/etc/hosts", "SELECT 1", code=1), "not a snapshot", "a text")
    other = os.path.join(d.dir, "other.db")
    run("sqlite3", other, "CREATE TABLE t(a)")
    contains(from_file(other, "SELECT 1", code=1), "not a snapshot", "somebody else's database")
    shutil.copy(os.path.join(d.dir, "b.db"), other + "2")
    run("sqlite3", other + "2", "PRAGMA user_version = 99")
    contains(from_file(other + "2", "SELECT 1", code=1), "newer version", "a newer one")
    contains(from_file(os.path.join(d.dir, "none.db"), "SELECT 1", code=1), "No such file", "no file")
    bad = os.path.join(d.dir, "bad.db")
    shutil.copy(os.path.join(d.dir, "b.db"), bad)
    run("sqlite3", bad, "DROP TABLE snapshot_columns; CREATE VIEW snapshot_columns AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL "
        "SELECT n + 1 FROM c) SELECT 'loss' table_name, n position, 'c' || n name, 'TEXT' type, '' unit FROM c")
    from_file(bad, "SELECT 1", code=1)


def remote(d, certs, port):
    """The same over mutual TLS."""
    path = os.path.join(d.dir, "tls.db")
    there = os.path.join(d.dir, "unix.db")
    (cert, key) = certs["client"]
    end = ["--since", "10m", "--until", "2s", "--table", "netflow,exec"]
    run(CLI, "--address", f"127.0.0.1:{port}", "--tls-ca", certs["ca"][0], "--tls-cert", cert, "--tls-key", key, "snapshot", *end,
        path)
    d.cli("snapshot", *end, there)
    for table in ("netflow", "exec"):
        equal(from_file(path, f"SELECT * FROM {table}", "-o", "json"), from_file(there, f"SELECT * FROM {table}", "-o", "json"),
              f"{table} over TLS")


def main():
    ringside.need_root()
    ringside.need_programs("sqlite3", "openssl", "mount")
    with tempfile.TemporaryDirectory(prefix="rs-snap-") as scratch:
        certs, port = certificates(scratch), free_port()
        with Daemon(CONFIG % (port, certs["ca"][0], *certs["server"])) as d:
            mine = make_rows(d)
            path = os.path.join(d.dir, "a.db")
            d.cli("snapshot", "--since", "5m", "--until", "1s", path)
            compare(d, path)
            questions(d, path, mine)
            stock_readers(path, mine)
            unprivileged(d, path)
            shell(path)
            remote(d, certs, port)
            other_files(d)
            disk_full(d)
            interrupted(d)
            refusals(d, path)
    print("snapshot: ok")


main()
