#!/usr/bin/env python3
"""Runs the same work against Baton and against other brokers on this machine, one after the other.

    benches/peers/install.sh                  # once: the distribution's packages
    benches/peers/run.py [--only nats,etcd] [--seconds 10] [--out FILE.json]

Baton is measured with one agent address, as the others' load goes to one queue, and as "baton-32" with 32 addresses in 16
groups. Every broker gets three nodes on loopback and an empty directory, and is stopped before the next one starts. Only
processes that this program started are ended. A broker that is not installed is left out and named.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import brokers

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MODES = ("submit", "cycle")


def generator(arguments):
    """The peers' load generator, built when it is not there or old."""
    command = ["cargo", "build", "--locked", "--manifest-path", str(HERE / "Cargo.toml")]
    if not arguments.dev:
        command.append("--release")
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE / "target"))
    subprocess.run(command, check=True, stdout=sys.stderr, env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    return target / ("debug" if arguments.dev else "release") / "baton-peers"


def load_of(arguments):
    return [
        "--concurrency", arguments.concurrency,
        "--duration", str(arguments.seconds),
        "--payload-bytes", str(arguments.payload_bytes),
    ]


def limit_seconds(arguments):
    """More than a run can need: cells, their patience, start."""
    cells = len(MODES) * len(arguments.concurrency.split(","))
    return cells * (arguments.seconds + 45) + 180


def json_of(command, seconds):
    """Runs a program that prints a document, with a limit on its time."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            text, _ = process.communicate(timeout=seconds)
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}")
    return json.loads(text)


def measure_baton(arguments, agents):
    command = [arguments.baton, "bench", *MODES, "--output", "json", "--idle", "5", "--nodes", "3", "--agents", str(agents)]
    command += ["--protocol", arguments.protocol, *load_of(arguments)]
    document = json_of(command, limit_seconds(arguments))
    if document["profile"] != "release" and not arguments.dev:
        raise RuntimeError(f"{arguments.baton} is no release build")
    for cell in document["cells"]:
        cell["resident_bytes"] = sum(cell["resident_bytes_per_node"])
    return {
        "version": f"Baton {document['version']}",
        "promise": "synced to disk by a majority",
        "cells": document["cells"],
    }


def measure_peer(kind, program, directory, arguments):
    broker = kind(directory)
    try:
        broker.start()
        command = [str(program), broker.name, "--servers", ",".join(broker.servers)]
        command += ["--pids", ",".join(map(str, broker.pids())), *load_of(arguments)]
        document = json_of(command, limit_seconds(arguments))
        return {"version": broker.version(), "promise": broker.promise, "cells": document["cells"]}
    finally:
        broker.stop()


def cell_of(measured, mode, workers):
    found = (c for c in measured["cells"] if (c["mode"], c["workers"]) == (mode, workers))
    return next(found, None)


def ratios(results):
    """How many times as fast Baton is, per peer and cell."""
    baton = results.get("baton")
    if baton is None:
        return {}
    found = {}
    for name, peer in results.items():
        if name == "baton":
            continue
        for cell in peer["cells"]:
            ours = cell_of(baton, cell["mode"], cell["workers"])
            if ours and cell["per_second"]:
                ratio = round(ours["per_second"] / cell["per_second"], 3)
                found.setdefault(name, {})[f"{cell['mode']} {cell['workers']}"] = ratio
    return found


HEADER = ("", "mode", "workers", "per s", "p50 ms", "p99 ms", "errors", "CPU s/1000", "own CPU", "MiB", "Baton is")


def row_of(name, cell, ratio):
    def number(value, digits):
        return "–" if value is None else f"{value:.{digits}f}"

    memory = cell["resident_bytes"]
    return (
        name, cell["mode"], str(cell["workers"]), f"{cell['per_second']:.0f}",
        number(cell["latency_ms"]["p50"], 2), number(cell["latency_ms"]["p99"], 2), str(cell["errors"]),
        number(cell["node_cpu_seconds_per_1000"], 3), number(cell["generator_cpu_seconds_per_1000"], 3),
        number(memory and memory / 2**20, 0), f"{ratio:.2f} ×" if ratio else "",
    )


def table(results):
    ratio = ratios(results)
    rows = [
        row_of(name, cell, ratio.get(name, {}).get(f"{cell['mode']} {cell['workers']}"))
        for name, measured in results.items()
        for cell in measured["cells"]
    ]
    widths = [max(len(row[n]) for row in [HEADER, *rows]) for n in range(len(HEADER))]
    for row in [HEADER, *rows]:
        cells = [text.ljust(w) if n < 2 else text.rjust(w) for n, (text, w) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())


def parsed():
    names = [kind.name for kind in brokers.ALL]
    options = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    options.add_argument("--only", default=",".join(names), help=f"peers, of {', '.join(names)}; none = only Baton")
    options.add_argument("--seconds", type=int, default=10, help="of each cell")
    options.add_argument("--concurrency", default="1,16,64,256")
    options.add_argument("--payload-bytes", type=int, default=256)
    options.add_argument("--protocol", default="grpc", help="of Baton: grpc or axp")
    options.add_argument("--baton", default=str(ROOT / "target/release/baton"))
    options.add_argument("--without-baton", action="store_true")
    options.add_argument("--dev", action="store_true", help="unoptimized builds: to try this program, not to measure")
    options.add_argument("--out", type=Path, help="write everything to this file")
    return options.parse_args()


def main():
    arguments = parsed()
    results, left_out = {}, {}
    if not arguments.without_baton:
        print("== baton", file=sys.stderr)
        results["baton"] = measure_baton(arguments, 1)
        results["baton-32"] = measure_baton(arguments, 32)
    wanted = [kind for kind in brokers.ALL if kind.name in arguments.only.split(",")]
    program = generator(arguments) if wanted else None
    # Removed in the end. PostgreSQL runs as a user of its own and must be able to get in.
    with tempfile.TemporaryDirectory(prefix="baton-peers-", ignore_cleanup_errors=True) as directory:
        os.chmod(directory, 0o755)
        for kind in wanted:
            print(f"== {kind.name}", file=sys.stderr)
            if kind.found() is None:
                left_out[kind.name] = "not installed"
                continue
            try:
                results[kind.name] = measure_peer(kind, program, directory, arguments)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                left_out[kind.name] = str(error)
    table(results)
    for name, why in left_out.items():
        print(f"{name} is left out: {why}")
    for name, measured in results.items():
        print(f"{measured['version']}: an acknowledged message is {measured['promise']}")
    if arguments.out:
        document = {
            "machine": f"{platform.platform()}, {os.cpu_count()} CPUs",
            "settings": {"seconds": arguments.seconds, "payload_bytes": arguments.payload_bytes},
            "results": results,
            "baton_is_times_as_fast": ratios(results),
            "left_out": left_out,
        }
        arguments.out.write_text(json.dumps(document, indent=2) + "\n")
    return 1 if left_out else 0


if __name__ == "__main__":
    sys.exit(main())
