#!/usr/bin/env python3
"""Turns documents of `baton bench --output json` into curves: docs/performance/*.svg.

    benches/report.py [--results DIR] [--out DIR]

The results lie in one directory per sweep, named after what the sweep varies: load, rate, stored, agents, observers,
groups. Within a sweep every document adds its cells; a sweep without results makes no picture. Nothing but Python's
standard library is needed.
"""

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from chart import Chart, Series

ROOT = Path(__file__).resolve().parent.parent
MIB = 1024 * 1024


@dataclass
class Cell:
    """One cell with the settings of its run."""

    figures: dict
    settings: dict
    nodes: int

    @property
    def name(self):
        return f"{self.figures['mode']}, {self.figures['protocol']}"

    def memory_mib(self):
        """Mean of the nodes, none when they ran elsewhere."""
        nodes = self.figures.get("resident_bytes_per_node")
        return sum(nodes) / len(nodes) / MIB if nodes else None

    def disk_gib(self):
        """Mean of the nodes, none when they ran elsewhere."""
        disk = self.figures.get("disk_bytes")
        return disk / self.nodes / MIB / 1024 if disk else None

    def milliseconds(self, what):
        """Of a restart."""
        return self.figures.get(f"{what}_ms")


@dataclass(frozen=True)
class Sweep:
    """What a directory of results varies, and which cells of it are points."""

    name: str
    axis: str
    x: object
    modes: tuple
    # Figures to draw: file name part, title, axis, value of a cell.
    figures: tuple


def throughput(cell):
    return cell.figures.get("per_second")


def seen(cell):
    return cell.figures["per_second"] * (cell.figures["observers"] or 1)


def latency(quantile):
    return lambda cell: cell.figures.get("latency_ms", {}).get(quantile)


def stored(cell):
    """A waiting cell is what it ends with, any other what it began with."""
    before = cell.figures["stored"]
    return before + cell.figures["operations"] if cell.figures["mode"] == "waiting" else before


RATE = ("throughput", "Operations", "per second", throughput)
MEMORY = ("memory", "Resident memory of a node", "MiB", Cell.memory_mib)
DISK = ("disk", "Disk of a node, allocated blocks", "GiB", Cell.disk_gib)
READY = ("restart", "A node is ready again after kill -9", "ms", lambda cell: cell.milliseconds("ready"))
SNAPSHOT = ("snapshot", "Snapshot of one group, mean", "ms", lambda cell: cell.milliseconds("snapshot"))
P50 = ("p50", "Latency, median", "ms", latency("p50"))
P99 = ("p99", "Latency, 99th percentile", "ms", latency("p99"))

SWEEPS = (
    Sweep("load", "operations at a time", lambda c: c.figures["workers"], ("submit", "cycle", "push", "get"), (RATE, P50, P99)),
    Sweep("rate", "operations begun per second", lambda c: c.figures["rate"], ("submit", "cycle", "get"), (RATE, P50, P99)),
    Sweep("stored", "intents stored", stored, ("waiting", "cycle", "get", "restart"), (RATE, P99, MEMORY, DISK, READY, SNAPSHOT)),
    Sweep("agents", "agents", lambda c: c.settings["agents"], ("cycle",), (RATE, MEMORY)),
    Sweep(
        "observers",
        "observers",
        lambda c: c.figures["observers"],
        ("fan-out",),
        (("throughput", "Events seen by all observers together", "per second", seen), MEMORY),
    ),
    Sweep("groups", "shard groups", lambda c: c.settings["shard_groups"], ("submit", "cycle"), (RATE, MEMORY)),
)


def read(directory):
    """All cells of a directory's documents, in the order of the file names."""
    cells = []
    for path in sorted(directory.glob("*.json")):
        document = json.loads(path.read_text())
        if document["profile"] != "release":
            raise SystemExit(f"{path} was measured with a {document['profile']} build: measure again with --release")
        restarts = [dict(restart, mode="restart", protocol="one node", operations=1) for restart in document.get("restarts", [])]
        cells += [Cell(cell, document["settings"], document["nodes"]) for cell in document["cells"] + restarts]
    return cells


def points(cells, sweep, value):
    """Series by name; what was measured several times at one place becomes its median."""
    found = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        x, y = sweep.x(cell), value(cell)
        if cell.figures["mode"] in sweep.modes and cell.figures["operations"] and x and y is not None:
            found[cell.name][x].append(y)
    return [
        Series(name, [(x, median(ys)) for x, ys in sorted(series.items())])
        for name, series in sorted(found.items())
    ]


def median(values):
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def draw(cells, sweep, out):
    written = []
    for part, title, unit, value in sweep.figures:
        series = points(cells, sweep, value)
        if series:
            path = out / f"{sweep.name}-{part}.svg"
            path.write_text(Chart(title=title, x_axis=sweep.axis, y_axis=unit, series=series).svg())
            written.append(path)
    return written


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    options.add_argument("--results", type=Path, default=ROOT / "docs/performance/results")
    options.add_argument("--out", type=Path, default=ROOT / "docs/performance")
    arguments = options.parse_args()
    written = []
    for sweep in SWEEPS:
        directory = arguments.results / sweep.name
        if directory.is_dir():
            written += draw(read(directory), sweep, arguments.out)
    if not written:
        raise SystemExit(f"no results under {arguments.results}: run benches/sweep.sh first")
    for path in written:
        print(path)


if __name__ == "__main__":
    main()
