"""`baton demo`: what it counts, what it tells people to paste, and the status it ends with."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

from cluster import BATON, Cluster, environment, is_ours, scratch, until

DEMO_SECONDS = 240
BURST = ["--intents", "40", "--concurrency", "8"]


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    yield scratch("demo/" + request.node.name[:80])


def test_with_exit_the_status_says_whether_everything_arrived(folder: Path):
    command = [str(BATON), "demo", "--exit", *BURST]
    ran = subprocess.run(
        command, env=environment(TMPDIR=str(folder)), capture_output=True, text=True, timeout=DEMO_SECONDS
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    table = dict(re.findall(r"^\W*(submitted|completed|lost|completed twice|created twice)\W+(\d+)\W*$", ran.stdout, re.M))
    assert table == {"submitted": "40", "completed": "40", "lost": "0", "completed twice": "0", "created twice": "0"}, ran.stdout
    assert re.search(r"failover after kill -9 of node-\d\W+\d+ ms", ran.stdout), ran.stdout
    assert list(folder.iterdir()) == [], "the temporary directory was left behind"


@pytest.mark.parametrize(
    "name,told",
    [
        ("human-approval", ["intent.human_task_assigned", "intent.reminder", "the manager approved"]),
        ("delay", ["kill -9 of node-", "with agent_core"]),
        ("push", ["attempt 2: the endpoint is down", "attempt 3: taken, signed"]),
    ],
)
def test_one_scenario_alone_ends_with_its_end(folder: Path, name: str, told: list[str]):
    ran = subprocess.run(
        [str(BATON), "demo", "--scenario", name],
        env=environment(TMPDIR=str(folder)),
        capture_output=True,
        text=True,
        timeout=DEMO_SECONDS,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for words in [*told, "intent.completed", "The scenario completed"]:
        assert words in ran.stdout, ran.stdout
    assert list(folder.iterdir()) == [], "the temporary directory was left behind"


def test_a_demo_that_cannot_start_fails_in_one_line(cluster: Cluster):
    command = [str(BATON), "demo", "--exit", "--data-dir", str(cluster.data)]
    ran = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert len(ran.stderr.splitlines()) == 1 and "in use by another baton" in ran.stderr


def test_the_lines_to_paste_work_as_they_are(folder: Path):
    log = folder / "demo.log"
    temporary = folder / "tmp"
    temporary.mkdir()
    with log.open("wb") as output:
        demo = subprocess.Popen(
            [str(BATON), "demo", *BURST],
            env=environment(TMPDIR=str(temporary)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:

        def invitation() -> list[str] | None:
            assert demo.poll() is None, log.read_text()
            _, found, rest = log.read_text().partition("Send one with the published Python client")
            lines = [line.strip() for line in rest.splitlines()[1:] if line.startswith("  ")]
            return lines if found and len(lines) == 3 else None

        source, install, run = until("the lines to paste", invitation, DEMO_SECONDS)
        # The environment they would make is the one this test runs in.
        made = re.fullmatch(r"python3 -m venv (\S+) && (\S+)/bin/pip install -q (axme==\S+)", install)
        assert made and made[1] == made[2], install
        pinned = (Path(__file__).parent / "requirements.txt").read_text().split()
        assert made[3] in pinned
        assert run.startswith(f"{made[1]}/bin/python -c "), run
        run = sys.executable + run.removeprefix(f"{made[1]}/bin/python")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("AXME_", "BATON_"))}
        pasted = subprocess.run(
            ["bash", "-ec", f"{source}\n{run}"], env=clean, capture_output=True, text=True, timeout=60
        )
        assert pasted.returncode == 0, pasted.stderr
        assert "COMPLETED" in pasted.stdout, pasted.stdout
        data = Path(re.search(r"\. (\S+)/client\.env", source)[1])
        pids = [int((data / f"node-{node}" / "pid").read_text()) for node in (1, 2, 3)]
        assert all(is_ours(pid, data) for pid in pids)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0, log.read_text()
        assert not any(is_ours(pid, data) for pid in pids)
        assert list(temporary.iterdir()) == [], "the temporary directory was left behind"
    finally:
        if demo.poll() is None:
            # Its nodes end with the pipe they hold to it.
            demo.kill()
            demo.wait()
