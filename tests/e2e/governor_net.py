#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The ladder's network rungs under real work: rows that a watcher takes over mutual TLS are sampled until they fit, then their plugin goes."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ringside as t  # noqa: E402
from governor_limits import certificates, free_port  # noqa: E402

LIMIT = 64 << 10
STATES = ("running", "degraded")


class Signals:
    """Signals to ourselves, some thousands a second, until it ends."""

    def __enter__(self):
        self.end = False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def run(self):
        limit = time.monotonic() + 120
        while not self.end and time.monotonic() < limit:
            for _ in range(53):
                os.kill(os.getpid(), signal.SIGURG)  # ignored by default
            time.sleep(0.01)

    def __exit__(self, *_):
        self.end = True
        self.thread.join()


@contextlib.contextmanager
def watcher(d, address):
    """Takes every row over TLS; what it gets it forgets."""
    p = subprocess.Popen([t.CLI, "--address", address, "--tls-ca", f"{d.dir}/ca.pem", "--tls-cert", f"{d.dir}/client.pem",
                          "--tls-key", f"{d.dir}/client.key", "-o", "json", "watch", "signal"], stdout=subprocess.DEVNULL)
    try:
        yield p
    finally:
        p.terminate()
        p.wait(20)


def acts(d, act):
    return d.sql(f"SELECT * FROM governor_decisions WHERE act = '{act}' ORDER BY ts")


def check(d, address):
    time.sleep(2.5)
    if d.one("SELECT usage FROM governor WHERE resource = 'net'") is None:
        t.skip(f"our own traffic can't be counted here: {d.cli('limits').strip()}")
    d.cli("plugin", "enable", "signal")
    with watcher(d, address) as p:
        with Signals():
            d.wait_sql("SELECT 1 FROM governor_decisions WHERE act = 'sample'", 30)
            # Sampling alone is enough: usage comes below the limit while the load stays what it is.
            d.wait_sql(f"SELECT 1 FROM governor WHERE resource = 'net' AND usage < {LIMIT}", 60)
            steps = acts(d, "sample")
            t.equal({r["resource"] for r in steps}, {"net"}, "what led to it")
            t.true(all(r["value"] > 0.8 * LIMIT and r["limit_value"] == LIMIT for r in steps), f"the numbers that led to it: {steps}")
            t.contains(steps[0]["message"], "signal: 1 in 2 events", "first step")
            t.true(d.plugin("signal")["state"] in STATES, "the plugin runs on")
            lost = d.wait_sql("SELECT sum(lost) AS n FROM loss WHERE plugin = 'signal' AND stage = 'sampled' HAVING n > 100", 10)[0]["n"]
            # Less than any sample of it: then it has to go.
            d.cli("limits", "set", "net_limit=1KiB/s")
            d.wait_sql("SELECT 1 FROM plugins WHERE name = 'signal' AND state = 'disabled'", 60)
            gone = acts(d, "disable")
            t.equal([(r["plugin"], r["resource"]) for r in gone], [("signal", "net")], "disabled once")
            t.contains(d.plugin("signal")["reason"], "shed by the governor: net", "reason")
            t.equal(p.poll(), None, "the watcher watches on")
        d.cli("limits", "set", f"net_limit={LIMIT}")
        t.wait_until(lambda: d.plugin("signal")["state"] in STATES, 40, "back again", 0.5)
        t.equal([r["plugin"] for r in acts(d, "enable")], ["signal"], "brought back")
        d.wait_sql("SELECT 1 FROM governor_decisions WHERE from_state = 'sample' AND to_state = 'ok'", 60)
    print(f"{len(steps)} steps of sampling ({lost} events left out and counted) held {LIMIT} B/s; below 1 KiB/s the plugin went, and came back")


def main():
    t.need_root()
    t.need_programs("openssl")
    d = t.Daemon()
    certificates(d.dir)
    address = f"127.0.0.1:{free_port()}"
    with open(d.config_path, "w") as f:
        f.write(f'net_limit = "{LIMIT}"\nlimit_recovery = "5s"\n[api]\nlisten = "{address}"\n' +
                "".join(f'tls_{key} = "{d.dir}/{file}"\n' for key, file in
                        (("ca", "ca.pem"), ("cert", "server.pem"), ("key", "server.key"))))
    with d:
        check(d, address)


if __name__ == "__main__":
    main()
