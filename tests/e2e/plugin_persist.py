#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What is set at run time lasts as long as it was asked for: --persist, --for, --set, environment, limits."""

import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ringside as rs


def option(d, plugin, key):
    for line in d.cli("-o", "json", "config", "show").splitlines():
        v = json.loads(line)
        if v["key"] == f"plugins.{plugin}.{key}":
            return v
    raise AssertionError(f"no option {plugin}.{key}")


def persisted():
    with rs.Daemon() as d:
        d.enable("netflow", "interval=3s", "--persist")
        rs.true(d.plugin("netflow")["persisted"], "persisted")
        with open(f"{d.state}/plugins.json") as f:
            rs.equal(json.load(f), {"netflow": {"enabled": True, "options": {"interval": "3s"}}}, "plugins.json")
        d.restart()
        rs.equal(d.plugin("netflow")["state"], "running", "state after a restart")
        rs.equal((option(d, "netflow", "interval")["value"], option(d, "netflow", "interval")["origin"]), ("3s", "state"))

        # Without --persist a disable lasts until the restart.
        d.cli("plugin", "disable", "netflow")
        d.restart()
        rs.equal(d.plugin("netflow")["state"], "running")
        d.cli("plugin", "disable", "netflow", "--persist")
        d.restart()
        rs.equal(d.plugin("netflow")["state"], "disabled")

        # Without --persist, an enable too.
        d.cli("plugin", "enable", "netflow")
        d.restart()
        rs.equal(d.plugin("netflow")["state"], "disabled")

        # A damaged file stops nobody.
        with open(f"{d.state}/plugins.json", "w") as f:
            f.write("{damaged")
        d.restart()
        rs.contains(d.log(), "plugins.json:1: ")
        rs.equal(d.plugin("netflow")["state"], "disabled")


def order_of_origins():
    with rs.Daemon(config='[plugins.netflow]\nenabled = true\ninterval = "11s"\n',
                   env={"ENV_INPUT_EBPF_INTERVAL": "12s"}, flags=["--set", "plugins.netflow.interval=13s"]) as d:
        rs.equal(d.plugin("netflow")["state"], "running", "enabled by the file")
        rs.equal((option(d, "netflow", "interval")["value"], option(d, "netflow", "interval")["origin"]), ("13s", "flag"))
    with rs.Daemon(env={"ENV_INPUT_EBPF_ENABLED_PLUGINS": "ebpf-net", "ENV_INPUT_EBPF_INTERVAL": "12s"}) as d:
        rs.equal(d.plugin("netflow")["state"], "running", "enabled by DataKit's name")
        v = option(d, "netflow", "interval")
        rs.equal((v["value"], v["origin"], v["detail"]), ("12s", "environment", "ENV_INPUT_EBPF_INTERVAL"))


def for_a_while():
    with rs.Daemon() as d:
        d.enable("netflow", "--for", "2s")
        row = d.plugin("netflow")
        rs.equal(row["state"], "running")
        rs.true(0 < row["disable_at"] / 1e9 - time.time() < 2.5, "when it ends")
        rs.wait_until(lambda: d.plugin("netflow")["state"] == "disabled", what="the end of its time")
        rows = d.wait_sql("SELECT actor, detail FROM daemon_events WHERE event = 'plugin_disabled'")
        rs.equal(rows, [{"actor": "timer", "detail": "its time was up"}])


def limits():
    with rs.Daemon() as d:
        d.cli("limits", "set", "mem_limit=1GiB", "--persist")
        d.cli("limits", "set", "cpu_limit=1.5")
        rs.contains(d.cli("limits", "set", "mem_limit=4gigs", code=1), "mem_limit '4gigs'")
        d.restart()
        rows = {r["resource"]: r["limit_value"] for r in d.sql("SELECT resource, limit_value FROM governor")}
        rs.equal(rows, {"cpu": None, "mem": 1 << 30, "net": None, "kernel_cpu": None}, "limits after a restart")


def refusals():
    with rs.Daemon() as d:
        rs.contains(d.cli("plugin", "enable", "netflw", code=1), "unknown plugin 'netflw'; did you mean 'netflow'?")
        rs.contains(d.cli("plugin", "enable", "netflow", "intervall=5s", code=1), "interval")
        rs.contains(d.cli("plugin", "enable", "netflow", "interval=5", code=1), "interval '5'")
        rs.contains(d.cli("plugin", "enable", "netflow", "interval=10ms", code=1), "1s")
        rs.equal(d.plugin("netflow")["state"], "disabled")


def main():
    rs.need_root()
    persisted()
    order_of_origins()
    for_a_while()
    limits()
    refusals()


main()
