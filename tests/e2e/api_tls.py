#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Mutual TLS: who is refused, who may do what, certificates exchanged while connections live on."""
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import warnings

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
try:
    import api
    import grpc
except ImportError as e:
    print("python3-grpcio is not installed: %s" % e)
    sys.exit(77)
if not shutil.which("openssl"):
    print("openssl is not installed")
    sys.exit(77)

ok = api.Checks()


def run(*cmd):
    subprocess.run(cmd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Authority:
    def __init__(self, d, name):
        self.d, self.cert, self.key = d, os.path.join(d, name + ".crt"), os.path.join(d, name + ".key")
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=" + name, "-keyout", self.key, "-out", self.cert)

    def issue(self, name, san):
        cert, key, csr, ext = (os.path.join(self.d, name + x) for x in (".crt", ".key", ".csr", ".ext"))
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
            "/O=acme/CN=" + name, "-keyout", key, "-out", csr)
        with open(ext, "w") as f:
            f.write("subjectAltName=" + san + "\n")
        run("openssl", "x509", "-req", "-in", csr, "-CA", self.cert, "-CAkey", self.key, "-CAcreateserial", "-days", "2",
            "-extfile", ext, "-out", cert)
        return cert, key


def read(path):
    with open(path, "rb") as f:
        return f.read()


def connect(port, ca, pair=None):
    creds = grpc.ssl_channel_credentials(read(ca), read(pair[1]) if pair else None, read(pair[0]) if pair else None)
    return api.channel("localhost:%d" % port, creds)


def check(ch):
    return api.status(ch.unary_unary("/grpc.health.v1.Health/Check"), b"", timeout=8)[0]


def roles(port, ca, viewer, admin):
    v = api.Client(connect(port, ca, viewer))
    a = api.Client(connect(port, ca, admin))
    d = v.call("DaemonService/GetDaemon").caller
    ok("a certificate makes a viewer", d.transport == "tls" and d.role == "viewer" and "CN=viewer" in d.subject, d)
    d = a.call("DaemonService/GetDaemon").caller
    ok("a certificate that is named makes an admin", d.role == "admin", d)
    for name, fields in (("PluginService/EnablePlugin", dict(name="beta")), ("PluginService/DisablePlugin", dict(name="beta")),
                         ("PluginService/UpdatePlugin", dict(name="beta")), ("GovernorService/UpdateLimits", {}),
                         ("DaemonService/ReloadConfig", {}), ("DaemonService/SetLogLevel", {}),
                         ("DaemonService/Shutdown", {})):
        code, text = api.status(v.call, name, **fields)
        ok("a viewer may not %s" % name, code == "PERMISSION_DENIED" and "admin" in text, (code, text))
    ok("an admin may", a.call("PluginService/EnablePlugin", name="beta").plugin.state == 3)
    ok("a viewer may query", v.query("SELECT 1")[1] == [(1,)])
    w = v.stream("TableService/WatchRows", tables=["events"], max_rows=10, timeout=10)
    ok("a viewer may watch", sum(m.rows.row_count for m in w) == 10)
    return v


def refused(port, ca, other, viewer):
    ok("no certificate: refused", check(connect(port, ca)) == "UNAVAILABLE")
    foreign = other.issue("stranger", "DNS:stranger")
    ok("a foreign certificate: refused", check(connect(port, ca, foreign)) == "UNAVAILABLE")
    ok("no TLS: refused", check(api.channel("localhost:%d" % port)) == "UNAVAILABLE")
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.load_verify_locations(ca)
    ctx.load_cert_chain(*viewer)
    ctx.set_alpn_protocols(["h2"])
    with socket.create_connection(("localhost", port)) as s, ctx.wrap_socket(s, server_hostname="localhost") as t:
        ok("TLS 1.2 or later with h2", t.version() in ("TLSv1.2", "TLSv1.3") and t.selected_alpn_protocol() == "h2")
    warnings.simplefilter("ignore", DeprecationWarning)
    ctx.minimum_version = ctx.maximum_version = ssl.TLSVersion.TLSv1_1
    ctx.set_ciphers("ALL:@SECLEVEL=0")
    try:
        with socket.create_connection(("localhost", port)) as s, ctx.wrap_socket(s, server_hostname="localhost"):
            ok("TLS 1.1: refused", False)
    except (ssl.SSLError, OSError):
        ok("TLS 1.1: refused", True)


def rotation(fake, d, ca, viewer, old, files):
    """files: the server's own cert, key and CA paths."""
    def reload():
        fake.p.send_signal(signal.SIGHUP)
        time.sleep(0.5)
    new_ca = Authority(d, "ca2")
    pair = new_ca.issue("server2", "DNS:localhost,IP:127.0.0.1")
    shutil.copy(pair[0], files[0])
    reload()
    ok("a key that doesn't fit is not taken", check(connect(fake.port, ca.cert, viewer)) == "OK")
    shutil.copy(pair[1], files[1])
    shutil.copy(new_ca.cert, files[2])
    reload()
    client = new_ca.issue("viewer2", "DNS:viewer2")
    ok("the new authority's clients are let in", check(connect(fake.port, new_ca.cert, client)) == "OK")
    ok("the old authority's no more", check(connect(fake.port, new_ca.cert, viewer)) == "UNAVAILABLE")
    ok("a connection from before lives on", api.status(old.call, "DaemonService/GetDaemon")[0] == "OK")
    with open(files[0], "w") as f:
        f.write("garbage")
    reload()
    ok("garbage is not taken", check(connect(fake.port, new_ca.cert, client)) == "OK")
    ok("and reported", "keeping the old ones" in fake.stderr())


def main():
    d = tempfile.mkdtemp(prefix="rs-api-")
    try:
        ca, other = Authority(d, "ca"), Authority(d, "other")
        cert, key = ca.issue("server", "DNS:localhost,IP:127.0.0.1")
        viewer = ca.issue("viewer", "DNS:viewer")
        admin = ca.issue("anybody", "URI:spiffe://acme/ops")
        files = [os.path.join(d, x) for x in ("live.crt", "live.key", "live.ca")]
        for src, dst in zip((cert, key, ca.cert), files):
            shutil.copy(src, dst)
        bad = subprocess.run([os.path.join(api.BUILD, "tests", "api_fake"), "--listen", "localhost:0", "--ca", ca.cert,
                              "--cert", cert, "--key", viewer[1]], stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                             text=True, timeout=30)
        ok("a wrong key fails the start by name", bad.returncode == 1 and "viewer.key" in bad.stderr, bad.stderr)
        fake = api.Fake("--listen", "localhost:0", "--cert", files[0], "--key", files[1], "--ca", files[2],
                        "--tls-admin", "spiffe://acme/ops")
        try:
            old = roles(fake.port, ca.cert, viewer, admin)
            refused(fake.port, ca.cert, other, viewer)
            rotation(fake, d, ca, viewer, old, files)
        finally:
            rc, _ = fake.stop()
        ok("ended well", rc == 0, rc)
    finally:
        shutil.rmtree(d)
    ok.done()


main()
