"""Whatever is malformed, too large, unauthenticated or not theirs gets a clear refusal and changes nothing."""

from __future__ import annotations

import json
from uuid import uuid4

import httpx
import pytest

import payment
from clients import Workspace, http

TO = "nobody-listens-here"
# A field is wrong: the catalogue has a code for documents and one for single arguments.
FIELD = ("schema_invalid", "invalid_argument")


def body(**changes) -> bytes:
    return json.dumps({**payment.intent(TO), **changes}).encode()


def deep(levels: int) -> bytes:
    nested = b'{"a":' * levels + b"1" + b"}" * levels
    return body().removesuffix(b"}") + b',"extra":' + nested + b"}"


# What is sent to POST /v1/intents, the status, and the code.
CREATE = [
    ("no JSON", b"{", 400, "bad_request"),
    ("empty body", b"", 422, FIELD),
    ("not UTF-8", b'{"intent_type":"\xff\xfe"}', 400, "bad_request"),
    ("raw NUL in a string", body().replace(b"ORD", b"O\x00D"), 400, "bad_request"),
    ("two documents", body() + b"{}", 400, "bad_request"),
    ("an array", b"[]", 422, FIELD),
    ("null", b"null", 422, FIELD),
    ("a number", b"7", 422, FIELD),
    ("too deep", deep(2_000), (400, 422), None),
    ("far too deep", deep(15_000), (400, 422), None),
    ("too large", body(payload={"x": "y" * 131_072}), 413, "payload_too_large"),
    ("no intent type", body(intent_type=None), 422, FIELD),
    ("intent type of another kind", body(intent_type=7), 422, FIELD),
    ("intent type without a form", body(intent_type="Not A Type"), 422, FIELD),
    ("payload is a list", body(payload=[1]), 422, FIELD),
    ("payload is text", body(payload="x"), 422, FIELD),
    ("recipient is a number", body(to_agent=5), 422, None),
    ("recipient is empty", body(to_agent=""), 422, "invalid_agent_address"),
    ("recipient has a blank", body(to_agent="two words"), 422, "invalid_agent_address"),
    ("recipient has a NUL", body(to_agent="a\u0000b"), 422, "invalid_agent_address"),
    ("recipient is too long", body(to_agent="x" * 384), 422, "invalid_agent_address"),
    ("no recipient", json.dumps({"intent_type": payment.INTENT_TYPE, "payload": {}}).encode(), 422, "invalid_agent_address"),
    ("correlation id is no UUID", body(correlation_id="one"), 422, FIELD),
    ("deadline is no instant", body(deadline_at="tomorrow"), 422, FIELD),
    ("attempts are negative", body(max_delivery_attempts=-1), 422, FIELD),
    ("attempts are a fraction", body(max_delivery_attempts=1.5), 422, FIELD),
    ("attempts do not fit", body(max_delivery_attempts=10**30), 422, FIELD),
    ("reminder is text", body(remind_after_seconds="soon"), 422, FIELD),
    ("reply_to is too long", body(reply_to="x" * 384), 422, "invalid_agent_address"),
]


def refused(answer: httpx.Response, status, code) -> None:
    wanted = status if isinstance(status, tuple) else (status,)
    assert answer.status_code in wanted, answer.text[:500]
    document = answer.json()
    if code is not None:
        codes = code if isinstance(code, tuple) else (code,)
        assert document["error"]["code"] in codes, document
    message = document["error"]["message"]
    assert message == document["detail"] and "\n" not in message
    for leak in ("panic", "crates/", ".rs:", "openraft", "sled"):
        assert leak not in answer.text


@pytest.mark.parametrize("what,content,status,code", CREATE, ids=[c[0] for c in CREATE])
def test_create_refuses(ws: Workspace, what: str, content: bytes, status, code):
    with http(ws.cluster.url, ws.cluster.key) as plain:
        refused(plain.post("/v1/intents", content=content), status, code)
        mailbox = plain.get(f"/v1/agents/{TO}/intents").json()
    assert mailbox["intents"] == []


def test_idempotency_keys_have_a_length(ws: Workspace):
    with http(ws.cluster.url, ws.cluster.key) as plain:
        refused(plain.post("/v1/intents", content=body(), headers={"idempotency-key": "k" * 256}), 422, None)
        good = json.dumps(payment.intent(payment.fresh("worker")))
        assert plain.post("/v1/intents", content=good, headers={"idempotency-key": uuid4().hex * 7}).status_code == 200


def test_a_refused_write_does_not_use_up_its_key(ws: Workspace):
    headers = {"idempotency-key": f"k-{uuid4()}"}
    with http(ws.cluster.url, ws.cluster.key) as plain:
        refused(plain.post("/v1/intents", content=body(payload=[1]), headers=headers), 422, None)
        good = json.dumps(payment.intent(payment.fresh("worker")))
        assert plain.post("/v1/intents", content=good, headers=headers).status_code == 200


def test_odd_data_in_a_payload_is_data(ws: Workspace):
    odd = {"nul": "a\u0000b", "line": "\u2028\u2029\u0085", "pair": "\U0001f600", "big": 2**60, "": [None, True, 0.1]}
    name = payment.fresh("worker")
    intent_id = ws.client.send_intent({**payment.intent(name), "payload": odd})
    assert ws.client.get_intent(intent_id)["intent"]["payload"] == odd
    agent = ws.agent(name)
    assert agent.wait_for("fetched", intent_id=intent_id)["payload"] == odd
    assert ws.client.wait_for(intent_id, timeout_seconds=30)["status"] == "COMPLETED"


UNKNOWN_ID = "018f4e9e-3c5a-8a5b-9c1d-1d2e3f4a5b6c"
# Method, path, body, status, code; all with a valid key.
ROUTES = [
    ("GET", f"/v1/intents/{UNKNOWN_ID}", None, 404, "not_found"),
    ("GET", f"/v1/intents/{UNKNOWN_ID}/events", None, 404, "not_found"),
    ("GET", f"/v1/intents/{UNKNOWN_ID}/events/stream", None, 404, "not_found"),
    ("POST", f"/v1/intents/{UNKNOWN_ID}/resolve", {"status": "COMPLETED"}, 404, "not_found"),
    ("POST", f"/v1/intents/{UNKNOWN_ID}/resume", {"x": 1}, 404, "not_found"),
    ("GET", "/v1/intents/not-a-uuid", None, (404, 422), None),
    ("GET", f"/v1/intents/{uuid4()}", None, 404, "not_found"),
    ("GET", "/v1/nothing", None, 404, "not_found"),
    ("PUT", "/v1/intents", {}, 405, "method_not_allowed"),
    ("GET", "/v1/agents/nobody-registered-this", None, 404, "agent_not_found"),
    ("GET", "/v1/agents/a%00b/intents/stream", None, 422, "invalid_agent_address"),
    ("GET", "/v1/agents/x/intents/stream?since=-1", None, 422, None),
    ("GET", "/v1/agents/x/intents/stream?since=one", None, 422, None),
    ("GET", "/v1/service-accounts/nobody", None, 404, None),
    ("GET", f"/v1/agents?org_id={UNKNOWN_ID}&workspace_id={UNKNOWN_ID}", None, (403, 404), None),
]


@pytest.mark.parametrize("method,path,content,status,code", ROUTES, ids=[f"{r[0]} {r[1]}" for r in ROUTES])
def test_routes_refuse(ws: Workspace, method: str, path: str, content, status, code):
    with http(ws.cluster.url, ws.cluster.key) as plain:
        refused(plain.request(method, path, json=content), status, code)


RESOLVES = [
    ("no status", {}, 422),
    ("unknown status", {"status": "DONE"}, 422),
    ("two Ls", {"status": "CANCELLED"}, 422),
    ("not for callers", {"status": "TIMED_OUT"}, 422),
    ("not an end", {"status": "IN_PROGRESS"}, 422),
    ("reason too long", {"status": "FAILED", "reason": "x" * 2_001}, 422),
    ("not an object", [1], 422),
]


def test_calls_on_an_intent_refuse_and_change_nothing(ws: Workspace):
    intent_id = ws.client.send_intent(payment.intent(payment.fresh("worker")))
    before = ws.client.get_intent(intent_id)
    with http(ws.cluster.url, ws.cluster.key) as plain:
        for what, content, status in RESOLVES:
            answer = plain.post(f"/v1/intents/{intent_id}/resolve", json=content)
            assert answer.status_code == status, (what, answer.text)
        for path, content in (("controls", {}), ("policy", {}), ("controls", {"controls_patch": 3})):
            refused(plain.post(f"/v1/intents/{intent_id}/{path}", json=content), 422, None)
        both = plain.post(
            f"/v1/intents/{intent_id}/resolve?owner_agent=a-one",
            json={"status": "COMPLETED"},
            headers={"x-owner-agent": "b-two"},
        )
        refused(both, 400, "owner_scope_conflict")
        for since in ("-1", "x", "1.5"):
            refused(plain.get(f"/v1/intents/{intent_id}/events", params={"since": since}), 422, None)
    assert ws.client.get_intent(intent_id) == before


KEYS = [
    ("none", {}, "missing_platform_api_key"),
    ("empty header", {"x-api-key": ""}, None),
    ("empty bearer", {"authorization": ""}, "missing_platform_api_key"),
    ("nonsense", {"x-api-key": "secret"}, "invalid_platform_api_key"),
    ("unknown", {"x-api-key": "axme_sa_nobody_0000000000000000000000000000"}, "invalid_platform_api_key"),
    ("unknown bearer", {"authorization": "Bearer axme_sa_nobody_00000000000000000000"}, "invalid_platform_api_key"),
    ("long", {"x-api-key": "axme_sa_" + "x" * 5_000}, "invalid_platform_api_key"),
]


@pytest.mark.parametrize("what,headers,code", KEYS, ids=[k[0] for k in KEYS])
def test_without_a_valid_key(ws: Workspace, what: str, headers: dict, code):
    name = payment.fresh("worker")
    with http(ws.cluster.url, None, **headers) as plain:
        refused(plain.post("/v1/intents", json=payment.intent(name)), 401, code)
        refused(plain.get(f"/v1/agents/{name}/intents/stream"), 401, code)
        assert plain.get("/health").status_code == 200, "health needs no key"


def test_an_agent_key_is_for_its_own_address(ws: Workspace):
    mine, theirs = payment.fresh("mine"), payment.fresh("theirs")
    _, my_key = ws.register(mine)
    ws.register(theirs)
    intent_id = ws.client.send_intent(payment.intent(theirs))
    with http(ws.cluster.urls[1], my_key) as plain:
        assert plain.get(f"/v1/agents/{mine}/intents").status_code == 200
        refused(plain.get(f"/v1/agents/{theirs}/intents/stream"), 403, None)
        refused(plain.get(f"/v1/intents/{intent_id}"), 404, "not_found")
        refused(plain.get(f"/v1/intents/{intent_id}/events/stream"), 404, "not_found")
        for call, content in (("resume", {"x": 1}), ("resolve", {"status": "COMPLETED"})):
            answer = plain.post(f"/v1/intents/{intent_id}/{call}", json=content)
            refused(answer, (403, 404), None)
    assert ws.client.get_intent(intent_id)["intent"]["status"] == "DELIVERED"


def test_a_revoked_key_stops_on_every_node(ws: Workspace):
    from cluster import until

    name = payment.fresh("worker")
    account = ws.client.create_service_account(
        {"org_id": ws.cluster.org_id, "workspace_id": ws.cluster.workspace_id, "name": name}
    )["service_account"]
    key = ws.client.create_service_account_key(account["service_account_id"], {})["key"]

    def status(url: str) -> int:
        with http(url, key["token"]) as plain:
            return plain.get("/v1/me").status_code

    # A key works on every node at once.
    assert [status(url) for url in ws.cluster.urls] == [200, 200, 200]
    revoked = ws.client.revoke_service_account_key(account["service_account_id"], key["key_id"])["key"]
    assert revoked["status"] == "revoked"
    until("401 on every node", lambda: all(status(url) == 401 for url in ws.cluster.urls), seconds=5)


def test_accounts_of_other_tenants(ws: Workspace):
    _, agent_key = ws.register(payment.fresh("worker"))
    for org, workspace in ((UNKNOWN_ID, ws.cluster.workspace_id), (ws.cluster.org_id, UNKNOWN_ID)):
        content = {"org_id": org, "workspace_id": workspace, "name": "intruder"}
        # The operator of the cluster may know what does not exist; an agent learns nothing.
        for key, status in ((ws.cluster.key, (403, 404)), (agent_key, 403)):
            with http(ws.cluster.url, key) as plain:
                refused(plain.post("/v1/service-accounts", json=content), status, None)
                scope = {"org_id": org, "workspace_id": workspace}
                refused(plain.get("/v1/agents", params=scope), status, None)
                refused(plain.get("/v1/service-accounts", params=scope), status, None)


def test_a_second_account_of_one_name_is_a_conflict_that_names_the_first(ws: Workspace):
    name = payment.fresh("worker")
    content = {"org_id": ws.cluster.org_id, "workspace_id": ws.cluster.workspace_id, "name": name}
    first = ws.client.create_service_account(content)["service_account"]
    with http(ws.cluster.urls[2], ws.cluster.key) as plain:
        answer = plain.post("/v1/service-accounts", json=content)
    refused(answer, 409, "conflict")
    assert answer.json()["service_account"]["service_account_id"] == first["service_account_id"]
