"""`baton dev`: what it starts, writes, restarts and ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from typing import Iterator

import pytest

import payment
from clients import Workspace, client
from cluster import Cluster, is_ours, ready, scratch, until

# As an author would write it, with nothing but what client.env says.
SCRIPT = """
import os
from axme import AxmeClient, AxmeClientConfig
c = AxmeClient(AxmeClientConfig(os.environ["AXME_BASE_URL"], os.environ["AXME_API_KEY"]))
print(c.send_intent({"intent_type": "intent.payment.process.v1", "to_agent": "worker", "payload": {"n": 1}}))
"""
# Longer than the pause after which a node would have been started again.
NO_RESTART_SECONDS = 2.0


@pytest.fixture
def plain() -> Iterator[Cluster]:
    cluster = Cluster("dev-plain").start()
    yield cluster
    cluster.stop()


def identity(cluster: Cluster, node: int) -> tuple[int, str]:
    status = cluster.operator(node, "status").json()
    return status["node_id"], status["cluster_id"]


def pid_file(cluster: Cluster, node: int):
    return cluster.data / f"node-{node}" / "pid"


def test_a_killed_node_stays_down_the_others_serve_and_ctrl_c_ends_all(plain: Cluster):
    pids = [plain.node_pid(node) for node in (1, 2, 3)]
    assert all(is_ours(pid, plain.data) for pid in pids)
    plain.kill_node(2)
    until("the report of the end", lambda: "node-2 ended (signal: 9" in plain.log_tail())
    until("the end of its pid file", lambda: not pid_file(plain, 2).exists())
    time.sleep(NO_RESTART_SECONDS)
    assert not pid_file(plain, 2).exists() and "started again" not in plain.log_tail()
    assert not ready(plain.urls[1])
    intent_id = client(plain.urls[0], plain.key).send_intent(payment.intent("worker"))
    assert client(plain.urls[2], plain.key).get_intent(intent_id)["intent"]["status"] == "DELIVERED"

    assert plain.interrupt() == 0, plain.log_tail()
    assert not any(is_ours(pid, plain.data) for pid in pids)
    assert not any(pid_file(plain, node).exists() for node in (1, 2, 3))
    assert "did not end by itself" not in plain.log_tail()

    # The same directory is the same cluster again, with the node that had been killed.
    urls = list(plain.urls)
    plain.start()
    assert plain.urls == urls
    assert client(plain.urls[1], plain.key).get_intent(intent_id)["intent"]["intent_id"] == intent_id


def test_what_it_says_to_source_makes_a_client_work(plain: Cluster):
    file = plain.data / "client.env"
    assert file.stat().st_mode & 0o777 == 0o600
    said = re.search(r"clients: (set -a; \. (\S+); set \+a)", plain.log_tail())
    assert said and said[2] == str(file), plain.log_tail()
    script = scratch("dev-script") / "submit.py"
    script.write_text(SCRIPT)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AXME_", "BATON_"))}
    ran = subprocess.run(
        ["sh", "-ec", f"{said[1]}\nexec {sys.executable} {script}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    intent = client(plain.urls[1], plain.key).get_intent(ran.stdout.strip())["intent"]
    assert intent["payload"] == {"n": 1}


def test_with_restart_a_killed_node_comes_back_as_itself():
    cluster = Cluster("dev-restart", restart=True).start()
    try:
        workspace = Workspace(cluster, scratch("dev-restart-clients"))
        intent_id = workspace.client.send_intent(payment.intent("worker"))
        before = identity(cluster, 1)
        killed = cluster.kill_node(1)
        cluster.wait_restarted(1, killed)
        cluster.wait_all_ready()
        assert "node-1 started again" in cluster.log_tail()
        assert identity(cluster, 1) == before
        assert workspace.node(1).get_intent(intent_id)["intent"]["intent_id"] == intent_id
        # Whole again: with any other node gone there is still a majority.
        other = cluster.kill_node(2)
        again = workspace.node(1).send_intent(payment.intent("worker"))
        assert workspace.node(3).get_intent(again)["intent"]["status"] == "DELIVERED"
        cluster.wait_restarted(2, other)
    finally:
        cluster.stop()
