# SPDX-License-Identifier: Apache-2.0
"""docs/accuracy.md: written from what was measured, and read back to compare with."""

import os
import re

import grid

HEAD = """<!-- Written by tests/accuracy/grid.py --write and --peers; the notes come from there too. Do not edit. -->
# Accuracy

Known traffic, made in every way in which programs make it, by `tests/accuracy/scenarios*.c`: each process says what it sent and
received and who it is. A scenario is seven TCP connections with 12,347 bytes up and 54,323 down each (or 31 datagrams of 101 bytes
and more), between two network namespaces, watched from outside both. For each side:

- **found**: the number of connections established, closed and failed is right (TCP); that of datagrams or packets both ways (others).
- **owner**: the rows that carry bytes name exactly the processes that moved them, by pid and name.
- **bytes**: payload both ways, `exact` is to the byte.

`tests/run.sh` measures again and fails where a cell is worse than here.
"""


def cells_of(path, marker):
    """{(scenario, side): [cells]} of the table behind a marker."""
    rows = {}
    if not os.path.exists(path):
        return rows
    with open(path) as f:
        part = f.read().partition(f"<!-- {marker} -->\n")[2].partition("<!-- end -->")[0]
    for line in part.splitlines()[2:]:
        cells = [re.sub(r" ?\[\d+\]", "", c).strip() for c in line.strip("|").split("|")]
        if len(cells) > 3:
            rows[cells[0], cells[1]] = cells[2:]
    return rows


def part_of(path, marker):
    if not os.path.exists(path):
        return ""
    with open(path) as f:
        _, found, rest = f.read().partition(f"<!-- {marker} -->\n")
    return found + rest.partition("<!-- end -->")[0] + "<!-- end -->\n" if found else ""


def save(path, ringside, peers):
    with open(path, "w") as f:
        f.write(f"{HEAD}\n## Ringside\n\n{ringside}")
        if peers:
            f.write(f"\n## Other tools\n\n{peers}")


def write_grid(path, cells, scenarios):
    def note(text):
        if text not in notes:
            notes.append(text)
        return f" [{notes.index(text) + 1}]"

    notes, lines = [], ["<!-- grid -->", "| scenario | side | found | owner | bytes |", "|---|---|---|---|---|"]
    for sc in scenarios:
        for side in sc.sides:
            row = []
            for key, value in cells[sc.name, side].items():
                if value and grid.rank(value) < 2 and not value.startswith("n/a") and (side, key) not in sc.why:
                    raise AssertionError(f"{sc.name}, {side}, {key}: {value}: mend it, or say why in grid.py")
                why = sc.race.get((side, key)) or sc.why.get((side, key)) or (key == "owner" and sc.why.get((side, "note")))
                row.append(value + (note(why) if why else ""))
            lines.append(f"| {sc.name}{note(sc.about) if sc.about else ''} | {side} | {' | '.join(row)} |")
    lines.append("<!-- end -->")
    lines += ["", *(f"[{i + 1}] {n}.  " for i, n in enumerate(notes)), "", IDLE_NOTE]
    save(path, "\n".join(lines) + "\n", part_of(path, "peers"))


IDLE_NOTE = f"""The idle connections carry nothing but keep-alive probes for {grid.IDLE} s, over at least one of the full looks at all sockets that
netflow takes every 16th interval; each look at `connections` must show the same owners, counters and times of opening, and the bytes at
the end must add up.

Hours of it are proven by `tests/vm/hours.sh`, in an emulated machine whose clock jumps to the next timer whenever it has nothing to do:
all clocks and timers of its kernel, its programs and the daemon live through 2 hours and a minute of the guest's time. Seven connections, four
with keep-alive probes every 600 s and three without any, must show the right owners, bytes and times of opening at each look, and be counted
once, opened and closed, with the payload of before and after, exact at both ends. Three more, whose peer falls silent, must be closed when the
kernel gives them up, by keep-alive after 1,275 s. No row may be later than the interval in which it happened, and the daemon's memory must stay
as it is."""


def write_peers(path, peers, scenarios):
    with open(path) as f:
        ringside = f.read().partition("## Ringside\n\n")[2].partition("\n## Other tools")[0]
    names = list(peers)
    lines = ["<!-- peers -->", "| scenario | side | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for sc in scenarios:
        for side in sc.sides:
            lines.append(f"| {sc.name} | {side} | " + " | ".join(peers[n].cell(sc, side) for n in names) + " |")
    lines += ["", *(f"- **{n}**: {peers[n].about()}" for n in names), "", *EXTRA, "<!-- end -->"]
    save(path, ringside, "\n".join(lines) + "\n")


EXTRA = [
    "A cell says what was found, the owner, and how far sent and received bytes are from the payload. `-`: the tool doesn't look at that.",
    "suricata isn't in Debian 12 and so stands in no column.",
]


def compare(path, cells, scenarios):
    """0, or 1 where something is worse than the document or isn't explained in it."""
    old, bad, good, absent = cells_of(path, "grid"), [], 0, 0
    for sc in scenarios:
        for side in sc.sides:
            now = cells[sc.name, side]
            then = old.get((sc.name, side))
            print(f"{sc.name:42} {side:7} {now.found:14} {now.owner:5} {now.bytes}")
            if now.found.startswith("n/a"):
                absent += 1
                continue
            for i, (key, value) in enumerate(now.items()):
                good += grid.rank(value) == 2
                if grid.rank(value) == 1 and (side, key) in sc.race:
                    print(f"    known: {key}: {sc.race[side, key]}")
                    continue
                known = (side, key) in sc.why
                if known and grid.rank(value) < 2:
                    print(f"    known: {key}: {sc.why[side, key]}")
                elif grid.rank(value) < 2 and not then:
                    bad.append(f"{sc.name}, {side}, {key}: {value}, and the document doesn't know it")
                if then and not then[0].startswith("n/a") and grid.rank(value) < grid.rank(then[i]):
                    bad.append(f"{sc.name}, {side}, {key}: {value}, was {then[i]}")
                if then and grid.rank(value) > grid.rank(then[i]) and not then[0].startswith("n/a"):
                    print(f"    better than the document: grid.py --write ({key}: was {then[i]})")
    for line in bad:
        print(f"worse: {line}")
    print(f"{good} cells right, {len(bad)} worse, {absent} rows not on this kernel")
    return 1 if bad else 0
