#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What hostile, slow and too many clients do to the API server: nothing. Limits hold, others are served, memory stays."""
import grp
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
try:
    import api
    import grpc
except ImportError as e:
    print("python3-grpcio is not installed: %s" % e)
    sys.exit(77)

ok = api.Checks()
CHECK = b"/grpc.health.v1.Health/Check"


def alive(fake):
    """A new client is served, soon."""
    t = time.monotonic()
    ch = fake.channel()
    try:
        code, _ = api.status(ch.unary_unary(CHECK.decode()), b"", timeout=5)
    finally:
        ch.close()
    return code == "OK" and time.monotonic() - t < 4


def one_row(c, table):
    for m in c.stream("TableService/WatchRows", tables=[table], interval=100_000_000):
        if m.HasField("table"):
            names = [x.name for x in m.table.columns]
        if m.rows.row_count:
            return dict(zip(names, api.unpack_rows(m.rows, len(names))[0]))


def settle(fn, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end and not fn():
        time.sleep(0.1)
    return fn()


def many_streams(fake, c):
    """1,000 watchers on one connection, all fed, then gone without a trace."""
    before = fake.rss_kb()
    ch = fake.channel()
    fn = ch.unary_stream("/ringside.v1.TableService/WatchRows")
    req = c.type("WatchRowsRequest")(tables=["events"]).SerializeToString()
    got = [0] * 1000
    calls = [fn(req) for _ in range(1000)]

    def read(i):
        try:
            for _ in calls[i]:
                got[i] += 1
                if got[i] == 3:
                    return
        except grpc.RpcError:
            pass
    threading.stack_size(256 << 10)
    threads = [threading.Thread(target=read, args=(i,), daemon=True) for i in range(1000)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    threading.stack_size(0)
    grown = fake.rss_kb() - before
    ok("1,000 streams are fed", all(g >= 3 for g in got), sum(g < 3 for g in got))
    code, text = api.status(lambda: list(fn(req, timeout=1)))
    row = one_row(c, "fake")
    ok("1,000 streams live at once", row["watchers"] >= 1000, row)
    for call in calls:
        call.cancel()
    ch.close()
    ok("all are gone", settle(lambda: one_row(c, "fake")["watchers"] <= 1), one_row(c, "fake"))
    print("     1,000 streams: %.1f KiB each (with sanitizers if built so)" % (grown / 1000))


def slow_reader(fake, c):
    """One client never reads: the producer doesn't notice, another client gets every row, the drops are told in-band."""
    body = c.type("WatchRowsRequest")(tables=["events"]).SerializeToString()
    before, t0 = one_row(c, "fake"), time.monotonic()
    s = api.raw(fake.socket)
    s.sendall(api.hello() + api.frame(1, 4, 1, api.headers(b"/ringside.v1.TableService/WatchRows")) +
              api.frame(0, 1, 1, api.message(body)))
    fast_rows, fast_dropped, stop = [], [0], time.monotonic() + 6
    w = c.stream("TableService/WatchRows", tables=["events"])
    for m in w:
        if m.HasField("table"):
            n = len(m.table.columns)
        fast_rows += [r[1] for r in api.unpack_rows(m.rows, n)]
        fast_dropped[0] += m.dropped
        if time.monotonic() > stop:
            break
    w.cancel()
    gaps = [(a, b) for a, b in zip(fast_rows, fast_rows[1:]) if b != a + 1]
    ok("the fast reader missed nothing", not gaps and fast_dropped[0] == 0 and len(fast_rows) > 30000,
       (len(fast_rows), gaps[:3], fast_dropped))
    row = one_row(c, "fake")
    ok("the slow one's rows were dropped and counted", row["rows_dropped"] > 0, row)
    rate = (row["produced"] - before["produced"]) / (time.monotonic() - t0)
    ok("the producer never waited", rate > 19000 and row["push_p99_us"] < 10000 and row["refused"] == 0, (rate, row))
    print("     %.0f rows/s produced with a stalled reader, push p99 %d us" % (rate, row["push_p99_us"]))
    # It reads at last: seq numbers jump by exactly what was told as dropped.
    s.sendall(api.frame(8, 0, 0, struct.pack(">I", 0x3fffffff)) + api.frame(8, 0, 1, struct.pack(">I", 0x3fffffff)))
    rsp = c.type("WatchRowsResponse")
    data, last, bad, told, seen = b"", 0, [], 0, 0
    stream = b""
    end = time.monotonic() + 20
    s.settimeout(2)
    while time.monotonic() < end and not (told and seen > 1000 and last > row["produced"]):
        try:
            data += s.recv(1 << 20)
        except OSError:
            break
        while len(data) >= 9:
            n = int.from_bytes(data[:3], "big")
            if len(data) < 9 + n:
                break
            if data[3] == 0:
                stream += data[9:9 + n]
            elif data[3] == 6 and not data[4] & 1:
                s.sendall(api.frame(6, 1, 0, data[9:9 + n]))
            data = data[9 + n:]
        while len(stream) >= 5:
            n = int.from_bytes(stream[1:5], "big")
            if len(stream) < 5 + n:
                break
            m = rsp.FromString(stream[5:5 + n])
            stream = stream[5 + n:]
            told += m.dropped
            for r in api.unpack_rows(m.rows, 7):
                expected = last + 1 + (m.dropped if last else 0)
                if last and r[1] != expected:
                    bad.append((last, m.dropped, r[1]))
                m.dropped = 0
                last = r[1]
                seen += 1
    s.close()
    ok("drops are told where they happened, to the row", told > 0 and not bad and seen > 1000, (told, seen, bad[:3], last))


def flood(fake, name, data, limit_kb, settle_s=1.0):
    before, cpu = fake.rss_kb(), fake.cpu_s()
    s = api.raw(fake.socket)
    s.settimeout(20)
    stop = threading.Event()

    def drain():
        try:
            while not stop.is_set() and s.recv(1 << 16):
                pass
        except OSError:
            pass
    t = threading.Thread(target=drain, daemon=True)
    t.start()
    api.send_all(s, data)
    time.sleep(settle_s)
    peak = fake.rss_kb()
    stop.set()
    try:
        s.shutdown(socket.SHUT_RDWR)  # wakes the reader: a file that is polled outlives its close
    except OSError:
        pass
    t.join(5)
    s.close()
    ok("%s: memory stays" % name, peak - before < limit_kb, "%d KiB more, %.1f CPU s" % (peak - before, fake.cpu_s() - cpu))
    ok("%s: others are served" % name, alive(fake))


def http2(fake):
    ping = api.frame(6, 0, 0, b"12345678")
    flood(fake, "100,000 PINGs", api.hello() + ping * 100000, 60000)
    flood(fake, "100,000 SETTINGS", api.hello() + api.frame(4, 0, 0) * 100000, 60000)
    flood(fake, "100,000 unknown frames", api.hello() + api.frame(0x77, 0, 0, b"x") * 100000, 60000)
    flood(fake, "WINDOW_UPDATEs", api.hello() + api.frame(8, 0, 0, struct.pack(">I", 1)) * 50000, 60000)
    reset = b"".join(api.frame(1, 4, 1 + 2 * i, api.headers(CHECK)) + api.frame(3, 0, 1 + 2 * i, struct.pack(">I", 8))
                     for i in range(5000))
    # The core reads all that the socket has before it hands us the first call (about 12 KiB each), and counts streams
    # only for a peer that acknowledges SETTINGS: a trusted peer can cost memory for a moment, but not keep it.
    flood(fake, "rapid reset", api.hello() + reset, 100000, 3)
    # A header that never ends: the string says 1 GiB. Kept small: the core reads it again with each frame.
    endless = api.frame(1, 0, 1, b"\x00\x01x\x7f" + b"\x81\xff\xff\xff\x03" + b"a" * 8000)
    flood(fake, "endless header", api.hello() + endless + api.frame(9, 0, 1, b"a" * 16000) * 60, 60000, 2)
    rng = random.Random(4711)
    for i in range(150):
        s = api.raw(fake.socket)
        junk = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 400)))
        api.send_all(s, (api.hello() if i % 2 else b"") + junk)
        s.close()
    for text in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
                 api.hello() + struct.pack(">I", 0xffffff)[1:] + b"\x00\x01" + struct.pack(">I", 1),
                 api.hello() + api.frame(1, 4, 1, b"\xff" * 30), api.hello() + api.frame(0, 1, 1, b"no headers"),
                 api.hello() + api.frame(1, 4, 2, api.headers(CHECK)), api.hello() + api.frame(9, 4, 1, b"")):
        s = api.raw(fake.socket)
        api.send_all(s, text)
        api.read_some(s, 0.3)
        s.close()
    ok("150 random connections and 7 bad ones: others are served", alive(fake))


def stream_status(s, sid=1, seconds=2.0):
    """grpc-status of a raw call; the header block is not huffman-decoded: our server sends it literally or indexed."""
    data, closed = api.read_some(s, seconds)
    return data, closed


def messages(fake, c):
    ch = fake.channel()
    fn = ch.unary_unary("/ringside.v1.PluginService/GetPlugin")
    bad_utf8 = b"\x0a\x02\xff\xfe"
    for name, body, want in (("broken protobuf", b"\x0a\xff", "INVALID_ARGUMENT"), ("a group", b"\x0b", "INVALID_ARGUMENT"),
                             ("invalid UTF-8", bad_utf8, "INVALID_ARGUMENT"), ("NUL in a text", b"\x0a\x03a\0b", "INVALID_ARGUMENT"),
                             ("unknown fields", b"\x0a\x05alpha\xf8\x07\x01", "OK")):
        code, text = api.status(fn, body, timeout=5)
        ok("%s: %s" % (name, want), code == want, (code, text))
    code, text = api.status(fn, b"\x0a\x80\x80\x14" + b"x" * (320 << 10), timeout=5)
    ok("300 KiB of request: RESOURCE_EXHAUSTED", code == "RESOURCE_EXHAUSTED", (code, text))
    # 100,000 empty map entries unpack to 40 times their size: the arena says no.
    enable = ch.unary_unary("/ringside.v1.PluginService/EnablePlugin")
    before = fake.rss_kb()
    code, text = api.status(enable, b"\x12\x00" * 100000, timeout=5)
    ok("a message that grows when unpacked", code == "RESOURCE_EXHAUSTED" and fake.rss_kb() - before < 30000, (code, text))
    code, text = api.status(ch.unary_unary("/no.such.Service/Method"), b"", timeout=5)
    ok("an unknown service: UNIMPLEMENTED", code == "UNIMPLEMENTED", (code, text))
    code, text = api.status(ch.unary_unary("/grpc.health.v1.Health/Check"), b"", timeout=5, metadata=[("x", "y" * 7000)])
    ok("7 KB of metadata pass", code == "OK", (code, text))
    gz = api.channel("unix:" + fake.socket, default_compression_algorithm=2)
    bomb = c.type("QueryRequest")(sql="SELECT '" + "x" * (64 << 20) + "'").SerializeToString()
    before = fake.rss_kb()
    code, text = api.status(lambda: list(gz.unary_stream("/ringside.v1.QueryService/Query")(
        bomb, timeout=20, compression=grpc.Compression.Gzip)))
    ok("a gzip bomb is refused, not inflated", code in ("UNIMPLEMENTED", "RESOURCE_EXHAUSTED") and
       fake.rss_kb() - before < 30000, (code, fake.rss_kb() - before))
    del bomb
    gz.close()
    s = api.raw(fake.socket)
    s.sendall(api.hello() + api.frame(1, 5, 1, api.headers(CHECK)))
    data, _ = api.read_some(s, 1)
    ok("a call without its message is answered", b"one request message" in data, data[-100:])
    s.close()
    ch.close()
    ok("after bad messages others are served", alive(fake))


def caps():
    """Calls a connection, calls in all, connections."""
    fake = api.Fake("--max-calls-per-connection", 50, "--max-calls", 120, "--max-connections", 20, rate=10)
    try:
        c = api.Client(fake.channel())
        body = api.message(c.type("WatchRowsRequest")(tables=["events"]).SerializeToString())
        path = api.headers(b"/ringside.v1.TableService/WatchRows")
        # SETTINGS are never acknowledged: the core doesn't count, we do.
        s = api.raw(fake.socket)
        api.send_all(s, api.hello() + b"".join(api.frame(1, 4, 1 + 2 * i, path) + api.frame(0, 1, 1 + 2 * i, body)
                                              for i in range(400)))
        data, _ = api.read_some(s, 2)
        live = one_row(c, "fake")["watchers"]
        ok("a connection has at most 50 calls", 50 <= live <= 52, live)
        ok("the refusal names the mend", b"max_calls_per_connection" in data)
        for _ in range(3):
            api.send_all(s, b"".join(api.frame(1, 4, 801 + 2 * i, path) + api.frame(0, 1, 801 + 2 * i, body)
                                     for i in range(400)))
        t = [api.raw(fake.socket) for _ in range(2)]
        for x in t:
            api.send_all(x, api.hello() + b"".join(api.frame(1, 4, 1 + 2 * i, path) + api.frame(0, 1, 1 + 2 * i, body)
                                                  for i in range(49)))
        time.sleep(1)
        code, _ = api.status(c.call, "DaemonService/GetDaemon")
        ok("all together have at most 120", code in ("RESOURCE_EXHAUSTED", "OK"), code)
        for x in t + [s]:
            x.close()
        ok("room again", settle(lambda: api.status(c.call, "DaemonService/GetDaemon")[0] == "OK"))
        many = [api.raw(fake.socket) for _ in range(40)]
        time.sleep(0.5)
        open_now = 0
        for x in many:
            data, closed = api.read_some(x, 0.02)
            open_now += not closed
        ok("at most 20 connections", open_now <= 20, open_now)
        for x in many:
            x.close()
        ok("connections again", settle(lambda: alive(fake)))
    finally:
        rc, _ = fake.stop()
    ok("caps: ended well", rc == 0, rc)


def emfile():
    fake = api.Fake("--nofile", 48, rate=10)
    try:
        idle = fake.nfd()
        many = []
        for _ in range(120):
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(1)
            try:
                s.connect(fake.socket)
                many.append(s)
            except OSError:
                s.close()
        time.sleep(1)
        full = fake.nfd()
        for s in many:
            s.close()
        ok("file descriptors ran out", full >= 46, full)
        ok("the listener lives on", settle(lambda: alive(fake)))
        ok("descriptors come back", settle(lambda: fake.nfd() <= idle + 2), (idle, fake.nfd()))
    finally:
        rc, _ = fake.stop()
    ok("EMFILE: ended well", rc == 0, rc)


def try_connect(path, uid, gid, groups):
    """What a process of that user gets, by its exit code: 0 served, 1 refused at connect, 2 closed."""
    code = ("import os,socket,sys\n"
            "os.setgroups(%r); os.setgid(%d); os.setuid(%d)\n"
            "s=socket.socket(socket.AF_UNIX)\n"
            "try: s.connect(%r)\n"
            "except OSError: sys.exit(1)\n"
            "s.settimeout(3)\n"
            "try:\n"
            " s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\0\\0\\0\\4\\0\\0\\0\\0\\0')\n"
            " sys.exit(0 if s.recv(9) else 2)\n"
            "except OSError: sys.exit(2)\n") % (groups, gid, uid, path)
    return subprocess.run([sys.executable, "-c", code]).returncode


def permissions():
    if os.geteuid() != 0:
        print("     permissions: needs root")
        return
    group = grp.getgrnam("daemon")
    fake = api.Fake("--group", group.gr_name, rate=10)
    try:
        os.chmod(fake.dir, 0o755)
        st = os.stat(fake.socket)
        ok("the socket is 0660 root:group", (st.st_mode & 0o777, st.st_uid, st.st_gid) == (0o660, 0, group.gr_gid), st)
        ok("root is served", try_connect(fake.socket, 0, 0, []) == 0)
        ok("a member by primary group is served", try_connect(fake.socket, 65534, group.gr_gid, []) == 0)
        ok("a member by supplementary group is served", try_connect(fake.socket, 65534, 65534, [group.gr_gid]) == 0)
        ok("others can't connect", try_connect(fake.socket, 65534, 65534, []) == 1)
        os.chmod(fake.socket, 0o666)
        ok("others are closed even where the mode lets them in", try_connect(fake.socket, 65534, 65534, []) == 2)
        second = subprocess.run([os.path.join(api.BUILD, "tests", "api_fake"), "--socket", fake.socket],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30)
        ok("a second instance doesn't take the socket", second.returncode == 1 and "another process" in second.stderr,
           second.stderr)
        fake.p.kill()
        fake.p.wait()
        ok("the socket is left behind by kill -9", os.path.exists(fake.socket))
        again = subprocess.Popen([os.path.join(api.BUILD, "tests", "api_fake"), "--socket", fake.socket],
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        ok("a stale socket is replaced", again.stdout.readline().startswith("ready"))
        again.terminate()
        again.wait(20)
        again.stdout.close()
    finally:
        fake.stop()
        db = "/tmp/rs-api-fake.%d.db" % fake.p.pid
        for suffix in ("", "-wal", "-shm"):
            if os.path.exists(db + suffix):
                os.unlink(db + suffix)


def activation():
    """A listening socket that somebody else made: used, and not removed."""
    d = api.tempfile.mkdtemp(prefix="rs-api-")
    path = os.path.join(d, "a.sock")
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.listen(5)
    s.set_inheritable(True)
    fake = api.Fake("--fd", s.fileno(), rate=10)
    try:
        fake.socket = path
        ok("an activated socket is served", alive(fake))
    finally:
        rc, _ = fake.stop()
    ok("activation: ended well", rc == 0, rc)
    ok("an activated socket stays", os.path.exists(path))
    s.close()
    os.unlink(path)
    os.rmdir(d)


def hammer(path, stop, count):
    """Unary calls, streams, health and queries until it is told to stop; errors are fine, hanging isn't."""
    while not stop.is_set():
        ch = api.channel("unix:" + path)
        try:
            c = api.Client(ch)
            while not stop.is_set():
                c.call("PluginService/ListPlugins", timeout=5)
                c.query("SELECT count(*) FROM events", timeout=5)
                w = c.stream("TableService/WatchRows", tables=["events"], timeout=5)
                for _ in range(5):
                    next(w)
                w.cancel()
                c.method("PluginService/EnablePlugin")[0].future(c.type("EnablePluginRequest")(name="slow"), timeout=5)
                count[0] += 1
        except (grpc.RpcError, AssertionError, StopIteration, IndexError, KeyError):
            pass
        finally:
            ch.close()


def drain(rounds):
    worst = 0
    for i in range(rounds):
        fake = api.Fake(rate=5000)
        stop, count = threading.Event(), [0]
        threads = [threading.Thread(target=hammer, args=(fake.socket, stop, count), daemon=True) for _ in range(6)]
        for t in threads:
            t.start()
        time.sleep(0.6 + random.random())
        rc, took = fake.stop(30)
        stop.set()
        for t in threads:
            t.join(20)
        worst = max(worst, took)
        if rc != 0 or took > 8:
            ok("drain under load, round %d" % i, False, (rc, took))
    ok("%d drains under load" % rounds, worst < 8, worst)
    print("     slowest drain: %.2f s" % worst)


def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    fake = api.Fake(rate=20000)
    try:
        c = api.Client(fake.channel())
        slow_reader(fake, c)
        many_streams(fake, c)
        http2(fake)
        messages(fake, c)
        ok("no connection is left over", settle(lambda: one_row(c, "fake")["connections"] <= 2), one_row(c, "fake"))
    finally:
        rc, _ = fake.stop()
    ok("abuse: ended well", rc == 0, rc)
    caps()
    emfile()
    permissions()
    activation()
    drain(5)
    ok.done()


main()
