"""Competing workers through stock gRPC: each item to one of them, none lost when workers or nodes die."""

from __future__ import annotations

import queue
import threading
import time

import grpc
import pytest

import native
import payment
from cluster import Cluster, until
from native import Native

common = native.messages("intent")
m = native.messages("intent_service")
agents = native.messages("agent_service")

SECONDS = 30
INTENTS = 120


class Worker:
    """Completes whatever it gets, on whatever node lets it; a broken stream is opened again at the next one."""

    def __init__(self, cluster: Cluster, agent: str, first_node: int) -> None:
        self.cluster, self.agent, self.node = cluster, agent, first_node
        self.seen: list[str] = []
        self.done: set[str] = set()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        while not self.stopping.is_set():
            api = Native(self.cluster.urls[self.node], self.cluster.key)
            try:
                self.work(api)
            except grpc.RpcError:
                self.node = (self.node + 1) % 3
                time.sleep(0.2)
            finally:
                api.close()

    def work(self, api: Native) -> None:
        says: queue.Queue = queue.Queue()
        says.put(agents.WorkRequest(open=agents.WorkOpen(agent=self.agent, lease_ms=5_000), credits=8))
        stream = api.agents.Work(iter(says.get, None))
        threading.Thread(target=lambda: (self.stopping.wait(), stream.cancel()), daemon=True).start()
        for message in stream:
            reports = [self.complete(item) for item in message.items]
            if reports:
                says.put(agents.WorkRequest(credits=len(reports), reports=reports))
            self.done.update(receipt.intent_id for receipt in message.receipts if not receipt.HasField("failure"))

    def complete(self, item):
        assert item.payload.data == b'{"order": 1}'
        self.seen.append(item.intent.intent_id)
        result = common.Payload(data=b'{"paid": true}')
        return agents.WorkReport(
            intent_id=item.intent.intent_id, fence=item.fence, complete=agents.Complete(result=result)
        )

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()


def submit(cluster: Cluster, agent: str, number: int) -> str:
    """One intent, whatever node dies meanwhile: the key makes a repeat harmless."""
    spec = m.IntentSpec(
        intent_type=payment.INTENT_TYPE,
        to_agent=agent,
        payload=common.Payload(data=b'{"order": 1}'),
        idempotency_key=f"{agent}-{number}",
        idempotency_scope=m.IDEMPOTENCY_SCOPE_RECIPIENT,
        max_delivery_attempts=20,
    )
    for attempt in range(60):
        api = Native(cluster.urls[(number + attempt) % 3], cluster.key)
        try:
            return api.intents.Submit(m.SubmitRequest(intent=spec), timeout=10).receipt.intent_id
        except grpc.RpcError as error:
            retryable = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            assert error.code() in retryable, error
            time.sleep(0.2)
        finally:
            api.close()
    raise AssertionError("no node took the intent")


def completed(cluster: Cluster, intent_id: str) -> bool:
    api = Native(cluster.urls[0], cluster.key)
    try:
        found = api.intents.GetIntent(m.GetIntentRequest(intent_id=intent_id), timeout=SECONDS)
        return found.intent.status == common.STATUS_COMPLETED
    finally:
        api.close()


def ends(cluster: Cluster, intent_id: str) -> list[str]:
    """The terminal events of an intent, from a gap-free log."""
    api = Native(cluster.urls[0], cluster.key)
    try:
        request = m.WatchRequest(intent_id=intent_id)
        events = [answer.event for answer in api.intents.Watch(request, timeout=SECONDS)]
    finally:
        api.close()
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    terminal = range(common.STATUS_COMPLETED, common.STATUS_TIMED_OUT + 1)
    return [event.event_type for event in events if event.status in terminal]


@pytest.fixture(scope="module")
def fragile():
    cluster = Cluster("work", restart=True).start()
    yield cluster
    cluster.stop()


def test_workers_compete_and_a_killed_node_loses_nothing(fragile: Cluster) -> None:
    agent = payment.fresh("worker")
    workers = [Worker(fragile, agent, node) for node in (0, 1)]
    try:
        ids = []
        for number in range(INTENTS):
            if number == INTENTS // 3:
                old = fragile.kill_node(1)
            ids.append(submit(fragile, agent, number))
        assert len(set(ids)) == INTENTS
        fragile.wait_restarted(1, old)
        fragile.wait_all_ready()
        # A receipt may have died with the node: what was not reported back is looked up.
        left = [id for id in ids if id not in workers[0].done | workers[1].done]
        until("every intent is completed", lambda: all(completed(fragile, id) for id in left), 60)
    finally:
        for worker in workers:
            worker.stop()
    for intent_id in ids:
        assert ends(fragile, intent_id) == ["intent.completed"]
    assert all(worker.seen for worker in workers), "both had a share"
    # An item comes again only when its worker or the leader may have died with it.
    assert len(workers[0].seen) + len(workers[1].seen) < 2 * INTENTS
