#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The clients of api_python and api_node against ringsided itself: reflection, health, lists, queries, watches."""
import os
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import ringside

ringside.need_root()
try:
    import api
except ImportError as e:
    ringside.skip("python3-grpcio is not installed: %s" % e)


def client(name, socket):
    env = dict(os.environ, RINGSIDE_SOCKET=socket)
    code = subprocess.run([os.path.join(HERE, name)], env=env, timeout=200).returncode
    if code == 77:
        print("%s was skipped" % name)
    elif code:
        raise AssertionError("%s failed with %d" % (name, code))


def watch_plugins_table(socket):
    """A live table and an audit one through WatchRows, over python3-grpcio."""
    c = api.Client(api.channel("unix:" + socket))
    names, rows, ends = [], 0, 0
    for m in c.stream("TableService/WatchRows", tables=["plugins"], interval=200_000_000, timeout=30):
        if m.HasField("table"):
            names = [x.name for x in m.table.columns]
        rows += m.rows.row_count
        ends += m.snapshot_end
        if ends == 5:
            break
    ringside.true("name" in names or "plugin" in names, "columns of plugins: %s" % names)
    plugins = len(c.call("PluginService/ListPlugins").plugins)
    ringside.equal(rows, 5 * plugins, "rows of five snapshots of %d plugins" % plugins)


with ringside.Daemon() as d:
    client("api_python.py", d.socket)
    client("api_node.py", d.socket)
    watch_plugins_table(d.socket)
