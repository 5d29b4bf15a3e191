"""Ways to submit, and what a retried or repeated write does."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from uuid import uuid4

import pytest
from axme_sdk.exceptions import AxmeHttpError, AxmeValidationError

import payment
from clients import Workspace, check_events, event_types, http


def test_quick_start_form_to_an_address_nobody_registered(ws: Workspace):
    to = f"agent://acme/prod/{payment.fresh('worker')}"
    intent_id = ws.client.send_intent(payment.intent(to))
    events = ws.client.list_intent_events(intent_id)["events"]
    check_events(events)
    assert event_types(events) == ["created", "submitted", "delivered"]
    assert ws.client.get_intent(intent_id)["intent"]["to_agent"] == to


@pytest.mark.parametrize("form", ["{name}", "agent://{name}", "{org}/{ws}/{name}", "agent://{org}/{ws}/{name}"])
def test_every_spelling_of_an_address_reaches_the_same_agent(ws: Workspace, form: str):
    name = payment.fresh("worker")
    address, _ = ws.register(name)
    org, workspace, _ = address.removeprefix("agent://").split("/")
    ws.agent(name)
    to = form.format(org=org, ws=workspace, name=name)
    intent_id = ws.client.send_intent(payment.intent(to))
    assert ws.client.wait_for(intent_id, timeout_seconds=30)["status"] == "COMPLETED"


def test_legacy_two_segment_address(ws: Workspace):
    to = f"agent://conformance/{payment.fresh('receiver')}"
    ws.agent(to)
    intent_id = ws.client.send_intent(payment.intent(to))
    assert ws.client.wait_for(intent_id, timeout_seconds=30)["status"] == "COMPLETED"


def test_the_answer_is_delivered_even_if_nobody_listens(ws: Workspace):
    body = payment.intent(payment.fresh("nobody"))
    answer = ws.client.create_intent(body, correlation_id=str(uuid4()))
    assert answer["ok"] is True and answer["status"] == "DELIVERED"


def test_camel_case_root_keys(ws: Workspace):
    name = payment.fresh("worker")
    with http(ws.cluster.url, ws.cluster.key) as plain:
        answer = plain.post(
            "/v1/intents",
            json={"intentType": payment.INTENT_TYPE, "toAgent": name, "payload": {"orderId": 1}, "maxDeliveryAttempts": 7},
        )
    assert answer.status_code == 200
    intent = ws.client.get_intent(answer.json()["intent_id"])["intent"]
    assert intent["max_delivery_attempts"] == 7
    assert intent["payload"] == {"orderId": 1}, "keys inside the payload are data"


def test_the_key_as_bearer_token(ws: Workspace):
    with http(ws.cluster.url, None, authorization=f"Bearer {ws.cluster.key}") as plain:
        answer = plain.post("/v1/intents", json=payment.intent(payment.fresh("worker")))
    assert answer.status_code == 200


def test_resends_with_a_key_are_one_intent_on_every_node(ws: Workspace):
    key, body = f"order-{uuid4()}", payment.intent(payment.fresh("worker"))
    correlation = str(uuid4())
    answers = [
        ws.node(n).create_intent(dict(body), correlation_id=correlation, idempotency_key=key) for n in (1, 2, 3, 1)
    ]
    assert all(answer == answers[0] for answer in answers)


def test_the_same_key_with_another_body_is_a_conflict(ws: Workspace):
    key, correlation = f"order-{uuid4()}", str(uuid4())
    first = ws.node(1).create_intent(
        payment.intent(payment.fresh("a")), correlation_id=correlation, idempotency_key=key
    )
    # Another recipient, so another group of replicas; and another node.
    with pytest.raises(AxmeValidationError) as raised:
        ws.node(2).create_intent(payment.intent(payment.fresh("b")), correlation_id=correlation, idempotency_key=key)
    assert raised.value.status_code == 409
    assert raised.value.body["detail"] == "idempotency key reused with different payload"
    assert raised.value.body["error"]["code"] == "idempotency_conflict"
    assert ws.client.get_intent(first["intent_id"])["intent"]["status"] == "DELIVERED"


def test_resolve_by_the_sender_and_a_second_end(ws: Workspace):
    intent_id = ws.client.send_intent(payment.intent(payment.fresh("worker")))
    answer = ws.client.resolve_intent(intent_id, {"status": "COMPLETED", "result": {"by": "sender"}})
    assert answer["intent"]["status"] == answer["event"]["status"] == "COMPLETED"
    assert answer["event"]["event_type"] == "intent.completed"
    assert answer["completion_delivery"]["delivered"] is False
    assert answer["completion_delivery"]["reason"] == "reply_to_not_set"
    before = ws.client.list_intent_events(intent_id)["events"]
    check_events(before)
    for node, call in (
        (1, lambda c: c.resolve_intent(intent_id, {"status": "FAILED"})),
        (2, lambda c: c.resolve_intent(intent_id, {"status": "COMPLETED", "result": {"by": "sender"}})),
        (3, lambda c: c.resume_intent(intent_id, {"approve_current_step": True})),
        (1, lambda c: c.resume_intent(intent_id, {"x": 1}, owner_agent="worker")),
        (2, lambda c: c.update_intent_controls(intent_id, {"controls_patch": {"a": 1}})),
        (3, lambda c: c.update_intent_policy(intent_id, {"grants_patch": {}})),
    ):
        with pytest.raises(AxmeValidationError) as raised:
            call(ws.node(node))
        assert raised.value.status_code == 409, raised.value.body
    assert ws.client.list_intent_events(intent_id)["events"] == before


def test_a_repeated_terminal_call_with_its_key_gets_the_first_answer(ws: Workspace):
    intent_id = ws.client.send_intent(payment.intent(payment.fresh("worker")))
    key, body = f"end-{uuid4()}", {"status": "CANCELED", "reason": "customer left"}
    first = ws.node(1).resolve_intent(intent_id, body, idempotency_key=key)
    again = ws.node(2).resolve_intent(intent_id, body, idempotency_key=key)
    assert again == first
    assert first["event"]["details"]["reason"] == "customer left"


def test_control_resume_steers_and_does_not_end(ws: Workspace):
    intent_id = ws.client.send_intent(payment.intent(payment.fresh("worker")))
    answer = ws.client.resume_intent(intent_id, {"approve_current_step": True, "reason": "go"})
    assert answer["applied"] is True and answer["policy_generation"] == 1
    assert answer["intent"]["status"] == "IN_PROGRESS"
    refused = ws.client.resume_intent(intent_id, {"approve_current_step": False})
    assert refused["applied"] is False
    changed = ws.client.update_intent_controls(
        intent_id, {"controls_patch": {"timeout_seconds": 5}, "expected_policy_generation": 1}
    )
    assert changed["policy_generation"] == 2
    with pytest.raises(AxmeHttpError) as raised:
        ws.client.update_intent_policy(
            intent_id, {"envelope_patch": {"ttl_seconds": 5}, "expected_policy_generation": 1}
        )
    assert raised.value.status_code == 409
    assert raised.value.body["error"]["code"] == "policy_generation_mismatch"
    events = ws.client.list_intent_events(intent_id)["events"]
    check_events(events)
    assert event_types(events) == ["created", "submitted", "delivered", "in_progress"]
    assert events[-1]["details"]["reason"] == "go"


def test_deadline_ends_as_timed_out(ws: Workspace):
    deadline = datetime.now(timezone.utc) + timedelta(seconds=2)
    intent_id = ws.client.send_intent(
        payment.intent(payment.fresh("worker"), deadline_at=deadline.isoformat().replace("+00:00", "Z"))
    )
    terminal = ws.client.wait_for(intent_id, timeout_seconds=30)
    assert (terminal["event_type"], terminal["status"]) == ("intent.timed_out", "TIMED_OUT")
    assert terminal["details"]["deadline_at"]
    check_events(ws.client.list_intent_events(intent_id)["events"])
    with pytest.raises(AxmeValidationError) as raised:
        ws.client.resume_intent(intent_id, {"late": True}, owner_agent="worker")
    assert raised.value.status_code == 409


def test_exhausted_attempts_end_as_failed(ws: Workspace):
    name = payment.fresh("worker")
    agent = ws.agent(name, "--mode", "ignore")
    intent_id = ws.client.send_intent(payment.intent(name, max_delivery_attempts=2))
    terminal = ws.client.wait_for(intent_id, timeout_seconds=60)
    events = ws.client.list_intent_events(intent_id)["events"]
    check_events(events)
    assert terminal["status"] == "FAILED"
    assert event_types(events)[-2:] == ["delivery_failed", "failed"]
    assert events[-2]["details"]["delivery_attempt"] == "2", "the command line reads a string"
    assert events[-2]["details"]["max_delivery_attempts"] == 2
    cursors = [line["cursor"] for line in agent.journal() if line["kind"] == "delivery"]
    assert len(cursors) == 2 and cursors[1] - cursors[0] >= 2


def test_nobody_listening_consumes_no_attempt(ws: Workspace):
    name = payment.fresh("worker")
    intent_id = ws.client.send_intent(payment.intent(name, max_delivery_attempts=1))
    with http(ws.cluster.url, ws.cluster.key) as plain:
        # A poll of an empty neighbour takes longer than the visibility timeout and is no listener here.
        plain.get(f"/v1/agents/{name}-other/intents/stream", params={"wait_seconds": 4})
    assert ws.client.get_intent(intent_id)["intent"]["status"] == "DELIVERED"
    ws.agent(name)
    assert ws.client.wait_for(intent_id, timeout_seconds=30)["status"] == "COMPLETED"
