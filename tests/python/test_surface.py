"""Small rules of the client surface that only show over HTTP: odd names, odd text, odd paths, scenario edges."""

from __future__ import annotations

import threading
import time
from uuid import uuid4

import httpx
import pytest

import payment
from cluster import until
from clients import Workspace, http


def create(plain: httpx.Client, to: str, **changes) -> str:
    answer = plain.post("/v1/intents", json={**payment.intent(to), **changes})
    assert answer.status_code == 200, answer.text
    return answer.json()["intent_id"]


def intent(plain: httpx.Client, intent_id: str) -> dict:
    return plain.get(f"/v1/intents/{intent_id}").json()["intent"]


def bundle(steps: list[dict], agents: list[dict], **changes) -> dict:
    return {
        "scenario_id": "surface.check.v1",
        "agents": agents,
        "workflow": {"steps": steps},
        "intent": {"type": payment.INTENT_TYPE, "payload": {"order": 1}},
        **changes,
    }


def test_an_agent_listens_under_the_name_it_was_registered_with(ws: Workspace):
    name = payment.fresh("Loud-Agent")
    _, key = ws.register(name)
    with http(ws.cluster.url, ws.cluster.key) as sender, http(ws.cluster.urls[1], key) as agent:
        intent_id = create(sender, name)
        for spelling in (name, name.lower(), f"agent://{name}"):
            page = agent.get(f"/v1/agents/{spelling}/intents")
            assert page.status_code == 200, page.text
            assert [i["intent_id"] for i in page.json()["intents"]] == [intent_id], spelling
        done = agent.post(f"/v1/intents/{intent_id}/resume", params={"owner_agent": name}, json={"ok": 1})
        assert done.json()["intent"]["status"] == "COMPLETED"


def test_no_account_is_the_internal_runtime(ws: Workspace):
    content = {"org_id": ws.cluster.org_id, "workspace_id": ws.cluster.workspace_id}
    with http(ws.cluster.url, ws.cluster.key) as plain:
        for name in ("agent_core", "Agent_Core", "agent://baton/default/agent_core"):
            answer = plain.post("/v1/service-accounts", json={**content, "name": name})
            assert answer.status_code == 422, answer.text


HALVES = [r'"\ud800"', r'"\udfff"', r'{"\ud800":1}', r'"\ud83d\ud83d\ude00"']


@pytest.mark.parametrize("value", HALVES)
@pytest.mark.parametrize("key", [None, "with-a-key"])
def test_half_a_surrogate_pair_is_no_text(ws: Workspace, value: str, key: str | None):
    name = payment.fresh("worker")
    headers = {} if key is None else {"idempotency-key": f"{key}-{uuid4()}"}
    with http(ws.cluster.url, ws.cluster.key) as plain:
        content = '{"intent_type":"a.b.v1","to_agent":"%s","payload":{"x":%s}}' % (name, value)
        answer = plain.post("/v1/intents", content=content, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request"), answer.text
        intent_id = create(plain, name)
        for call in ("resume", "resolve"):
            content = '{"status":"COMPLETED","result":{"x":%s}}' % value
            assert plain.post(f"/v1/intents/{intent_id}/{call}", content=content).status_code == 400
        assert intent(plain, intent_id)["status"] == "DELIVERED"


def test_a_status_filter_picks_among_open_deliveries(ws: Workspace):
    name = payment.fresh("worker")
    with http(ws.cluster.url, ws.cluster.key) as plain:
        open_id, done_id = create(plain, name), create(plain, name)
        plain.post(f"/v1/intents/{done_id}/resolve", json={"status": "COMPLETED"})

        def listed(status: str) -> list[str]:
            page = plain.get(f"/v1/agents/{name}/intents", params={"status": status})
            assert page.status_code == 200, page.text
            return [i["intent_id"] for i in page.json()["intents"]]

        assert listed("DELIVERED,CREATED") == listed("delivered") == [open_id]
        # What has ended is in no mailbox any more, so it has no cursor to be listed under.
        assert listed("IN_PROGRESS") == listed("COMPLETED") == []
        assert plain.get(f"/v1/agents/{name}/intents", params={"status": "DONE"}).status_code == 422


def test_never_is_a_deadline(ws: Workspace):
    with http(ws.cluster.url, ws.cluster.key) as plain:
        intent_id = create(plain, payment.fresh("worker"), deadline_at="9999-12-31T23:59:59Z")
        assert intent(plain, intent_id)["deadline_at"].startswith("9999-12-3")


def test_a_deadline_in_the_past_ends_the_intent(ws: Workspace):
    name = payment.fresh("worker")
    with http(ws.cluster.url, ws.cluster.key) as plain:
        intent_id = create(plain, name, deadline_at="2020-01-01T00:00:00Z", reply_to=f"{name}-replies")
        until("TIMED_OUT", lambda: intent(plain, intent_id)["status"] == "TIMED_OUT", 10)
        events = plain.get(f"/v1/intents/{intent_id}/events").json()["events"]
        assert events[-1]["event_type"] == "intent.timed_out"
        for call, content in (
            ("resume", {"x": 1}),
            ("resume", {}),
            ("resolve", {"status": "COMPLETED"}),
            ("controls", {"controls_patch": {"a": 1}}),
            ("policy", {"envelope_patch": {"a": 1}}),
        ):
            answer = plain.post(f"/v1/intents/{intent_id}/{call}", json=content)
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "intent_terminal"), call
        assert plain.get(f"/v1/agents/{name}/intents").json()["intents"] == []
        inbox = lambda: plain.get("/v1/inbox", params={"owner_agent": f"{name}-replies"}).json()["threads"]
        threads = until("the completion thread", inbox, 10)
        assert [t["thread_id"] for t in threads] == [intent_id]


PATHS = [
    ("GET", "/v1/agents/worker-one/policy", 501),
    ("GET", "/v1/agents/agent://baton/default/worker-one/receive-override", 501),
    ("GET", "/v1/usage", 501),
    ("GET", "/v1/intents/", 404),
    ("GET", f"/v1/intents/{uuid4()}/", 404),
]


@pytest.mark.parametrize("method,path,status", PATHS, ids=[p[1] for p in PATHS])
def test_what_is_not_served_is_told_apart_from_what_does_not_exist(ws: Workspace, method: str, path: str, status: int):
    with http(ws.cluster.url, ws.cluster.key) as plain:
        assert plain.request(method, path).status_code == status


def test_readers_of_whole_bodies_see_a_delivery_at_once(ws: Workspace):
    for client in ("axme-sdk-typescript/0.2.0", "axme-sdk-go/0.2.0"):
        name = payment.fresh("worker")
        _, key = ws.register(name)
        seen: list[tuple[float, str]] = []

        def listen() -> None:
            with http(ws.cluster.urls[2], key, **{"x-axme-client": client}) as agent:
                body = agent.get(f"/v1/agents/{name}/intents/stream", params={"since": 0, "wait_seconds": 15}).text
                seen.append((time.monotonic(), body))

        listener = threading.Thread(target=listen)
        listener.start()
        with http(ws.cluster.url, ws.cluster.key) as plain:
            intent_id = create(plain, name)
            listener.join()
        assert intent_id in seen[0][1] and seen[0][1].endswith("\n\n")
        # The end of a segment never moves a cursor.
        assert "id:" not in seen[0][1].split("event: stream.timeout")[1]


def test_validation_and_apply_agree(ws: Workspace):
    worker = [{"role": "w", "address": payment.fresh("worker")}]
    step = {"step_id": "one", "assigned_to": "w"}
    told = {"step_id": "two", "tool_id": "tool.internal.notification"}
    refused = {
        "agents[0].address": bundle([step], [{"role": "w", "address": "x", "create_if_missing": True}]),
        "agents[0].delivery_mode": bundle([step], [{**worker[0], "delivery_mode": "fax"}]),
        "agents[0].callback_url": bundle([step], [{**worker[0], "callback_url": "ftp://x"}]),
        "intent is required": bundle([step], worker, intent=None),
        "leads back to itself": bundle([step, {**told, "on_success": "two"}], worker),
        "agents holds 51": bundle([step], [{"role": f"r{n}", "address": f"many-{n}"} for n in range(51)]),
        "workflow.steps holds 101": bundle([{**step, "step_id": f"s{n}"} for n in range(101)], worker),
    }
    with http(ws.cluster.url, ws.cluster.key) as plain:
        for part, content in refused.items():
            judged = plain.post("/v1/scenarios/validate", json=content).json()
            assert judged["valid"] is False and len(judged["errors"]) == 1, judged
            assert part in judged["errors"][0]
            answer = plain.post("/v1/scenarios/apply", json=content)
            assert (answer.status_code, answer.json()["detail"]) == (422, judged["errors"][0])


def test_steps_have_lifecycle_statuses_only(ws: Workspace):
    first, second = payment.fresh("first"), payment.fresh("second")
    agents = [{"role": "a", "address": first}, {"role": "b", "address": second}]
    content = bundle([{"step_id": "one", "assigned_to": "a"}, {"step_id": "two", "assigned_to": "b"}], agents)
    with http(ws.cluster.url, ws.cluster.key) as plain:
        parent = plain.post("/v1/scenarios/apply", json=content).json()["intent_id"]
        steps = intent(plain, parent)["steps"]
        assert [s["status"] for s in steps] == ["DELIVERED", "CREATED"], steps
        assert steps[1]["intent_id"] is None
        canceled = plain.post(f"/v1/intents/{parent}/resolve", json={"status": "CANCELED", "reason": "enough"})
        assert canceled.status_code == 200
        step = steps[0]["intent_id"]
        until("the step's cancellation", lambda: intent(plain, step)["status"] == "CANCELED", 10)
        late = plain.post(f"/v1/intents/{step}/resume", params={"owner_agent": first}, json={"x": 1})
        assert late.status_code == 409


def test_a_step_of_the_listed_internal_runtime_does_not_wait(ws: Workspace):
    agents = [{"role": "core", "address": "agent_core", "create_if_missing": True}]
    content = bundle([{"step_id": "one", "assigned_to": "core"}], agents)
    with http(ws.cluster.url, ws.cluster.key) as plain:
        parent = plain.post("/v1/scenarios/apply", json=content).json()["intent_id"]
        until("COMPLETED", lambda: intent(plain, parent)["status"] == "COMPLETED", 10)


def test_operators_list_and_cancel_in_bulk_on_any_node(ws: Workspace):
    agent = payment.fresh("stuck")
    body = {"intent_type": "intent.stuck.v1", "to_agent": agent, "payload": {}}
    nodes = ws.cluster.urls
    with http(nodes[0], ws.cluster.key) as plain:
        made = {plain.post("/v1/intents", json=body).json()["intent_id"] for _ in range(3)}
    with http(nodes[1], ws.cluster.key) as plain:
        listed = plain.get("/v1/intents", params={"to_agent": agent, "limit": 2}).json()
        rest = plain.get("/v1/intents", params={"to_agent": agent, "cursor": listed["next_cursor"]}).json()
        assert {i["intent_id"] for i in listed["intents"] + rest["intents"]} == made
        ask = {"to_agent": agent, "older_than_hours": 0}
        assert plain.post("/v1/intents/bulk-cancel", json=ask).json()["would_cancel"] == 3
    with http(nodes[2], ws.cluster.key) as plain:
        done = plain.post("/v1/intents/bulk-cancel", json={**ask, "dry_run": False, "reason": "stuck"}).json()
        assert set(done["intent_ids"]) == made and done["canceled"] == 3
        assert {intent(plain, i)["status"] for i in made} == {"CANCELED"}


@pytest.mark.parametrize("node", [0, 1, 2])
def test_every_node_says_what_it_can_do(ws: Workspace, node: int):
    with http(ws.cluster.urls[node], ws.cluster.key) as plain:
        said = plain.get("/v1/capabilities").json()  # checked against the published schema
    assert len(said["capabilities"]) == len(set(said["capabilities"]))
    assert {"intents.create", "intents.observe", "intents.envelope", "human_tasks", "agents.push"} <= set(said["capabilities"])
    assert "intent.task.v1" in said["supported_intent_types"]
    with http(ws.cluster.urls[node], None) as nobody:
        assert nobody.get("/v1/capabilities").status_code == 401


def test_a_schema_set_on_one_node_counts_on_every_node(ws: Workspace):
    # The published schema of the answer asks for three words and a version.
    kind = f"intent.checked.{payment.fresh('x').replace('-', '_')}.v1"
    document = {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer"}}}
    new = {"semantic_type": kind, "schema_json": document, "compatibility_mode": "strict"}
    nodes = ws.cluster.urls
    with http(nodes[0], ws.cluster.key) as plain:
        stored = plain.post("/v1/schemas", json=new).json()["schema"]
    for url in nodes:
        with http(url, ws.cluster.key) as plain:
            assert plain.get(f"/v1/schemas/{kind}").json()["schema"]["schema_hash"] == stored["schema_hash"]
            body = {"intent_type": kind, "to_agent": payment.fresh("worker"), "payload": {"amount": "much"}}
            until("the schema on this node", lambda: plain.post("/v1/intents", json=body).status_code == 422, 5)
            assert plain.post("/v1/intents", json={**body, "payload": {"amount": 1}}).status_code == 200
