#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every service through python3-grpcio with reflection only. Against a real daemon where RINGSIDE_SOCKET is set."""
import os
import signal
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
SERVICES = ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
            "ringside.v1.DaemonService", "ringside.v1.GovernorService", "ringside.v1.PluginService",
            "ringside.v1.QueryService", "ringside.v1.TableService"]


def reflection(ch):
    for version in ("v1", "v1alpha"):
        c = api.Client(ch, version)
        ok("reflection %s lists the services" % version, c.services == SERVICES, c.services)
        r = c.reflect(file_by_filename="ringside/v1/plugin.proto")
        names = len(r.file_descriptor_response.file_descriptor_proto)
        ok("reflection %s gives a file with its imports" % version, names == 4, names)
        for sym in ("ringside.v1.Value.text", "ringside.v1.PLUGIN_STATE_RUNNING", "ringside.v1.QueryService.Query"):
            r = c.reflect(file_containing_symbol=sym)
            ok("reflection %s finds %s" % (version, sym), len(r.file_descriptor_response.file_descriptor_proto) > 0)
        r = c.reflect(file_containing_symbol="no.such.Symbol")
        ok("reflection %s says NOT_FOUND" % version, r.error_response.error_code == 5, r)
    return api.Client(ch)


def health(c):
    for s in [""] + SERVICES:
        r = c.call("grpc.health.v1.Health/Check", service=s)
        ok("health of '%s'" % s, r.status == 1)
    code, text = api.status(c.call, "grpc.health.v1.Health/Check", service="nobody")
    ok("health of an unknown service", code == "NOT_FOUND" and "nobody" in text, (code, text))
    code, _ = api.status(c.call, "grpc.health.v1.Health/Check", service="plugins/nobody")
    ok("health of an unknown plugin", code == "NOT_FOUND", code)
    w = c.stream("grpc.health.v1.Health/Watch", service="nobody")
    ok("health watch of an unknown service", next(w).status == 3)
    w.cancel()


def common(c, history):
    """What holds for any daemon that has the history table given."""
    plugins = c.call("PluginService/ListPlugins").plugins
    ok("plugins are listed", len(plugins) > 0)
    one = c.call("PluginService/GetPlugin", name=plugins[0].name).plugin
    ok("one plugin", one.name == plugins[0].name)
    code, text = api.status(c.call, "PluginService/GetPlugin", name="nosuch")
    ok("an unknown plugin is NOT_FOUND and named", code == "NOT_FOUND" and "nosuch" in text, (code, text))
    code, text = api.status(c.call, "PluginService/GetPlugin")
    ok("an empty name is INVALID_ARGUMENT", code == "INVALID_ARGUMENT", (code, text))
    tables = {t.name: t for t in c.call("TableService/ListTables").tables}
    ok("tables are listed", history in tables and tables[history].columns[0].name == "ts", list(tables))
    d = c.call("DaemonService/GetDaemon")
    ok("the daemon knows its caller", d.caller.transport == "unix" and d.caller.role == "admin" and
       d.caller.uid == os.getuid() and d.caller.pid == os.getpid(), d.caller)
    ok("limits are told", c.call("GovernorService/GetGovernor").governor.state != "")
    ok("configuration is told", len(c.call("DaemonService/GetConfig").values) > 0)
    columns, rows, stats = c.query("SELECT 1 AS a, 2.5 AS b, 'x' AS c, x'00ff' AS d, NULL AS e")
    ok("a query gives every kind of value", columns == list("abcde") and rows == [(1, 2.5, "x", b"\x00\xff", None)], rows)
    ok("a query gives stats", stats.rows == 1 and not stats.truncated, stats)
    code, text = api.status(c.query, "SELECT selekt")
    ok("bad SQL is INVALID_ARGUMENT with SQLite's text", code == "INVALID_ARGUMENT" and "selekt" in text, (code, text))
    code, text = api.status(c.query, "")
    ok("no SQL is INVALID_ARGUMENT", code == "INVALID_ARGUMENT", (code, text))
    v = c.type("Value")
    _, rows, _ = c.query("SELECT ?1, ?2", parameters=[v(integer=-(1 << 63)), v(text="ä€𐍈")])
    ok("parameters come through", rows == [(-(1 << 63), "ä€𐍈")], rows)
    _, rows, stats = c.query("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<100000) SELECT x FROM c",
                             max_rows=777)
    ok("max_rows truncates", len(rows) == 777 and stats.truncated, (len(rows), stats))
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT count(*) FROM c"
    t = time.monotonic()
    code, _ = api.status(c.query, endless, timeout=0.5)
    ok("a deadline ends a query", code == "DEADLINE_EXCEEDED" and time.monotonic() - t < 3, code)
    for _ in range(20):
        fn, req = c.method("QueryService/Query")
        call = fn(req(sql=endless))
        time.sleep(0.01)
        call.cancel()
    time.sleep(0.5)
    _, rows, _ = c.query("SELECT 42")
    ok("cancelled queries leave the server well", rows == [(42,)])
    code, text = api.status(c.stream, "TableService/WatchRows", tables=["nosuch"])
    ok("watching an unknown table", code == "NOT_FOUND" and "nosuch" in text, (code, text))
    for bad in (dict(), dict(tables=[history], sql="SELECT 1"), dict(tables=[history, history]),
                dict(tables=[history], interval=5), dict(tables=[history], cursor="x"),
                dict(sql="SELECT 1 AS ts"), dict(tables=[history], where="nosuch = ")):
        code, text = api.status(c.stream, "TableService/WatchRows", **bad)
        ok("watch refuses %s" % bad, code == "INVALID_ARGUMENT" and text, (code, text))
    w = c.stream("GovernorService/WatchGovernor", interval=100_000_000, timeout=30)
    ok("the governor is watched", all(next(w).governor.state for _ in range(3)))
    w.cancel()
    w = c.stream("PluginService/WatchPlugins", timeout=30)
    ok("plugins are watched", len(next(w).plugins) == len(plugins))
    w.cancel()
    code, _ = api.status(c.channel.unary_unary("/ringside.v1.PluginService/Nope"), b"")
    ok("an unknown method is UNIMPLEMENTED", code == "UNIMPLEMENTED", code)


class Watch:
    """A WatchRows stream read by a thread."""

    def __init__(self, c, **kw):
        self.call = c.stream("TableService/WatchRows", timeout=60, **kw)
        self.rows, self.dropped, self.snapshots, self.columns, self.cursor = [], 0, 0, {}, ""
        self.error = None
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        try:
            for m in self.call:
                if m.HasField("table"):
                    self.columns[m.table.name] = [x.name for x in m.table.columns]
                if m.rows.row_count:
                    self.rows += api.unpack_rows(m.rows, len(self.columns[m.table_name]))
                self.dropped += m.dropped
                self.snapshots += m.snapshot_end
                self.cursor = m.cursor or self.cursor
        except grpc.RpcError as e:
            self.error = e

    def wait(self, fn, seconds=15):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not fn(self):
            time.sleep(0.02)
        return fn(self)

    def stop(self):
        self.call.cancel()
        self.thread.join(10)
        return self


def check_rows(name, rows, step=1):
    bad = [r for r in rows if r[2] != r[1] / 2 or r[3] != "row-%d" % (r[1] % 1000) or r[6] != r[1] % 2 or
           r[5] != "10.%d.%d.%d" % (r[1] >> 16 & 255, r[1] >> 8 & 255, r[1] & 255)]
    seqs = [r[1] for r in rows]
    gaps = [(a, b) for a, b in zip(seqs, seqs[1:]) if b != a + step]
    ok(name, rows and not bad and not gaps, (len(rows), bad[:2], gaps[:3]))


def fake_rows(c):
    w = Watch(c, tables=["events"])
    ok("live rows arrive", w.wait(lambda w: len(w.rows) >= 1500), len(w.rows))
    w.stop()
    check_rows("live rows are complete and right", w.rows)
    ok("nothing dropped", w.dropped == 0)
    again = Watch(c, tables=["events"], cursor=w.cursor)
    again.wait(lambda a: len(a.rows) >= 3000)
    again.stop()
    check_rows("a cursor goes on without gap or duplicate", w.rows + again.rows)
    for attempt in range(5):
        s = Watch(c, tables=["events"], since=0)
        s.wait(lambda s: s.rows and s.rows[-1][1] >= w.rows[-1][1] + 4000 + attempt * 100)
        s.stop()
        check_rows("history, then live, %d" % attempt, s.rows)
        ok("history starts at the first row, %d" % attempt, s.rows[0][1] == 1 and s.dropped == 0, s.rows[:1])
    back = Watch(c, tables=["events"], since=-500_000_000, max_rows=700)
    ok("max_rows ends the stream", back.wait(lambda b: not b.thread.is_alive()) and len(back.rows) == 700 and
       back.error is None, (len(back.rows), back.error))
    check_rows("rows since half a second ago", back.rows)
    f = Watch(c, tables=["events"], where="seq % 10 = 0", interval=200_000_000)
    f.wait(lambda f: len(f.rows) >= 200)
    f.stop()
    check_rows("an expression filters", f.rows, 10)
    f = Watch(c, sql="SELECT ts, seq AS s, half FROM events WHERE seq % 100 = 0 -- comment;", since=0, interval=200_000_000)
    f.wait(lambda f: len(f.rows) >= 60)
    f.stop()
    ok("a SELECT is watched", f.columns == {"events": ["ts", "s", "half"]} and
       [r[1] for r in f.rows] == [100 * (i + 1) for i in range(len(f.rows))], (f.error, f.columns, f.rows[:2]))
    code, text = api.status(c.stream, "TableService/WatchRows", sql="SELECT seq FROM events")
    ok("a SELECT without ts is refused", code == "INVALID_ARGUMENT" and "ts" in text, (code, text))
    m = Watch(c, tables=["many", "fake"], interval=200_000_000)
    m.wait(lambda m: m.snapshots >= 8)
    m.stop()
    many = [r for r in m.rows if len(r) == 2]
    ok("live tables come whole", len(many) % 500 == 0 and many[:500] == [(i, "m" * 64) for i in range(500)],
       (len(many), m.snapshots))
    m = Watch(c, tables=["many"], where="n >= 490", interval=200_000_000)
    m.wait(lambda m: m.snapshots >= 3)
    m.stop()
    ok("live tables are filtered", len(m.rows) >= 30 and all(r[0] >= 490 for r in m.rows), len(m.rows))
    b = Watch(c, tables=["events"])
    t = time.monotonic()
    first = b.wait(lambda b: b.rows, 5)
    ok("the first row comes within 200 ms", first and time.monotonic() - t < 0.5, time.monotonic() - t)
    b.stop()
    _, rows, stats = c.query("SELECT count(*), max(seq) FROM events")
    ok("history is queried", rows[0][0] == rows[0][1] > 1000 and stats.completeness[0].table == "events" and
       stats.completeness[0].rows_lost == 7, (rows, stats))


def fake_plugins(c, fake):
    changes = c.stream("PluginService/WatchPlugins", timeout=30)
    first = next(changes)
    ok("all plugins first", [p.name for p in first.plugins] == ["alpha", "beta", "slow", "broken"])
    ok("text is always UTF-8", first.plugins[0].help == "Fake plugin \ufffd 0", first.plugins[0].help)
    hw = c.stream("grpc.health.v1.Health/Watch", service="plugins/beta", timeout=30)
    ok("a plugin that is off is not serving", next(hw).status == 2)
    duration = c.type("google.protobuf.Duration")
    r = c.call("PluginService/EnablePlugin", name="beta", options={"interval": "5s"}, persist=True,
               duration=duration(seconds=300)).plugin
    ok("enabled", r.state == 3 and r.persisted and r.options[0].value == "5s" and
       r.disable_at.seconds - r.enabled_at.seconds in (299, 300), r)
    ok("health follows", next(hw).status == 1)
    ch = next(changes)
    while not ch.plugins:
        ch = next(changes)
    ok("only the change is sent", [(p.name, p.state) for p in ch.plugins] == [("beta", 3)], ch)
    code, text = api.status(c.call, "PluginService/EnablePlugin", name="beta", options={"interval": "5 lightyears"})
    ok("a bad option is INVALID_ARGUMENT", code == "INVALID_ARGUMENT" and "lightyears" in text, (code, text))
    code, text = api.status(c.call, "PluginService/EnablePlugin", name="broken")
    ok("an unsupported plugin is FAILED_PRECONDITION", code == "FAILED_PRECONDITION" and "lacks" in text, (code, text))
    code, text = api.status(c.call, "PluginService/EnablePlugin", name="beta", duration=duration(seconds=-1))
    ok("a negative duration is INVALID_ARGUMENT", code == "INVALID_ARGUMENT", (code, text))
    u = c.call("PluginService/UpdatePlugin", name="beta", options={"interval": "7s"}, etag=r.etag)
    ok("updated", u.plugin.options[0].value == "7s" and u.restarted)
    code, text = api.status(c.call, "PluginService/UpdatePlugin", name="beta", options={"interval": "8s"}, etag=r.etag)
    ok("a stale etag is ABORTED", code == "ABORTED", (code, text))
    mask = c.type("google.protobuf.FieldMask")
    u = c.call("PluginService/UpdatePlugin", name="beta", update_mask=mask(paths=["interval"]))
    ok("the mask resets to the default", u.plugin.options[0].value == "10s", u)
    code, text = api.status(c.call, "PluginService/UpdatePlugin", name="beta", update_mask=mask(paths=["colour"]))
    ok("the mask knows its keys", code == "INVALID_ARGUMENT" and "colour" in text, (code, text))
    r = c.call("PluginService/DisablePlugin", name="beta").plugin
    ok("disabled", r.state == 1 and next(hw).status == 2)
    r = c.call("PluginService/CheckPlugin", name="broken")
    ok("requirements are told", not r.supported and len(r.requirements) == 2 and c.call(
        "PluginService/CheckPlugin", name="alpha").supported)
    t = time.monotonic()
    slow = c.method("PluginService/EnablePlugin")
    pending = [slow[0].future(slow[1](name="slow")) for _ in range(2)]
    w = Watch(c, tables=["events"])
    w.wait(lambda w: len(w.rows) > 100)
    ok("streams run while a plugin loads", len(w.rows) > 100 and time.monotonic() - t < 0.45, time.monotonic() - t)
    w.stop()
    ok("slow plugins finish", all(p.result().plugin.state == 3 for p in pending))
    changes.cancel()
    hw.cancel()


def fake_governor(c):
    limits, mask = c.type("Limits"), c.type("google.protobuf.FieldMask")
    w = c.stream("GovernorService/WatchGovernor", interval=20_000_000_000, timeout=30)
    ok("limits as text", next(w).governor.limits.cpu_limit == "2.0")
    g = c.call("GovernorService/UpdateLimits", limits=limits(cpu_limit="1.5", mem_limit="96MiB")).governor
    ok("limits changed", (g.limits.cpu_limit, g.limits.mem_limit, g.limits.net_limit) == ("1.5", "96MiB", "100MiB/s"), g)
    ok("a change is sent at once", next(w).governor.limits.cpu_limit == "1.5")
    w.cancel()
    g = c.call("GovernorService/UpdateLimits", update_mask=mask(paths=["net_limit"])).governor
    ok("a limit is lifted by the mask", g.limits.net_limit == "" and g.limits.cpu_limit == "1.5", g)
    for bad, word in ((dict(limits=limits(mem_limit="4gigs")), "4gigs"), (dict(), "limit"),
                      (dict(update_mask=mask(paths=["speed"])), "speed")):
        code, text = api.status(c.call, "GovernorService/UpdateLimits", **bad)
        ok("limits refuse what they don't know: %s" % word, code == "INVALID_ARGUMENT" and word in text, (code, text))


def fake_daemon(c):
    d = c.call("DaemonService/GetDaemon")
    ok("the daemon", d.version == "0.0-fake" and d.started_at.nanos == 123456789 and d.capabilities[0].name == "btf")
    ok("more values than the first guess", len(c.call("DaemonService/GetConfig").values) == 300)
    ok("reload", list(c.call("DaemonService/ReloadConfig").changed_keys) == ["store.max_bytes", "api.listen"])
    code, text = api.status(c.call, "DaemonService/SetLogLevel", level="loud")
    ok("a bad log level", code == "INVALID_ARGUMENT" and "loud" in text, (code, text))


def main():
    real = os.environ.get("RINGSIDE_SOCKET")
    if real:
        c = reflection(api.channel("unix:" + real))
        health(c)
        common(c, os.environ.get("RINGSIDE_TABLE", "netflow"))
        ok.done()
    fake = api.Fake("--store-lag", 150, rate=3000)
    try:
        ch = fake.channel()
        c = reflection(ch)
        health(c)
        common(c, "events")
        fake_rows(c)
        fake_plugins(c, fake)
        fake_governor(c)
        fake_daemon(c)
        hw = c.stream("grpc.health.v1.Health/Watch", service="", timeout=30)
        next(hw)
        w = Watch(c, tables=["events"])
        w.wait(lambda w: w.rows)
        c.call("DaemonService/Shutdown")
        ok("health says NOT_SERVING when it drains", next(hw).status == 2)
        w.thread.join(10)
        ok("watchers end with UNAVAILABLE", w.error is not None and w.error.code().name == "UNAVAILABLE", w.error)
        fake.p.wait(20)
    finally:
        rc, took = fake.stop()
    ok("the server ended well", rc == 0, rc)
    ok("its socket is gone", not os.path.exists(fake.socket))
    ok.done()


main()
