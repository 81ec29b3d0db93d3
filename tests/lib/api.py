# SPDX-License-Identifier: Apache-2.0
"""A gRPC client that knows no .proto: everything comes from server reflection. Also the fake daemon and raw HTTP/2."""
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

BUILD = os.environ.get("RINGSIDE_BUILD", "build")


def _reflection_types(version):
    """The reflection protocol itself, from its own descriptor built by hand: the only thing a client must know."""
    f = descriptor_pb2.FileDescriptorProto(name="r_%s.proto" % version, package="grpc.reflection." + version,
                                           syntax="proto3")
    req = f.message_type.add(name="ServerReflectionRequest")
    req.oneof_decl.add(name="message_request")
    for number, name in ((3, "file_by_filename"), (4, "file_containing_symbol"), (7, "list_services")):
        req.field.add(name=name, number=number, type=9, label=1, oneof_index=0)
    svc = f.message_type.add(name="ServiceResponse")
    svc.field.add(name="name", number=1, type=9, label=1)
    lst = f.message_type.add(name="ListServiceResponse")
    lst.field.add(name="service", number=1, type=11, label=3, type_name=".grpc.reflection.%s.ServiceResponse" % version)
    fdr = f.message_type.add(name="FileDescriptorResponse")
    fdr.field.add(name="file_descriptor_proto", number=1, type=12, label=3)
    err = f.message_type.add(name="ErrorResponse")
    err.field.add(name="error_code", number=1, type=5, label=1)
    err.field.add(name="error_message", number=2, type=9, label=1)
    rsp = f.message_type.add(name="ServerReflectionResponse")
    rsp.oneof_decl.add(name="message_response")
    for number, name, t in ((4, "file_descriptor_response", "FileDescriptorResponse"),
                            (6, "list_services_response", "ListServiceResponse"),
                            (7, "error_response", "ErrorResponse")):
        rsp.field.add(name=name, number=number, type=11, label=1, oneof_index=0,
                      type_name=".grpc.reflection.%s.%s" % (version, t))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(f)

    def get(n):
        return _class(pool, "grpc.reflection.%s.%s" % (version, n))
    return get("ServerReflectionRequest"), get("ServerReflectionResponse")


def _class(pool, name):
    d = pool.FindMessageTypeByName(name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(d)
    return message_factory.MessageFactory(pool).GetPrototype(d)


class Client:
    """c = Client(channel); c.call("PluginService/ListPlugins"), c.stream("TableService/WatchRows", tables=["events"])"""

    def __init__(self, channel, version="v1"):
        self.channel = channel
        self.pool = descriptor_pool.DescriptorPool()
        self._files = set()
        self._req, self._rsp = _reflection_types(version)
        self._path = "/grpc.reflection.%s.ServerReflection/ServerReflectionInfo" % version
        self.services = [s.name for s in self._ask(list_services="*").list_services_response.service]
        for s in self.services:
            self._add(self._ask(file_containing_symbol=s))

    def _ask(self, **kw):
        stub = self.channel.stream_stream(self._path, request_serializer=self._req.SerializeToString,
                                          response_deserializer=self._rsp.FromString)
        rsp = list(stub(iter([self._req(**kw)]), timeout=20))
        assert len(rsp) == 1, rsp
        return rsp[0]

    def reflect(self, **kw):
        return self._ask(**kw)

    def _add(self, rsp):
        files = {}
        for raw in rsp.file_descriptor_response.file_descriptor_proto:
            f = descriptor_pb2.FileDescriptorProto.FromString(raw)
            files[f.name] = f

        def add(name):
            if name in self._files:
                return
            for dep in files[name].dependency:
                add(dep)
            self._files.add(name)
            self.pool.Add(files[name])
        for name in files:
            add(name)

    def type(self, name):
        return _class(self.pool, name if "." in name else "ringside.v1." + name)

    def method(self, name):
        """Callable of the channel and the request class for 'Service/Method'."""
        service, method = name.split("/")
        if "." not in service:
            service = "ringside.v1." + service
        d = self.pool.FindServiceByName(service).FindMethodByName(method)
        proto = descriptor_pb2.MethodDescriptorProto()
        d.CopyToProto(proto)
        kind = self.channel.unary_stream if proto.server_streaming else self.channel.unary_unary
        req, rsp = _class(self.pool, d.input_type.full_name), _class(self.pool, d.output_type.full_name)
        return kind("/%s/%s" % (service, method), request_serializer=req.SerializeToString,
                    response_deserializer=rsp.FromString), req

    def call(self, path, /, timeout=20, **fields):
        fn, req = self.method(path)
        return fn(req(**fields), timeout=timeout)

    stream = call

    def query(self, sql, /, timeout=20, **fields):
        """Columns, rows as tuples, stats."""
        columns, rows, stats = [], [], None
        for m in self.call("QueryService/Query", timeout=timeout, sql=sql, **fields):
            part = m.WhichOneof("part")
            if part == "columns":
                columns = [c.name for c in m.columns.columns]
            elif part == "rows":
                rows += unpack_rows(m.rows, len(columns))
            else:
                stats = m.stats
        return columns, rows, stats


def value(v):
    kind = v.WhichOneof("kind")
    return getattr(v, kind) if kind else None


def unpack_rows(batch, ncols):
    assert len(batch.values) == batch.row_count * ncols, (len(batch.values), batch.row_count, ncols)
    vals = [value(v) for v in batch.values]
    return [tuple(vals[i:i + ncols]) for i in range(0, len(vals), ncols)]


def channel(target, creds=None, **options):
    opts = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    opts += [("grpc." + k.replace("__", "."), v) for k, v in options.items()]
    return grpc.secure_channel(target, creds, opts) if creds else grpc.insecure_channel(target, opts)


def status(fn, /, *a, **kw):
    """Code name and text of a call, ("OK", answer) when it works; streams are read to their end."""
    try:
        r = fn(*a, **kw)
        if hasattr(r, "__next__"):
            r = list(r)
        return "OK", r
    except grpc.RpcError as e:
        return e.code().name, e.details()


class Fake:
    """The API server over made-up plugins, in a scratch directory."""

    def __init__(self, *args, rate=1000, preexec=None, env=None):
        self.dir = tempfile.mkdtemp(prefix="rs-api-")
        self.socket = os.path.join(self.dir, "s.sock")
        cmd = [os.path.join(BUILD, "tests", "api_fake")]
        if "--fd" not in args:
            cmd += ["--socket", self.socket]
        cmd += ["--rate", str(rate)] + [str(a) for a in args]
        environment = dict(os.environ, **(env or {}))
        # The default quarantine of 256 MiB would be all that a memory check sees.
        environment["ASAN_OPTIONS"] = environment.get("ASAN_OPTIONS", "detect_leaks=1") + ":quarantine_size_mb=8"
        self.err = open(os.path.join(self.dir, "stderr"), "w+")
        self.p = subprocess.Popen(cmd, stdout=subprocess.PIPE, stderr=self.err, text=True, close_fds="--fd" not in args,
                                  preexec_fn=preexec, env=environment)
        line = self.p.stdout.readline()
        if not line.startswith("ready"):
            self.p.wait(10)
            raise RuntimeError("api_fake did not start: " + self.stderr())
        self.port = int(line.split()[1])

    def stderr(self):
        self.err.flush()
        with open(self.err.name) as f:
            return f.read()

    def rss_kb(self):
        with open("/proc/%d/status" % self.p.pid) as f:
            return int([l for l in f if l.startswith("VmRSS")][0].split()[1])

    def nfd(self):
        return len(os.listdir("/proc/%d/fd" % self.p.pid))

    def cpu_s(self):
        with open("/proc/%d/stat" % self.p.pid) as f:
            v = f.read().rsplit(")", 1)[1].split()
        return (int(v[11]) + int(v[12])) / os.sysconf("SC_CLK_TCK")

    def channel(self, **kw):
        return channel("unix:" + self.socket, **kw)

    def stop(self, timeout=60):
        """Exit code and seconds. Fails the test on a sanitizer report."""
        t = time.monotonic()
        if self.p.poll() is None:
            self.p.send_signal(signal.SIGTERM)
        try:
            rc = self.p.wait(timeout)
        except subprocess.TimeoutExpired:
            self.p.send_signal(signal.SIGABRT)
            self.p.wait(30)
            rc = "hangs"
        took = time.monotonic() - t
        self.p.stdout.close()
        text = self.stderr()
        self.err.close()
        for name in os.listdir(self.dir):
            os.unlink(os.path.join(self.dir, name))
        os.rmdir(self.dir)
        if "Sanitizer" in text or "runtime error" in text:
            print(text)
            rc = "sanitizer"
        elif rc != 0:
            print(text)
        return rc, took


class Checks:
    def __init__(self):
        self.failed = 0
        self.passed = 0

    def __call__(self, name, ok, info=""):
        if ok:
            self.passed += 1
        else:
            self.failed += 1
        print("%s %s%s" % ("ok  " if ok else "FAIL", name, "" if ok else ": %s" % (info,)), flush=True)
        return ok

    def done(self):
        print("%d passed, %d failed" % (self.passed, self.failed))
        sys.stdout.flush()
        os._exit(1 if self.failed else 0)  # grpc's threads may still hold channels


# Raw HTTP/2: what no client library would send.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _literal(name, val):
    return b"\x00" + bytes([len(name)]) + name + bytes([len(val)]) + val


def headers(path, extra=()):
    h = b"".join(_literal(n, v) for n, v in ((b":method", b"POST"), (b":scheme", b"http"), (b":path", path),
                                             (b":authority", b"localhost"), (b"te", b"trailers"),
                                             (b"content-type", b"application/grpc")))
    return h + b"".join(_literal(n, v) for n, v in extra)


def message(body, compressed=0):
    return bytes([compressed]) + struct.pack(">I", len(body)) + body


def hello():
    return PREFACE + frame(4, 0, 0)


def raw(path):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)  # blocking: waits where a timeout would see a full backlog as an error
    s.settimeout(5)
    return s


def read_some(s, seconds=1.0):
    """Bytes until silence or the end; True when the peer closed."""
    s.settimeout(seconds)
    data = b""
    try:
        while True:
            part = s.recv(65536)
            if not part:
                return data, True
            data += part
    except socket.timeout:
        return data, False
    except OSError:
        return data, True


def send_all(s, data):
    """False when the peer has closed."""
    try:
        s.sendall(data)
        return True
    except OSError:
        return False
