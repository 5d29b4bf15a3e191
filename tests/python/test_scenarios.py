"""Scenario bundles: one step, two steps over two agents, and bundles that cannot work."""

from __future__ import annotations

from uuid import uuid4

import pytest
from axme_sdk.exceptions import AxmeValidationError

import payment
from clients import Workspace, check_events, event_types
from cluster import until


def test_the_payment_scenario(ws: Workspace):
    name = payment.fresh(payment.AGENT)
    applied = ws.client.apply_scenario(payment.bundle(name))
    assert applied["scenario_id"] == "replacing-webhooks.demo.v1"
    assert applied["compile_id"] == applied["workflow_compile_id"]
    assert [a["role"] for a in applied["agents"]] == ["payment"]
    assert applied["agents"][0]["created"] is True
    parent_id = applied["intent_id"]
    waiting = ws.client.get_intent(parent_id)["intent"]
    assert (waiting["status"], waiting["lifecycle_waiting_reason"]) == ("WAITING", "WAITING_FOR_AGENT")
    assert waiting["pending_with"]["name"] == "Payment Service"
    step_id = until("the step intent", lambda: ws.client.get_intent(parent_id)["intent"]["steps"][0].get("intent_id"))
    agent = ws.agent(name)
    agent.wait_for("resumed", intent_id=step_id, status="COMPLETED")
    terminal = ws.client.wait_for(parent_id, timeout_seconds=60)
    assert terminal["status"] == "COMPLETED"
    assert terminal["details"]["result"]["order_id"] == "ORD-8842", "keys of the last step at the top"
    for intent_id in (parent_id, step_id):
        check_events(ws.client.list_intent_events(intent_id)["events"])
    step = ws.client.get_intent(step_id)["intent"]
    assert step["parent_intent_id"] == parent_id and step["step_id"] == "process_payment"
    assert step["payload"]["parent_payload"] == payment.PAYLOAD
    deliveries = {line["intent_id"] for line in agent.journal() if line["kind"] == "delivery"}
    assert deliveries == {step_id}, "the parent is in no mailbox"


def test_applied_twice_with_a_key_is_one_scenario(ws: Workspace):
    bundle, key = payment.bundle(payment.fresh(payment.AGENT)), f"apply-{uuid4()}"
    first = ws.node(1).apply_scenario(bundle, idempotency_key=key)
    again = ws.node(2).apply_scenario(bundle, idempotency_key=key)
    assert again["intent_id"] == first["intent_id"]
    assert (first["idempotent"], again["idempotent"]) == (False, True)


def two_steps(one: str, two: str) -> dict:
    bundle = payment.bundle(one)
    bundle["agents"].append({"role": "shipping", "address": two, "create_if_missing": True, "display_name": "Shipping"})
    bundle["workflow"]["steps"].append(
        {
            "step_id": "ship",
            "tool_id": "tool.agent.task.v1",
            "assigned_to": "shipping",
            "step_deadline_seconds": 120,
        }
    )
    return bundle


@pytest.mark.parametrize("round_number", range(3))
def test_two_steps_over_two_agents(ws: Workspace, round_number: int):
    # Addresses are drawn anew each time, so that they fall into different groups of replicas.
    one, two = payment.fresh("pay"), payment.fresh("ship")
    agents = [ws.agent(one, url=ws.cluster.urls[0]), ws.agent(two, url=ws.cluster.urls[1])]
    parent_id = ws.client.apply_scenario(two_steps(one, two))["intent_id"]
    seen = list(ws.client.observe(parent_id, timeout_seconds=60))
    check_events(seen)
    waits = [e["pending_with"]["name"] for e in seen if e["event_type"] == "intent.waiting"]
    assert waits == ["Payment Service", "Shipping"]
    assert seen[-1]["status"] == "COMPLETED"
    result = seen[-1]["details"]["result"]
    assert set(result["steps"]) == {"process_payment", "ship"}
    fetched = agents[1].wait_for("fetched")
    assert fetched["steps"]["process_payment"]["order_id"] == "ORD-8842"
    assert fetched["payload"] == payment.PAYLOAD


def test_a_failing_step_fails_the_parent(ws: Workspace):
    one, two = payment.fresh("pay"), payment.fresh("ship")
    ws.agent(one, "--mode", "fail")
    ws.agent(two)
    parent_id = ws.client.apply_scenario(two_steps(one, two))["intent_id"]
    terminal = ws.client.wait_for(parent_id, timeout_seconds=60)
    assert terminal["status"] == "FAILED"
    assert terminal["details"]["step_id"] == "process_payment"
    check_events(ws.client.list_intent_events(parent_id)["events"])


def test_a_step_deadline_fails_the_parent(ws: Workspace):
    name = payment.fresh("pay")
    parent_id = ws.client.apply_scenario(payment.bundle(name, step_deadline_seconds=2))["intent_id"]
    terminal = ws.client.wait_for(parent_id, timeout_seconds=60)
    events = ws.client.list_intent_events(parent_id)["events"]
    check_events(events)
    assert terminal["status"] == "FAILED" and terminal["details"]["reason"] == "step_timeout"
    assert event_types(events)[-2:] == ["delivery_failed", "failed"], "the step was never picked up"
    step_id = ws.client.get_intent(parent_id)["intent"]["steps"][0]["intent_id"]
    assert ws.client.get_intent(step_id)["intent"]["status"] == "TIMED_OUT"


def test_canceling_the_parent_cancels_the_open_step(ws: Workspace):
    parent_id = ws.client.apply_scenario(payment.bundle(payment.fresh("pay")))["intent_id"]
    step_id = until("the step intent", lambda: ws.client.get_intent(parent_id)["intent"]["steps"][0].get("intent_id"))
    ws.client.resolve_intent(parent_id, {"status": "CANCELED", "reason": "order withdrawn"})
    until("the step's end", lambda: ws.client.get_intent(step_id)["intent"]["status"] == "CANCELED")


BAD_BUNDLES = [
    ("scenario_id", lambda b: b.pop("scenario_id")),
    ("intent", lambda b: b.pop("intent")),
    ("type", lambda b: b["intent"].pop("type")),
    ("process_payment", lambda b: b["workflow"]["steps"].append(dict(b["workflow"]["steps"][0]))),
    ("entry_step", lambda b: b["workflow"].update(entry_step="nowhere")),
    ("on_success", lambda b: b["workflow"]["steps"][0].update(on_success="nowhere")),
    ("address", lambda b: b["agents"][0].update(address="two words")),
    ("step_deadline_seconds", lambda b: b["workflow"]["steps"][0].update(step_deadline_seconds=0)),
    ("agents", lambda b: b.update(agents=[{"role": f"r{i}", "address": f"agent-{i}"} for i in range(51)])),
]


@pytest.mark.parametrize("named,spoil", BAD_BUNDLES, ids=[b[0] for b in BAD_BUNDLES])
def test_bad_bundles_are_explained(ws: Workspace, named: str, spoil):
    bundle = payment.bundle(payment.fresh("pay"))
    spoil(bundle)
    verdict = ws.client.validate_scenario(bundle)
    assert verdict["valid"] is False and verdict["errors"]
    assert any(named in error for error in verdict["errors"]), verdict["errors"]
    with pytest.raises(AxmeValidationError) as raised:
        ws.client.apply_scenario(bundle)
    assert raised.value.status_code == 422
    assert named in raised.value.body["detail"]


def test_a_good_bundle_is_valid_and_creates_nothing(ws: Workspace):
    name = payment.fresh("pay")
    verdict = ws.client.validate_scenario(payment.bundle(name))
    assert (verdict["valid"], verdict["errors"]) == (True, [])
    agents = ws.client.list_agents(org_id=ws.cluster.org_id, workspace_id=ws.cluster.workspace_id, limit=1000)["agents"]
    assert name not in {a["service_account_name"] for a in agents}
