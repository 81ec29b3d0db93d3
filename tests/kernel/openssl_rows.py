#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""31 handshakes are 31 rows at either end with role, version, cipher and result; those that fail say for what."""
import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ringside import Daemon, equal, need_programs, need_root, run, true, wait_until

N = 31

# What a client does, in a process of its own: argv are port, certificate, kind and how often.
CLIENT = r"""
import os, socket, ssl, sys, time
port, cert, kind, n = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
for i in range(n):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    if kind == "distrust":
        c.verify_mode = ssl.CERT_REQUIRED
    else:
        c.load_verify_locations(cert)
    if kind == "tls12":
        c.maximum_version = ssl.TLSVersion.TLSv1_2
        c.set_ciphers("ECDHE-RSA-AES256-GCM-SHA384")
    s = socket.create_connection(("127.0.0.1", port))
    try:
        if kind == "nonblocking":
            t = c.wrap_socket(s, do_handshake_on_connect=False)
            t.setblocking(False)
            while True:
                try:
                    t.do_handshake()
                    break
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    time.sleep(0.002)
            t.setblocking(True)
        elif kind == "abandon":
            t = c.wrap_socket(s, do_handshake_on_connect=False)
            t.setblocking(False)
            try:
                t.do_handshake()
            except ssl.SSLWantReadError:
                pass
            t.close()
            del t
            continue
        else:
            t = c.wrap_socket(s)
        t.recv(1)
        t.close()
    except (ssl.SSLError, OSError):
        s.close()
print("done", flush=True)
sys.stdin.read()
"""


def server(context, sock, silent):
    while True:
        try:
            c, _ = sock.accept()
        except OSError:
            return
        if silent:
            silent.append(c)
            continue
        try:
            t = context.wrap_socket(c, server_side=True)
            t.send(b"x")
            t.close()
        except (ssl.SSLError, OSError):
            c.close()


class Server:
    """In this process, on a thread of its own."""

    def __init__(self, cert, key, silent=False):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert, key)
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.held = [None] if silent else []
        self.thread = threading.Thread(target=server, args=(self.context, self.sock, self.held), daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.thread.join(5)
        for c in self.held[1:]:
            c.close()


def client(port, cert, kind, n=N, program=sys.executable):
    """Runs to its last handshake; pid and the rows that came."""
    p = subprocess.Popen([program, "-c", CLIENT, str(port), cert, kind, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    p.stdout.readline()
    p.communicate()
    return p.pid


def rows(d, where, n=N):
    got = wait_until(lambda: len(r := d.sql(f"SELECT * FROM openssl WHERE {where} ORDER BY ts")) >= n and r, 10, f"{n} rows where {where}")
    time.sleep(0.3)
    got = d.sql(f"SELECT * FROM openssl WHERE {where} ORDER BY ts")
    equal(len(got), n, f"rows where {where}")
    return got


def facts(got, *columns):
    return {tuple(r[c] for c in columns) for r in got}


def last(d):
    return d.one("SELECT coalesce(max(ts), 0) FROM openssl")


def agreed(d, cert, key):
    """Blocking and not, TLS 1.3 and 1.2, at both ends."""
    me = os.getpid()
    with Server(cert, key) as s:
        for kind, version, cipher in (("plain", "TLSv1.3", "TLS_AES_256_GCM_SHA384"), ("tls12", "TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
                                      ("nonblocking", "TLSv1.3", "TLS_AES_256_GCM_SHA384")):
            seen, began = last(d), time.time_ns()
            pid = client(s.port, cert, kind)
            got = rows(d, f"pid = {pid}")
            equal(facts(got, "role", "result", "version", "cipher", "error", "ret", "uid", "ppid"),
                  {("client", "ok", version, cipher, None, 1, 0, me)}, kind)
            if kind == "nonblocking":
                # An answer that is there at once needs no second call.
                true(any(r["calls"] >= 2 for r in got), f"calls {[r['calls'] for r in got]}")
            else:
                equal(facts(got, "calls"), {(1,)}, "calls")
            true(all(began < r["ts"] < time.time_ns() and 10_000 < r["latency_ns"] < 5_000_000_000 and r["ssl_ptr"] for r in got), "times")
            got = rows(d, f"pid = {me} AND ts > {seen}")
            equal(facts(got, "role", "result", "version", "cipher", "calls"), {("server", "ok", version, cipher, 1)}, f"the server's: {kind}")


def failed(d, cert, key):
    me = os.getpid()
    with Server(cert, key) as s:
        seen = last(d)
        pid = client(s.port, cert, "distrust")
        equal(facts(rows(d, f"pid = {pid}"), "role", "result", "error", "error_library", "error_reason", "version", "calls"),
              {("client", "failed", "certificate verify failed", 20, 134, None, 1)}, "a certificate that isn't trusted")
        equal(facts(rows(d, f"pid = {me} AND ts > {seen}"), "role", "result", "error", "error_reason"),
              {("server", "failed", "alert unknown ca", 1048)}, "what the other side says")
        seen = last(d)
        with socket.create_connection(("127.0.0.1", s.port)) as c:
            c.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                c.recv(1)
        equal(facts(rows(d, f"pid = {me} AND ts > {seen}", 1), "role", "result", "error"), {("server", "failed", "http request")}, "no TLS at all")
        seen = last(d)
        socket.create_connection(("127.0.0.1", s.port)).close()
        got = rows(d, f"pid = {me} AND ts > {seen}", 1)
        true(got[0]["result"] in ("failed", "abandoned") and got[0]["role"] == "server", f"closed: {got}")
    with Server(cert, key, silent=True) as s:
        pid = client(s.port, cert, "abandon", 7)
        equal(facts(rows(d, f"pid = {pid}", 7), "role", "result", "error", "calls", "ret"), {("client", "abandoned", None, 1, -1)}, "given up")


@contextlib.contextmanager
def s_server(cert, key):
    """The process, and its port."""
    probe = socket.create_server(("127.0.0.1", 0))
    port = probe.getsockname()[1]
    probe.close()
    p = subprocess.Popen(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", cert, "-key", key, "-quiet"],
                         stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def listening():
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return True
    try:
        wait_until(listening, 10, "s_server")
        yield p, port
    finally:
        p.kill()
        p.wait()


def tool(d, cert, key):
    """openssl s_server and s_time: other programs, with SSL_accept and SSL_connect."""
    with s_server(cert, key) as (p, port):
        c = subprocess.Popen(["openssl", "s_time", "-new", "-time", "1", "-connect", f"127.0.0.1:{port}"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        out, _ = c.communicate(timeout=30)
        made = int(re.search(r"(\d+) connections in \d+ real", out).group(1))
        true(made >= 3, out)
        got = rows(d, f"pid = {c.pid}", made)
        equal(facts(got, "comm", "role", "result", "version", "calls"), {("openssl", "client", "ok", "TLSv1.3", 1)}, "s_time")
        got = rows(d, f"pid = {p.pid} AND result = 'ok'", made)
        equal(facts(got, "comm", "role", "version"), {("openssl", "server", "TLSv1.3")}, "s_server")


def transfers(d, cert, key):
    """openssl s_client never asks for a handshake: it writes, and reads."""
    def ask(port, *how, trusted=("-CAfile", cert)):
        c = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *trusted, "-verify_return_error", *how],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        while (line := c.stdout.readline()) and b"Verify return code" not in line:
            pass
        c.communicate(b"Q\n")
        return c.pid

    with s_server(cert, key) as (_, port):
        first = ask(port)
        d.cli("plugin", "disable", "openssl")
        d.enable("openssl", "transfers=true")
        for how, version in ((), "TLSv1.3"), (("-tls1_2",), "TLSv1.2"):
            pids = [ask(port, *how) for _ in range(7)]
            got = rows(d, f"pid IN ({','.join(map(str, pids))})", 7)
            equal(facts(got, "comm", "role", "result", "version", "error"), {("openssl", "client", "ok", version, None)}, f"s_client {how}")
            equal(sorted(r["pid"] for r in got), sorted(pids), "one each")
            true(all(10_000 < r["latency_ns"] < 5_000_000_000 and r["calls"] >= 1 for r in got), "lengths")
        distrusts = ask(port, trusted=("-no-CAfile", "-no-CApath", "-no-CAstore"))
        got = rows(d, f"pid = {distrusts}", 1)
        equal(facts(got, "role", "result", "error"), {("client", "failed", "certificate verify failed")}, "a certificate that isn't trusted")
        equal(d.sql(f"SELECT * FROM openssl WHERE pid = {first} AND result <> 'abandoned'"), [], "without the option")
    d.cli("plugin", "disable", "openssl")
    d.enable("openssl")


def copies(d, cert, key, scratch):
    """A library of its own, as containers have: found when a process has it."""
    with open("/proc/self/maps") as f:
        found = {os.path.basename(p): p for p in (line.split()[-1] for line in f) if "/libssl.so" in p or "/libcrypto.so" in p}
    for name, path in found.items():
        shutil.copy(path, f"{scratch}/{name}")
    with Server(cert, key) as s:
        os.environ["LD_LIBRARY_PATH"] = scratch
        try:
            p = subprocess.Popen([sys.executable, "-c", "import ssl, sys, time; print(1, flush=True); sys.stdin.readline(); time.sleep(0.1)\n" + CLIENT,
                                  str(s.port), cert, "plain", str(N)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        finally:
            del os.environ["LD_LIBRARY_PATH"]
        p.stdout.readline()
        time.sleep(3)  # two looks after the exec
        p.stdin.write(b"\n")
        p.communicate()
        equal(facts(rows(d, f"pid = {p.pid}"), "role", "result", "version"), {("client", "ok", "TLSv1.3")}, "another copy")


def filters(d, cert, key):
    me = os.getpid()
    with Server(cert, key) as s:
        d.cli("plugin", "set", "openssl", f"exclude_pids={me}")
        seen = last(d)
        pid = client(s.port, cert, "plain", 3)
        rows(d, f"pid = {pid}", 3)
        equal(d.sql(f"SELECT * FROM openssl WHERE pid = {me} AND ts > {seen}"), [], "of a process that is left out")
        true(d.plugin("openssl")["filtered"] >= 3, "counted")
        d.cli("plugin", "set", "openssl", "exclude_pids=")


def main():
    need_root()
    need_programs("openssl")
    scratch = tempfile.mkdtemp(prefix="ringside-openssl-")
    try:
        cert, key = f"{scratch}/cert", f"{scratch}/key"
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost")
        with Daemon() as d:
            d.enable("openssl")
            agreed(d, cert, key)
            failed(d, cert, key)
            tool(d, cert, key)
            transfers(d, cert, key)
            filters(d, cert, key)
            copies(d, cert, key, scratch)
            plugin = d.plugin("openssl")
            equal((plugin["kernel_drops"], plugin["decode_errors"], plugin["rows_dropped"]), (0, 0, 0), "losses")
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
