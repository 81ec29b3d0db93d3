#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The three methods of the benchmark on Debian's python3-grpcio: server.py SOCKET API_FDS"""
import os
import signal
import sys
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "lib"))
from api import _class

pool = descriptor_pool.DescriptorPool()
with open(sys.argv[2], "rb") as f:
    for d in descriptor_pb2.FileDescriptorSet.FromString(f.read()).file:
        pool.Add(d)


def t(name):
    return _class(pool, name)


Value, QueryResponse = t("ringside.v1.Value"), t("ringside.v1.QueryResponse")
Get, Check = t("ringside.v1.GetPluginResponse"), t("grpc.health.v1.HealthCheckResponse")


def check(request, context):
    return Check(status=1)


def get(request, context):
    r = Get()
    p = r.plugin
    p.name, p.help, p.state, p.etag = request.name, "Fake plugin 0", 3, "1"
    p.tables.append("events")
    p.options.add(key="interval", type="duration", value="10s", default="10s", origin="default")
    p.programs.add(name="prog")
    p.stats.SetInParent()
    return r


def query(request, context):
    m = QueryResponse()
    for i in range(7):
        m.columns.columns.add(name="c%d" % i)
    yield m
    seq = 0
    while context.is_active():
        m = QueryResponse()
        m.rows.row_count = 64
        add = m.rows.values.add
        for _ in range(64):
            seq += 1
            add(integer=1763700000000000000 + seq)
            add(integer=seq)
            add(real=seq / 2)
            add(text="row-%d" % (seq % 1000))
            add(text="xxxxxxxx")
            add(text="10.1.2.3")
            add(integer=seq & 1)
        yield m


def handler(fn, req, stream=False):
    make = grpc.unary_stream_rpc_method_handler if stream else grpc.unary_unary_rpc_method_handler
    return make(fn, request_deserializer=t(req).FromString, response_serializer=lambda m: m.SerializeToString())


server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((
    grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler(check, "grpc.health.v1.HealthCheckRequest")}),
    grpc.method_handlers_generic_handler("ringside.v1.PluginService", {"GetPlugin": handler(get, "ringside.v1.GetPluginRequest")}),
    grpc.method_handlers_generic_handler("ringside.v1.QueryService", {"Query": handler(query, "ringside.v1.QueryRequest", True)}),
))
server.add_insecure_port("unix:" + sys.argv[1])
server.start()
print("ready", flush=True)
signal.sigwait([signal.SIGTERM])
server.stop(0)
os._exit(0)
