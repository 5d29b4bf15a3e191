"""Every bundle of `bundles/`, applied on three nodes with the published client and driven to the end it must have."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from axme_sdk.exceptions import AxmeHttpError, AxmeValidationError

import payment
from clients import TERMINAL, Workspace, check_events, client, event_types, http
from cluster import Cluster, until

BUNDLES = Path(__file__).resolve().parent / "bundles"


def load(name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """A bundle whose agents no other test uses, and their addresses by role."""
    bundle = json.loads((BUNDLES / f"{name}.json").read_text())
    for agent in bundle["agents"]:
        agent["address"] = payment.fresh(agent["address"])
    return bundle, {agent["role"]: agent["address"] for agent in bundle["agents"]}


class Run:
    """One applied bundle."""

    def __init__(self, ws: Workspace, name: str, callback_url: str | None = None, **intent: Any) -> None:
        self.ws = ws
        bundle, self.addresses = load(name)
        bundle["intent"].update(intent)
        if callback_url is not None:
            bundle["agents"][0]["callback_url"] = callback_url
        verdict = ws.client.validate_scenario(bundle)
        assert (verdict["valid"], verdict["errors"]) == (True, []), verdict
        self.applied = ws.client.apply_scenario(bundle)
        self.id = self.applied["intent_id"]

    def intent(self) -> dict[str, Any]:
        return self.ws.client.get_intent(self.id)["intent"]

    def events(self) -> list[dict[str, Any]]:
        return self.ws.client.list_intent_events(self.id)["events"]

    def waits_for(self, who: str) -> dict[str, Any]:
        def waiting() -> dict[str, Any] | None:
            intent = self.intent()
            assert intent["status"] not in TERMINAL, intent
            return intent if intent["lifecycle_waiting_reason"] == f"WAITING_FOR_{who}" else None

        return until(f"waiting for {who}", waiting)

    def answer(self, outcome: str, **more: Any) -> dict[str, Any]:
        return self.ws.client.resume_intent(self.id, {"task_result": {"outcome": outcome, **more}})

    def end(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The terminal event, and all events once they have been checked."""
        self.ws.client.wait_for(self.id, timeout_seconds=30)
        events = self.events()
        check_events(events)
        return events[-1], events


def waits(events: list[dict[str, Any]]) -> list[str]:
    return [e["waiting_reason"].removeprefix("WAITING_FOR_") for e in events if e["event_type"] == "intent.waiting"]


def statuses(intent: dict[str, Any]) -> dict[str, str]:
    return {step["step_id"]: step["status"] for step in intent["steps"]}


def test_one_agent(ws: Workspace):
    run = Run(ws, "one-agent")
    ws.agent(run.addresses["worker"])
    last, events = run.end()
    assert last["status"] == "COMPLETED"
    assert last["details"]["result"]["order_id"] == "ORD-8842"
    assert waits(events) == ["AGENT"]


@pytest.mark.parametrize("outcome,status", [("approved", "COMPLETED"), ("rejected", "FAILED")])
def test_an_agent_then_a_person(ws: Workspace, outcome: str, status: str):
    run = Run(ws, "agent-then-human")
    ws.agent(run.addresses["worker"])
    waiting = run.waits_for("HUMAN")
    assert waiting["pending_with"] == {"type": "human", "ref": "approver@example.com", "name": "Approver"}
    assert waiting["current_step"] == "approve"
    assert statuses(waiting) == {"prepare": "COMPLETED", "approve": "WAITING"}
    run.answer(outcome, comment="looked at it")
    last, events = run.end()
    assert last["status"] == status
    assert waits(events) == ["AGENT", "HUMAN"]
    if outcome == "rejected":
        assert last["details"]["reason"] == "rejected" and last["details"]["step_id"] == "approve"
        assert last["details"]["error"]["outcome"] == "rejected"
    else:
        result = last["details"]["result"]
        assert result["steps"]["prepare"]["order_id"] == "ORD-8842" and result["outcome"] == "approved"


def test_two_agents_then_a_person(ws: Workspace):
    run = Run(ws, "two-agents-then-human")
    for address in run.addresses.values():
        ws.agent(address)
    run.waits_for("HUMAN")
    run.answer("approved")
    last, events = run.end()
    assert last["status"] == "COMPLETED"
    holders = [e["pending_with"]["name"] for e in events if e["event_type"] == "intent.waiting"]
    assert holders == ["Checker Agent", "Pricer Agent", "Approver"]
    assigned = next(e for e in events if e["event_type"] == "intent.human_task_assigned")
    assert assigned["human_task"]["notify_email"] == "approver@example.com"


def test_an_agent_then_a_form(ws: Workspace):
    run = Run(ws, "agent-then-form")
    ws.agent(run.addresses["worker"])
    run.waits_for("HUMAN")
    with pytest.raises(AxmeValidationError) as refused:
        run.answer("approved", data={"grant_duration_days": 500, "scope_confirmed": True})
    assert refused.value.status_code == 422
    assert run.intent()["status"] == "WAITING"
    run.answer("approved", data={"grant_duration_days": "30", "scope_confirmed": "true"})
    last, _ = run.end()
    assert last["status"] == "COMPLETED"


def test_a_person_alone(ws: Workspace):
    run = Run(ws, "human-only")
    assert run.applied["status"] == "WAITING" and run.applied["pending_with"] == "approver@example.com"
    with pytest.raises(AxmeValidationError):
        run.answer("perhaps")
    run.answer("approved")
    last, _ = run.end()
    assert last["status"] == "COMPLETED" and last["details"]["result"]["outcome"] == "approved"


def test_a_delay_between_two_agents(ws: Workspace):
    run = Run(ws, "delay")
    ws.agent(run.addresses["worker"])
    waiting = run.waits_for("TIME")
    assert waiting["pending_with"] == {"type": "internal", "ref": "agent_core", "name": "agent_core"}
    last, events = run.end()
    assert last["status"] == "COMPLETED"
    check_delay(events)
    assert set(last["details"]["result"]["steps"]) == {"before", "pause", "after"}


def check_delay(events: list[dict[str, Any]]) -> None:
    assert waits(events) == ["AGENT", "TIME", "AGENT"]
    paused = next(n for n, e in enumerate(events) if e["waiting_reason"] == "WAITING_FOR_TIME")
    # In cluster time: whatever happens to nodes, it is never too early.
    assert events[paused + 1]["at"] >= events[paused]["details"]["due_at"]


def test_notifications_on_the_way(ws: Workspace):
    run = Run(ws, "notifications")
    ws.agent(run.addresses["worker"])
    run.waits_for("HUMAN")
    run.answer("approved")
    last, events = run.end()
    assert last["status"] == "COMPLETED"
    told = [e["details"]["notification"] for e in events if "notification" in e["details"]]
    assert [n["subject"] for n in told] == [f"Waiting for {run.id}", f"Decided {run.id}"]
    assert {n["body"] for n in told} == {f"Details: {run.id}"}


def test_reminders_end_in_an_escalation(ws: Workspace):
    run = Run(ws, "reminders-then-escalation")

    def escalated() -> dict[str, Any] | None:
        return next((e for e in run.events() if e["event_type"] == "intent.escalated"), None)

    event = until("the escalation", escalated)
    assert event["details"]["escalated_to"] == "backup@example.com"
    run.answer("approved")
    last, events = run.end()
    assert last["status"] == "COMPLETED"
    assert [t for t in event_types(events) if t in ("reminder", "escalated")] == ["reminder", "reminder", "escalated"]


def test_reminders_that_nobody_hears(ws: Workspace):
    run = Run(ws, "reminders-then-timeout")
    last, events = run.end()
    assert event_types(events).count("reminder") == 3
    assert (last["status"], last["details"]["reason"]) == ("FAILED", "step_timeout")
    assert statuses(run.intent()) == {"approve": "TIMED_OUT"}


def test_nobody_listens(ws: Workspace):
    last, events = Run(ws, "nobody-listens").end()
    assert last["status"] == "FAILED"
    assert event_types(events)[-2:] == ["delivery_failed", "failed"]


def test_a_silent_agent(ws: Workspace):
    deadline = datetime.now(timezone.utc) + timedelta(seconds=4)
    run = Run(ws, "silent-agent", deadline_at=deadline.isoformat())
    ws.agent(run.addresses["worker"], "--mode", "ignore")
    last, _ = run.end()
    assert last["status"] == "TIMED_OUT"
    step_id = run.intent()["steps"][0]["intent_id"]
    for intent_id in (run.id, step_id):
        until("the end of the step", lambda: ws.client.get_intent(step_id)["intent"]["status"] == "CANCELED")
        with pytest.raises(AxmeHttpError) as refused:
            ws.client.resume_intent(intent_id, {"late": True}, owner_agent=run.addresses["worker"])
        assert refused.value.status_code == 409


def test_a_direct_intent_with_a_reply(ws: Workspace):
    owner = payment.fresh("requester")
    run = Run(ws, "direct-with-reply", reply_to=owner)
    ws.agent(run.addresses["worker"])
    last, _ = run.end()
    assert last["status"] == "COMPLETED"

    def thread() -> dict[str, Any] | None:
        threads = ws.client.list_inbox(owner_agent=owner)["threads"]
        return next((t for t in threads if t["intent_id"] == run.id), None)

    found = until("the completion", thread)
    assert found["status"] == "done"
    assert [e["event_type"] for e in found["timeline"]] == ["intent_completion_delivered"]


def test_an_approval_that_is_refused_leads_around(ws: Workspace):
    run = Run(ws, "approval-with-retry")
    assert any("workflow_loop" in warning for warning in run.applied["warnings"])
    ws.agent(run.addresses["worker"])
    run.waits_for("HUMAN")
    run.answer("rejected")
    until("the second draft", lambda: waits(run.events()) == ["AGENT", "HUMAN", "TIME", "AGENT", "HUMAN"])
    run.answer("approved")
    last, events = run.end()
    assert last["status"] == "COMPLETED"
    assert waits(events)[-1] == "AGENT", "the last step went to the agent"


def test_canceling_closes_the_question(ws: Workspace):
    run = Run(ws, "human-only")
    ws.client.resolve_intent(run.id, {"status": "CANCELED", "reason": "no longer needed"})
    last, _ = run.end()
    assert last["status"] == "CANCELED"
    assert statuses(run.intent()) == {"decide": "CANCELED"}
    with pytest.raises(AxmeHttpError) as refused:
        run.answer("approved")
    assert refused.value.status_code == 409


def test_every_bundle_is_driven_here():
    source = Path(__file__).read_text()
    for file in BUNDLES.glob("*.json"):
        assert f'"{file.stem}"' in source, file.name


@pytest.fixture(scope="module")
def own():
    """A cluster whose nodes may be killed and which tries endpoints again soon."""
    cluster = Cluster("scenario-bundles", restart=True, push_retry_schedule_ms="200,300").start()
    workspace = Workspace(cluster, cluster.directory)
    yield workspace
    workspace.close()
    cluster.stop()


class Endpoint(BaseHTTPRequestHandler):
    """Answers every delivery with 500."""

    hits: list[str] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.hits.append(self.path)
        self.send_error(500)

    def log_message(self, *_: Any) -> None:
        pass


def test_an_endpoint_that_fails_uses_up_its_attempts(own: Workspace):
    endpoint = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=endpoint.serve_forever, daemon=True).start()
    try:
        run = Run(own, "failing-endpoint", callback_url=f"http://127.0.0.1:{endpoint.server_port}/deliveries")
        last, events = run.end()
    finally:
        endpoint.shutdown()
    assert Endpoint.hits == ["/deliveries"] * 3
    assert (last["status"], last["details"]["reason"]) == ("FAILED", "delivery_failed")
    failed = events[-2]
    assert failed["event_type"] == "intent.delivery_failed"
    assert failed["details"]["delivery_attempt"] == "3"
    with http(own.cluster.url, own.cluster.key) as plain:
        dead = plain.get("/v1/deliveries", params={"status": "dead_lettered"}).json()["deliveries"]
    step_id = run.intent()["steps"][0]["intent_id"]
    assert [(d["attempts"], d["last_status"]) for d in dead if d["intent_id"] == step_id] == [(3, 500)]


def test_a_delay_outlives_its_leader(own: Workspace):
    cluster = own.cluster
    run = Run(own, "delay")
    agent = own.agent(run.addresses["worker"])
    run.waits_for("TIME")
    leader = leader_of(cluster, run.id)
    killed = cluster.kill_node(leader)
    survivor = client(cluster.urls[leader % 3], cluster.key)
    # The published client ends when its node does; its supervisor starts it on another one.
    agent.kill()
    own.agent(run.addresses["worker"], url=cluster.urls[leader % 3])

    def ended() -> bool:
        try:
            return survivor.get_intent(run.id)["intent"]["status"] in TERMINAL
        except (AxmeHttpError, httpx.TransportError):
            # No leader yet.
            return False

    until("the end", ended, 30)
    events = survivor.list_intent_events(run.id)["events"]
    check_events(events)
    check_delay(events)
    assert events[-1]["status"] == "COMPLETED"
    cluster.wait_restarted(leader, killed)


def leader_of(cluster: Cluster, intent_id: str) -> int:
    """Number of the node that leads the intent's group: twelve bits of the id are its slot."""
    status = cluster.operator(1, "status").json()
    slot = int(intent_id.split("-")[2][1:], 16)
    group = 1 + slot * status["shard_groups"] // 4096
    leader = next(g["leader"] for g in status["groups"] if g["group"] == group)
    return next(n for n in (1, 2, 3) if cluster.operator(n, "status").json()["node_id"] == leader)
