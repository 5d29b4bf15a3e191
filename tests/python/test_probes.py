"""What a node says about itself while something is wrong: not ready, and nothing that restarting it would cure."""

from __future__ import annotations

import os
import signal
import socket
from typing import Iterator

import httpx
import pytest

from cluster import Cluster, ready, until


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    cluster = Cluster("probes", restart=True).start()
    yield cluster
    cluster.stop()


def failing(cluster: Cluster, node: int, page: str) -> set[str]:
    """Names of the checks that fail; empty when the page says 200."""
    answer = cluster.operator(node, page)
    assert answer.status_code in (200, 503), answer.text
    names = {check["name"] for check in answer.json()["checks"] if not check["ok"]}
    assert bool(names) == (answer.status_code == 503), answer.text
    return names


def live(cluster: Cluster, node: int) -> bool:
    client = httpx.get(f"{cluster.urls[node - 1]}/livez", timeout=5.0).status_code
    return client == 200 and failing(cluster, node, "livez") == set()


def test_alone_a_node_is_not_ready_but_live_and_so_is_one_that_cannot_recover(own: Cluster):
    others = [own.node_pid(node) for node in (2, 3)]
    try:
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        until("an unconfirmed meta replica", lambda: "meta" in failing(own, 1, "readyz"))
        assert not ready(own.urls[0])
        assert failing(own, 1, "readyz") <= {"meta", "leaders"}
        assert live(own, 1)
        assert failing(own, 1, "startupz") == set()

        killed = own.kill_node(1)

        def recovering() -> bool:
            try:
                return own.node_pid(1) != killed and failing(own, 1, "readyz") == {"recovery"}
            except (OSError, ValueError, httpx.HTTPError):
                return False

        until("a node that recovers", recovering, 60)
        assert failing(own, 1, "startupz") == {"recovery"}
        assert not ready(own.urls[0])
        assert live(own, 1)
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)
    for node in (1, 2, 3):
        until(f"node {node} to be ready", lambda: failing(own, node, "readyz") == set(), 60)
        assert live(own, node)


def test_a_node_that_shuts_down_says_so_before_it_is_gone(own: Cluster):
    own.wait_all_ready()
    url = httpx.URL(own.urls[0])
    pid = own.node_pid(1)
    with socket.create_connection((url.host, url.port)) as slow:
        # A request in flight keeps the node from ending.
        head = f"POST /v1/intents HTTP/1.1\r\nhost: x\r\nx-api-key: {own.key}\r\ncontent-length: 100\r\n\r\n{{"
        slow.sendall(head.encode())
        until("the request to arrive", lambda: open_connections(own) > 0)
        os.kill(pid, signal.SIGTERM)
        until("draining", lambda: failing(own, 1, "readyz") == {"accepting"}, 5, every=0.01)
        assert failing(own, 1, "livez") == set()
        assert failing(own, 1, "startupz") == set()
    own.wait_restarted(1, pid)


def open_connections(cluster: Cluster) -> int:
    count = 0
    for line in cluster.operator(1, "metrics").text.splitlines():
        if line.startswith("baton_gateway_connections_open{"):
            count += int(float(line.split()[-1]))
    return count
