"""The main job: a sender, an agent, and one record of what happened."""

from __future__ import annotations

import time

import pytest

import payment
from clients import Workspace, check_events, event_types
from cluster import LONG, until

# How long after the submit a late agent starts.
LATE_SECONDS = 20.0 if LONG else 1.5


def finished(ws: Workspace, intent_id: str, seconds: float = 60.0) -> dict:
    """Waits for the end the way a sender does, then checks the whole record."""
    terminal = ws.client.wait_for(intent_id, timeout_seconds=seconds)
    events = ws.client.list_intent_events(intent_id)["events"]
    check_events(events)
    assert events[-1] == terminal
    return terminal


def test_agent_that_was_there_before_the_submit(ws: Workspace):
    name = payment.fresh("payments")
    address, key = ws.register(name)
    agent = ws.agent(name, key=key)
    agent.wait_for("listening")
    intent_id = ws.client.send_intent(payment.intent(address))
    seen = list(ws.client.observe(intent_id, timeout_seconds=60))
    check_events(seen)
    assert event_types(seen) == ["created", "submitted", "delivered", "in_progress", "completed"]
    assert seen[-1]["details"]["result"]["order_id"] == "ORD-8842"
    agent.wait_for("resumed", intent_id=intent_id, status="COMPLETED")
    intent = ws.client.get_intent(intent_id)
    assert intent["intent"]["status"] == intent["intent"]["lifecycle_status"] == "COMPLETED"
    assert intent["intent"]["result"]["transaction_id"] == f"txn-{intent_id}"
    assert intent["intent"]["payload"] == payment.PAYLOAD
    # Examples read these at the root.
    assert intent["status"] == "COMPLETED" and intent["payload"] == payment.PAYLOAD


def test_agent_that_comes_after_the_submit(ws: Workspace):
    name = payment.fresh("payments")
    ws.register(name)
    intent_id = ws.client.send_intent(payment.intent(name))
    time.sleep(LATE_SECONDS)
    assert ws.client.get_intent(intent_id)["intent"]["status"] == "DELIVERED"
    ws.agent(name)
    assert finished(ws, intent_id)["status"] == "COMPLETED"


def test_agent_killed_with_the_work_in_hand_and_started_again(ws: Workspace):
    name = payment.fresh("payments")
    _, key = ws.register(name)
    first = ws.agent(name, "--mode", "die", key=key)
    intent_id = ws.client.send_intent(payment.intent(name))
    first.wait_for("fetched", intent_id=intent_id)
    until("the agent's death", lambda: not first.running())
    second = ws.agent(name, key=key)
    second.wait_for("delivery", intent_id=intent_id)
    assert finished(ws, intent_id)["status"] == "COMPLETED"


def test_agent_killed_between_two_intents_goes_on_after_its_cursor(ws: Workspace):
    name = payment.fresh("payments")
    cursor = str(ws.folder / "cursor")
    first = ws.agent(name, "--cursor-file", cursor)
    one = ws.client.send_intent(payment.intent(name))
    assert finished(ws, one)["status"] == "COMPLETED"
    first.wait_for("resumed", intent_id=one)
    until("the cursor file", lambda: (ws.folder / "cursor").exists())
    first.kill()
    two = ws.client.send_intent(payment.intent(name))
    second = ws.agent(name, "--cursor-file", cursor)
    assert finished(ws, two)["status"] == "COMPLETED"
    deliveries = [line["intent_id"] for line in second.journal() if line["kind"] == "delivery"]
    assert deliveries == [two], "only what came after the cursor"


def test_two_agents_on_one_address(ws: Workspace):
    name = payment.fresh("payments")
    agents = [ws.agent(name, url=ws.cluster.urls[0]), ws.agent(name, url=ws.cluster.urls[1])]
    for agent in agents:
        agent.wait_for("listening")
    ids = [ws.client.send_intent(payment.intent(name)) for _ in range(5)]
    for intent_id in ids:
        assert finished(ws, intent_id)["status"] == "COMPLETED"
    for intent_id in ids:
        # Both are told; the first result wins and the other one is refused.
        def answered() -> list[str]:
            return [
                line["kind"]
                for agent in agents
                for line in agent.journal()
                if line["kind"] in ("resumed", "conflict") and line["intent_id"] == intent_id
            ]

        until("an answer to an agent", answered)
        assert answered().count("resumed") <= 1
    resumed = [line["intent_id"] for agent in agents for line in agent.journal() if line["kind"] == "resumed"]
    assert sorted(resumed) == sorted(ids), "each was completed by one of them"
    for agent in agents:
        cursors = [line["cursor"] for line in agent.journal() if line["kind"] == "delivery"]
        assert all(later - earlier >= 2 for earlier, later in zip(cursors, cursors[1:])), cursors


def test_agent_that_reports_failure(ws: Workspace):
    name = payment.fresh("payments")
    ws.agent(name, "--mode", "fail")
    intent_id = ws.client.send_intent(payment.intent(name))
    terminal = finished(ws, intent_id)
    assert terminal["status"] == "FAILED"
    assert terminal["details"]["error"]


@pytest.mark.parametrize("node", [1, 2, 3])
def test_every_node_tells_the_same_story(ws: Workspace, node: int):
    name = payment.fresh("payments")
    ws.agent(name, url=ws.cluster.urls[node % 3])
    intent_id = ws.node(node).send_intent(payment.intent(name))
    finished(ws, intent_id)
    stories = [ws.node(n).list_intent_events(intent_id)["events"] for n in (1, 2, 3)]
    assert stories[0] == stories[1] == stories[2]


def test_an_observer_that_comes_late_or_goes_on_from_a_seq_misses_nothing(ws: Workspace):
    name = payment.fresh("payments")
    ws.agent(name)
    intent_id = ws.client.send_intent(payment.intent(name))
    finished(ws, intent_id)
    whole = list(ws.client.observe(intent_id, timeout_seconds=10))
    rest = list(ws.client.observe(intent_id, since=3, timeout_seconds=10))
    assert whole[3:] == rest
    assert ws.client.list_intent_events(intent_id, since=3)["events"] == rest


def test_completion_reaches_the_reply_to_inbox(ws: Workspace):
    name, owner = payment.fresh("payments"), payment.fresh("orders")
    reply_to, _ = ws.register(owner)
    ws.agent(name)
    intent_id = ws.client.send_intent(payment.intent(name, reply_to=reply_to))
    finished(ws, intent_id)

    def thread() -> dict | None:
        threads = ws.client.list_inbox(owner_agent=reply_to)["threads"]
        return next((t for t in threads if t["thread_id"] == intent_id), None)

    found = until("the completion thread", thread)
    assert found["status"] == "done"
    assert found["timeline"][-1]["event_type"] == "intent_completion_delivered"
    assert ws.client.get_inbox_thread(intent_id, owner_agent=reply_to)["thread"]["thread_id"] == intent_id
