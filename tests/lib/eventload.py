# SPDX-License-Identifier: Apache-2.0
"""The workload eventload as an object: events on command, in one process that stays."""

import subprocess

import ringside as t


class EventLoad:
    """with EventLoad("open") as load: load.run(1009, rate=0) makes 1,009 events; .pid, .port and .name (its comm) are known."""

    name = "eventload"

    def __init__(self, kind, path=None):
        self.argv = [t.workload("eventload"), kind, *([path] if path else [])]

    def __enter__(self):
        self.process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        word, pid, port = self.process.stdout.readline().split()
        t.equal(word, "ready", "eventload")
        self.pid, self.port = int(pid), int(port)
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def start(self, count, rate=0):
        self.process.stdin.write(f"{count} {rate}\n")
        self.process.stdin.flush()

    def wait(self):
        """Seconds and seconds of processor time that the last start() took."""
        line = self.process.stdout.readline().split()
        t.equal(len(line), 3, "answer of eventload")
        return int(line[1]) / 1e9, int(line[2]) / 1e9

    def run(self, count, rate=0):
        self.start(count, rate)
        return self.wait()
