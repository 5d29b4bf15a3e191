"""What the envelope of an intent bounds: attempts, pauses, the time of an attempt, and the life of the intent."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any, Iterator
from uuid import uuid4

import httpx
import pytest

import payment
from clients import Workspace, event_types, http
from cluster import Cluster, scratch, until
from native import Native, messages
from receiver import Receiver

MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def bounded() -> Iterator[Cluster]:
    """Three nodes that would try a failed push again after a minute."""
    cluster = Cluster("envelope", restart=True, push_retry_schedule_ms=MINUTE_MS)
    yield cluster.start()
    cluster.stop()


@pytest.fixture
def own(bounded: Cluster, request: pytest.FixtureRequest) -> Iterator[Workspace]:
    workspace = Workspace(bounded, scratch(f"tests/{request.node.name}"))
    yield workspace
    workspace.close()


def set_envelope(own: Workspace, intent_id: str, **envelope: Any) -> dict[str, Any]:
    return own.client.update_intent_policy(intent_id, {"envelope_patch": envelope})


def events(own: Workspace, intent_id: str) -> list[dict[str, Any]]:
    return own.client.list_intent_events(intent_id)["events"]


def over(own: Workspace, intent_id: str) -> list[dict[str, Any]]:
    own.client.wait_for(intent_id, timeout_seconds=60)
    return events(own, intent_id)


def test_an_agent_that_holds_the_work_too_long_loses_it(own: Workspace):
    name = payment.fresh("holder")
    agent = own.agent(name, "--mode", "hold")
    intent_id = own.client.send_intent(payment.intent(name))
    agent.wait_for("fetched", intent_id=intent_id)
    # Somebody works on it already when the limit is set.
    changed = set_envelope(own, intent_id, execution_timeout_seconds=1, max_retry_count=1)
    assert changed["intent"]["max_delivery_attempts"] == 2
    seen = over(own, intent_id)
    assert event_types(seen)[-2:] == ["delivery_failed", "failed"]
    assert seen[-2]["details"]["delivery_attempt"] == "2"
    deliveries = [line for line in agent.journal() if line["kind"] == "delivery" and line["intent_id"] == intent_id]
    assert len(deliveries) == 2, "the first attempt and one retry"


def test_the_next_agent_gets_what_the_first_one_holds_though_the_leader_dies(own: Workspace, bounded: Cluster):
    name = payment.fresh("passed-on")
    holder = own.agent(name, "--mode", "hold")
    intent_id = own.client.send_intent(payment.intent(name))
    set_envelope(own, intent_id, execution_timeout_seconds=4)
    holder.wait_for("fetched", intent_id=intent_id)
    node = leading_node(bounded, name)
    pid = bounded.kill_node(node)
    holder.kill()
    alive = next(n for n in (1, 2, 3) if n != node)
    second = own.agent(name, url=bounded.urls[alive - 1])
    second.wait_for("resumed", seconds=60, intent_id=intent_id, status="COMPLETED")
    bounded.wait_restarted(node, pid)


def leading_node(cluster: Cluster, agent: str) -> int:
    """Number of the node that leads the agent's group: the one that names no other."""
    m = messages("agent_service")
    for number, url in enumerate(cluster.urls, 1):
        native = Native(url, cluster.key)
        try:
            _, call = native.agents.GetBacklog.with_call(m.GetBacklogRequest(agent=agent), timeout=10)
        finally:
            native.close()
        if not dict(call.initial_metadata()).get("baton-leader"):
            return number
    raise AssertionError("every node names another leader")


def test_a_worker_that_renews_its_lease_is_bounded_all_the_same(own: Workspace, bounded: Cluster):
    a, i = messages("agent_service"), messages("intent_service")
    name = payment.fresh("worker")
    native = Native(bounded.urls[0], bounded.key)
    intent_id = own.client.send_intent(payment.intent(name))
    set_envelope(own, intent_id, execution_timeout_seconds=1, max_retry_count=0)
    items: list[Any] = []

    def talk() -> Iterator[Any]:
        yield a.WorkRequest(open=a.WorkOpen(agent=name), credits=1)
        while True:
            time.sleep(0.1)
            reports = [a.WorkReport(intent_id=x.intent.intent_id, fence=x.fence, progress=a.Progress()) for x in items]
            yield a.WorkRequest(reports=reports)

    answers = native.agents.Work(talk(), timeout=60)
    for answer in answers:
        items += answer.items
        if any(receipt.failure.code for receipt in answer.receipts):
            break
    answers.cancel()
    assert event_types(over(own, intent_id))[-2:] == ["delivery_failed", "failed"]
    ended = native.intents.GetIntent(i.GetIntentRequest(intent_id=intent_id), timeout=10).intent
    assert (ended.failed_attempts, ended.max_delivery_attempts) == (1, 1)
    native.close()


def test_pauses_between_posts_follow_the_envelope(own: Workspace, bounded: Cluster):
    receiver = Receiver(answer=lambda n: 500 if n < 2 else 200)
    name = payment.fresh("paced")
    with http(bounded.url, bounded.key) as api:
        account = {"org_id": bounded.org_id, "workspace_id": bounded.workspace_id, "name": name}
        made = api.post("/v1/service-accounts", json=account).json()["service_account"]
        intent_id = own.client.send_intent(payment.intent(name))
        set_envelope(own, intent_id, retry_backoff_seconds=1)
        started = time.monotonic()
        path = f"/v1/service-accounts/{made['service_account_id']}"
        assert api.patch(path, json={"delivery_mode": "http", "callback_url": receiver.url}).status_code == 200
        acknowledged = lambda: own.client.get_intent(intent_id)["intent"]["status"] == "ACKNOWLEDGED"
        # The nodes' own ladder would take two minutes.
        until("the third post", acknowledged, 45)
    assert time.monotonic() - started >= 5, "one second, then four"
    assert [post.body["attempt"] for post in receiver.of(intent_id)] == [1, 2, 3]
    receiver.close()


def test_an_intent_lives_as_long_as_it_is_given(own: Workspace):
    name = payment.fresh("short-lived")
    soon = (datetime.now(timezone.utc) + timedelta(seconds=2)).isoformat().replace("+00:00", "Z")
    long_ago = {"ttl_seconds": 1}
    for envelope in ({"ttl_seconds": 2}, {"expires_at": soon}, {"ttl_seconds": 3600, "expires_at": soon}, long_ago):
        intent_id = own.client.send_intent(payment.intent(name))
        changed = set_envelope(own, intent_id, **envelope)
        deadline = changed["intent"]["deadline_at"]
        seen = over(own, intent_id)
        assert event_types(seen)[-1] == "timed_out"
        assert seen[-1]["details"]["deadline_at"] == deadline
        assert seen[-1]["at"] >= deadline


def test_values_have_bounds_and_changes_a_generation(own: Workspace, bounded: Cluster):
    intent_id = own.client.send_intent(payment.intent(payment.fresh("bounds")))
    with http(bounded.urls[1], bounded.key) as api:

        def policy(envelope: dict[str, Any], **more: Any) -> httpx.Response:
            return api.post(f"/v1/intents/{intent_id}/policy", json={"envelope_patch": envelope, **more})

        for wrong in (
            {"max_retry_count": -1}, {"max_retry_count": 10**6}, {"max_retry_count": 1.5}, {"max_retry_count": None},
            {"retry_backoff_seconds": 0}, {"retry_backoff_seconds": 86_401},
            {"execution_timeout_seconds": 0}, {"execution_timeout_seconds": 604_801}, {"execution_timeout_seconds": "5"},
            {"ttl_seconds": 0}, {"ttl_seconds": 10**12}, {"expires_at": "tomorrow"},
        ):
            answer = policy(wrong)
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_argument"), wrong
        assert own.client.get_intent(intent_id)["intent"]["policy_generation"] == 0
        first = policy({"max_retry_count": 0, "note": "kept"}, expected_policy_generation=0).json()
        assert first["policy_generation"] == 1
        assert first["intent"]["envelope"] == {"max_retry_count": 0, "note": "kept"}
        assert first["intent"]["max_delivery_attempts"] == 1
        late = policy({"max_retry_count": 5}, expected_policy_generation=0)
        assert late.status_code == 409 and late.json()["error"]["code"] == "policy_generation_mismatch"
        key = {"idempotency-key": str(uuid4())}
        body = {"envelope_patch": {"max_retry_count": 2}, "expected_policy_generation": 1}
        answers = [api.post(f"/v1/intents/{intent_id}/policy", json=body, headers=key) for _ in range(2)]
        assert [a.json()["policy_generation"] for a in answers] == [2, 2]
