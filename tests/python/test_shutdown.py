"""A node that is asked to stop under load: nobody is refused for good and nothing is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass, field

import httpx
import pytest

import payment
from clients import http
from cluster import Cluster, until

SUBMITTERS_PER_NODE = 2
BEFORE_SECONDS = 3.0
AFTER_SECONDS = 3.0
RETRYABLE = {429, 503, 504}


@dataclass
class Submitter:
    """Sends one intent after the other to its own node first, to the others when that does not answer."""

    urls: list[str]
    key: str
    name: str
    accepted: list[str] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    retried: int = 0
    refused: list[str] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        number = 0
        with httpx.Client(headers={"x-api-key": self.key}, timeout=10.0) as plain:
            while not stop.is_set():
                self._submit(plain, number)
                number += 1

    def _submit(self, plain: httpx.Client, number: int) -> None:
        headers = {"idempotency-key": f"{self.name}-{number}"}
        body = payment.intent(f"{self.name}-{number % 8}")
        while True:
            try:
                answer = plain.post(f"{self.urls[0]}/v1/intents", json=body, headers=headers)
            except httpx.TransportError:
                # The node is gone: as any client of several addresses would, go on with the next.
                self.urls = [*self.urls[1:], self.urls[0]]
                self.retried += 1
                continue
            if answer.status_code == 200:
                self.accepted.append(answer.json()["intent_id"])
                self.at.append(time.monotonic())
                return
            if answer.status_code not in RETRYABLE:
                self.refused.append(answer.text)
                return
            self.retried += 1

    def longest_gap_ms(self, since: float, until: float) -> float:
        """Longest time without an answer that overlaps with an interval."""
        return max(b - a for a, b in zip(self.at, self.at[1:]) if b > since and a < until) * 1000


def known(plain: httpx.Client, intent_id: str) -> bool:
    """Whether an intent exists, as soon as the node can tell."""

    def answered() -> int | None:
        status = plain.get(f"/v1/intents/{intent_id}").status_code
        assert status in (200, 404) or status in RETRYABLE, status
        return None if status in RETRYABLE else status

    return until("an answer", answered, 60) == 200


def test_a_leader_that_stops_under_load_loses_nothing(capsys: pytest.CaptureFixture):
    cluster = Cluster("shutdown").start()
    try:
        status = cluster.operator(1, "status").json()
        led = until(
            "node 1 to lead groups",
            lambda: sum(
                group["leader"] == status["node_id"] for group in cluster.operator(1, "status").json()["groups"]
            ),
        )
        stop = threading.Event()
        submitters = []
        for first in (0, 1, 2):
            order = [cluster.urls[(first + i) % 3] for i in range(3)]
            for i in range(SUBMITTERS_PER_NODE):
                submitters.append(Submitter(order, cluster.key, payment.fresh(f"stop-{first}-{i}")))
        threads = [threading.Thread(target=s.run, args=(stop,), daemon=True) for s in submitters]
        for thread in threads:
            thread.start()
        time.sleep(BEFORE_SECONDS)
        asked = time.monotonic()
        os.kill(cluster.node_pid(1), signal.SIGTERM)
        until("the node's end", lambda: "node-1 ended" in cluster.log_tail(), 60)
        time.sleep(AFTER_SECONDS)
        stop.set()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        log = cluster.node_log(1)
        assert "exit status: 0" in cluster.log_tail(), cluster.log_tail()
        assert "not every group could be handed over" not in log
        refused = [text for s in submitters for text in s.refused]
        assert refused == []
        accepted = [intent_id for s in submitters for intent_id in s.accepted]
        assert len(accepted) == len(set(accepted)), "a repeated write became another intent"
        for reader in cluster.urls[1:]:
            with http(reader, cluster.key) as plain:
                lost = [i for i in accepted if not known(plain, i)]
            assert lost == [], f"{len(lost)} of {len(accepted)} accepted intents are lost"
        end = asked + AFTER_SECONDS
        usual = max(s.longest_gap_ms(asked - BEFORE_SECONDS / 2, asked - 0.1) for s in submitters)
        leaving = max(s.longest_gap_ms(asked, end) for s in submitters[:SUBMITTERS_PER_NODE])
        staying = max(s.longest_gap_ms(asked, end) for s in submitters[SUBMITTERS_PER_NODE:])
        with capsys.disabled():
            print(
                f"\nnote: a node that led {led} groups stopped under load: {len(accepted)} submits, longest gap "
                f"{staying:.0f} ms at the other nodes, {leaving:.0f} ms for its own clients, {usual:.0f} ms before"
            )
    finally:
        cluster.stop()
