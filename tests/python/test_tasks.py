"""People in the loop, on three real nodes: tasks, forms, reminders, and answers while leaders die."""

from __future__ import annotations

import threading
from typing import Any
from uuid import uuid4

import httpx
import pytest
from axme_sdk.exceptions import AxmeHttpError

from clients import Workspace, check_events, event_types, http
from cluster import Cluster, group_of, leader_of, until


def asking(task: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {
        "intent_type": "deploy.approval.v1",
        "correlation_id": str(uuid4()),
        "to_agent": "agent://agent_core",
        "payload": {"build": 7},
        "human_task": {"title": "Ship build 7?", **task},
        **settings,
    }


def answered(plain: httpx.Client, intent_id: str, body: dict[str, Any]) -> httpx.Response:
    return plain.post(f"/v1/intents/{intent_id}/resume", json=body)


def tasks(plain: httpx.Client) -> set[str]:
    """Intents of all open tasks, page by page."""
    found, cursor = set(), None
    while True:
        page = plain.get("/v1/me/tasks", params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        found |= {task["intent_id"] for task in page["tasks"]}
        cursor = page.get("next_cursor")
        if cursor is None:
            return found


def events(plain: httpx.Client, intent_id: str) -> list[dict[str, Any]]:
    return plain.get(f"/v1/intents/{intent_id}/events").json()["events"]


def patiently(call, seconds: float = 20.0) -> httpx.Response:
    """Repeats a call while no leader answers it."""

    def tried() -> httpx.Response | None:
        try:
            answer = call()
        except httpx.TransportError:
            return None
        return None if answer.status_code in (429, 503, 504) else answer

    return until("an answer", tried, seconds)


def test_asked_listed_and_answered_with_the_published_client(ws: Workspace):
    body = asking({"assignees": ["ops@example.com"]})
    created = ws.client.create_intent(body, correlation_id=body["correlation_id"], idempotency_key=f"ask-{uuid4()}")
    intent_id = created["intent_id"]
    intent = ws.node(2).get_intent(intent_id)["intent"]
    assert (intent["status"], intent["lifecycle_waiting_reason"]) == ("WAITING", "WAITING_FOR_HUMAN")
    assert intent["pending_with"]["type"] == "human"
    with http(ws.cluster.urls[2], ws.cluster.key) as plain:
        assert intent_id in tasks(plain)
        ws.client.resume_intent(intent_id, {"task_result": {"outcome": "approved", "comment": "go"}})
        assert intent_id not in tasks(plain)
    terminal = ws.client.wait_for(intent_id, timeout_seconds=20)
    assert terminal["details"]["result"]["outcome"] == "approved"
    seen = ws.client.list_intent_events(intent_id)["events"]
    check_events(seen)
    assert event_types(seen)[3:] == ["waiting", "human_task_assigned", "in_progress", "completed"]
    assert seen[4]["human_task"]["title"] == "Ship build 7?"
    with pytest.raises(AxmeHttpError) as late:
        ws.client.resume_intent(intent_id, {"task_result": {"outcome": "rejected"}})
    assert late.value.status_code == 409


def test_a_wrong_form_leaves_the_task_open(ws: Workspace):
    form = {
        "type": "object",
        "required": ["approved", "grant_duration_days", "scope_confirmed"],
        "properties": {
            "approved": {"type": "boolean"},
            "grant_duration_days": {"type": "integer", "minimum": 1, "maximum": 90},
            "scope_confirmed": {"type": "boolean"},
        },
    }
    with http(ws.cluster.urls[0], ws.cluster.key) as plain:
        created = plain.post("/v1/intents", json=asking({"task_type": "form", "form_schema": form}))
        intent_id = created.json()["intent_id"]
        assert created.json()["status"] == "WAITING"
        # As the command line sends it: everything beside the outcome is text.
        wrong = {"task_result": {"outcome": "approved", "grant_duration_days": "365", "scope_confirmed": "true"}}
        refused = answered(plain, intent_id, wrong)
        assert refused.status_code == 422
        assert "grant_duration_days" in refused.json()["detail"]
        assert intent_id in tasks(plain)
        right = {"task_result": {"outcome": "approved", "grant_duration_days": "30", "scope_confirmed": "true"}}
        done = answered(plain, intent_id, right).json()
        data = done["intent"]["result"]["task_result"]["data"]
        assert data == {"approved": True, "grant_duration_days": 30, "scope_confirmed": True}


def answers_at_once(ws: Workspace) -> None:
    with http(ws.cluster.urls[0], ws.cluster.key) as plain:
        intent_id = plain.post("/v1/intents", json=asking({})).json()["intent_id"]
    start, codes = threading.Barrier(4), []

    def answer(url: str, outcome: str) -> None:
        with http(url, ws.cluster.key) as own:
            start.wait()
            codes.append((answered(own, intent_id, {"outcome": outcome}).status_code, outcome))

    threads = [
        threading.Thread(target=answer, args=(ws.cluster.urls[n % 3], outcome))
        for n, outcome in enumerate(["approved", "rejected", "approved", "rejected"])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(code for code, _ in codes) == [200, 409, 409, 409]
    won = next(outcome for code, outcome in codes if code == 200)
    with http(ws.cluster.urls[1], ws.cluster.key) as plain:
        log = events(plain, intent_id)
    check_events(log)
    assert log[-1]["details"]["result"]["outcome"] == won


def test_of_several_answers_at_once_one_wins(ws: Workspace):
    for _ in range(5):
        answers_at_once(ws)


def test_approvals_by_id(ws: Workspace):
    with http(ws.cluster.urls[0], ws.cluster.key) as plain:
        intent_id = plain.post("/v1/intents", json=asking({})).json()["intent_id"]
        for approval_id in (intent_id, str(uuid4())):
            path = f"/v1/approvals/{approval_id}/decision"
            decided = plain.post(path, json={"decision": "approve", "comment": "fine"})
            assert decided.json()["approval"]["decision"] == "approve"
            assert plain.post(path, json={"decision": "reject"}).status_code == 409
        assert plain.get(f"/v1/intents/{intent_id}").json()["result"]["outcome"] == "approved"


def test_an_inbox_approves_what_waits_for_its_owner(ws: Workspace):
    owner = f"desk-{uuid4().hex[:8]}"
    body = asking({}) | {"to_agent": owner, "from_agent": f"asks-{owner}"}
    thread_id = ws.client.create_intent(body, correlation_id=body["correlation_id"])["intent_id"]
    other = ws.node(2)
    message = ws.client.reply_inbox_thread(thread_id, message="which build?", owner_agent=owner)["thread"]["timeline"][-1]
    asked = until("the message", lambda: other.list_inbox(owner_agent=f"asks-{owner}")["threads"])
    assert asked[0]["timeline"][-1]["event_id"] == message["event_id"]
    approved = other.approve_inbox_thread(thread_id, {"comment": "go"}, owner_agent=owner)["thread"]
    assert approved["status"] == "done"
    assert ws.client.get_intent(thread_id)["result"]["outcome"] == "approved"
    deleted = other.delete_inbox_messages(thread_id, {"mode": "both", "limit": 5}, owner_agent=owner)
    assert deleted["message_ids"] == [message["event_id"]]
    changes = ws.client.list_inbox_changes(owner_agent=owner)
    assert [change["thread"]["thread_id"] for change in changes["changes"]] == [thread_id]
    assert ws.client.list_inbox_changes(owner_agent=owner, cursor=changes["next_cursor"])["changes"] == []


def test_only_who_is_asked_answers(ws: Workspace):
    _, boss = ws.register(f"boss-{uuid4().hex[:8]}")
    address, named = ws.register(f"named-{uuid4().hex[:8]}")
    with http(ws.cluster.urls[0], ws.cluster.key) as plain:
        intent_id = plain.post("/v1/intents", json=asking({"assignees": [address]})).json()["intent_id"]
    for key, code, listed in ((boss, 404, False), (named, 200, True)):
        with http(ws.cluster.urls[1], key) as own:
            assert (intent_id in tasks(own)) == listed
            assert answered(own, intent_id, {"outcome": "approved"}).status_code == code


def test_leaders_die_while_people_are_asked():
    """Reminders come on time and once each, and an answer arrives, although the leader of the intent is killed."""
    cluster = Cluster("tasks", restart=True).start()
    try:
        with http(cluster.urls[0], cluster.key) as plain:
            reminded = plain.post(
                "/v1/intents",
                json=asking(
                    {"assignees": ["ops"]},
                    remind_after_seconds=1,
                    remind_interval_seconds=1,
                    max_reminders=3,
                    escalate_to="boss",
                ),
            ).json()["intent_id"]
        victim = leader_of(cluster, group_of(reminded))
        others = [n for n in (1, 2, 3) if n != victim]
        old = cluster.kill_node(victim)
        with http(cluster.urls[others[0] - 1], cluster.key) as plain:

            def log() -> list[dict[str, Any]]:
                return patiently(lambda: plain.get(f"/v1/intents/{reminded}/events")).json()["events"]

            until("the escalation", lambda: "escalated" in event_types(log()), 20)
            seen = log()
            check_events(seen)
            assert event_types(seen)[5:] == ["reminder", "reminder", "reminder", "escalated"]
            assert [e["details"].get("remind_count") for e in seen[5:8]] == [1, 2, 3]
            assert seen[-1]["details"]["escalated_to"] == "boss"
            intent = plain.get(f"/v1/intents/{reminded}").json()["intent"]
            assert (intent["remind_count"], intent["status"]) == (3, "WAITING")

            cluster.wait_restarted(victim, old)
            leader = leader_of(cluster, group_of(reminded), others[0])
            asked = next(n for n in (1, 2, 3) if n != leader)
            cluster.kill_node(leader)
        with http(cluster.urls[asked - 1], cluster.key, **{"idempotency-key": "answer-1"}) as plain:
            body = {"task_result": {"outcome": "approved"}}
            done = patiently(lambda: answered(plain, reminded, body))
            assert done.status_code == 200, done.text
            again = patiently(lambda: answered(plain, reminded, body))
            assert again.json()["event"] == done.json()["event"], "the same call is one answer"
            final = patiently(lambda: plain.get(f"/v1/intents/{reminded}/events")).json()["events"]
            check_events(final)
            assert event_types(final)[-2:] == ["in_progress", "completed"]
    finally:
        cluster.stop()
