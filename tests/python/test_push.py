"""Push: what agents in http mode are posted, how it is signed, and what becomes of deliveries that nobody takes."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any, Callable, Iterator
from uuid import uuid4

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

import payment
from clients import event_types, http
from cluster import Cluster, until
from native import Native, messages
from receiver import Post, Receiver

PAUSE_MS = 1_000


@pytest.fixture(scope="module")
def pushing() -> Iterator[Cluster]:
    """Three nodes that try again after a second."""
    cluster = Cluster("push", restart=True, push_retry_schedule_ms=PAUSE_MS)
    yield cluster.start()
    cluster.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def api(pushing: Cluster) -> Iterator[httpx.Client]:
    with http(pushing.url, pushing.key) as client:
        yield client


def ok(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return response.json()


def register(api: httpx.Client, pushing: Cluster, name: str, **more: Any) -> dict[str, Any]:
    """A new account; the whole answer, which alone may show its secret."""
    body = {"org_id": pushing.org_id, "workspace_id": pushing.workspace_id, "name": name, **more}
    return ok(api.post("/v1/service-accounts", json=body))


def patch(api: httpx.Client, account: dict[str, Any], **change: Any) -> dict[str, Any]:
    return ok(api.patch(f"/v1/service-accounts/{account['service_account_id']}", json=change))


def submit(api: httpx.Client, to_agent: str, **more: Any) -> str:
    body = {**payment.intent(to_agent, **more), "correlation_id": str(uuid4())}
    return ok(api.post("/v1/intents", json=body))["intent_id"]


def status(api: httpx.Client, intent_id: str) -> str:
    return ok(api.get(f"/v1/intents/{intent_id}"))["intent"]["lifecycle_status"]


def reaches(api: httpx.Client, intent_id: str, wanted: str, seconds: float = 20.0) -> None:
    until(f"{wanted} of {intent_id}", lambda: status(api, intent_id) == wanted, seconds)


def posted(receiver: Receiver, intent_id: str, count: int = 1, seconds: float = 20.0) -> list[Post]:
    def found() -> list[Post] | None:
        posts = receiver.of(intent_id)
        return posts if len(posts) >= count else None

    return until(f"post {count} of {intent_id}", found, seconds)


def verifies(secret: str | bytes, post: Post) -> bool:
    """By the published library."""
    try:
        return Webhook(secret).verify(post.raw, post.headers) == post.body
    except WebhookVerificationError:
        return False


def axme_signature(secret: str, post: Post) -> str:
    return "sha256=" + hmac.new(secret.encode(), post.raw, hashlib.sha256).hexdigest()


def test_a_delivery_is_posted_signed_and_acknowledged(api: httpx.Client, pushing: Cluster, receiver: Receiver):
    name = payment.fresh("pushed")
    made = register(api, pushing, name, delivery_mode="http", callback_url=receiver.url)
    account, first = made["service_account"], made["callback_secret"]
    shown = ok(api.get(f"/v1/service-accounts/{account['service_account_id']}"))
    assert first.startswith("whsec_") and first not in str(shown) and "callback_secret" not in shown
    intent_id = submit(api, name)
    (post,) = posted(receiver, intent_id)
    assert verifies(first, post) and post.headers["x-axme-signature"] == axme_signature(first, post)
    assert post.headers["webhook-id"] == post.headers["x-axme-delivery-id"] == post.body["delivery_id"]
    assert post.headers["webhook-timestamp"] == post.headers["x-axme-timestamp"]
    assert (post.body["status"], post.body["payload"]) == ("DELIVERED", payment.PAYLOAD)
    assert (post.body["attempt"], post.body["to_agent"]) == (1, account["address"])
    reaches(api, intent_id, "ACKNOWLEDGED")
    # The old secret signs beside the new one, until it is dropped.
    second = patch(api, account, rotate_callback_secret=True)["callback_secret"]
    until("both secrets", lambda: _both(api, receiver, name, first, second))
    third = "a-secret-that-we-chose"
    assert patch(api, account, callback_secret=third, callback_secret_overlap_seconds=0)["callback_secret"] == third
    until("the last secret alone", lambda: _alone(api, receiver, name, second, third))
    # The agent's own result, and nothing is posted again.
    ok(api.post(f"/v1/intents/{intent_id}/resume", params={"owner_agent": name}, json={"paid": True}))
    reaches(api, intent_id, "COMPLETED")
    assert len(receiver.of(intent_id)) == 1
    record = ok(api.get(f"/v1/deliveries/{post.body['delivery_id']}"))["delivery"]
    assert (record["status"], record["attempts"], record["last_status"]) == ("delivered", 1, 200)


def _both(api: httpx.Client, receiver: Receiver, name: str, old: str, new: str) -> bool:
    (post,) = posted(receiver, submit(api, name))
    assert verifies(old, post)
    return verifies(new, post) and post.headers["x-axme-signature"] == axme_signature(new, post)


def _alone(api: httpx.Client, receiver: Receiver, name: str, old: str, new: str) -> bool:
    (post,) = posted(receiver, submit(api, name))
    # For one that is no base64 the library takes the bytes.
    return verifies(new.encode(), post) and verifies(base64.b64encode(new.encode()).decode(), post) and not verifies(old, post)


def test_what_nobody_takes_is_a_dead_letter_and_can_be_replayed(
    api: httpx.Client, pushing: Cluster, receiver: Receiver
):
    name = payment.fresh("dead")
    account = register(api, pushing, name, delivery_mode="http", callback_url=receiver.url)["service_account"]
    receiver.answer = lambda _: 500
    intent_id = submit(api, name)
    reaches(api, intent_id, "FAILED")
    events = ok(api.get(f"/v1/intents/{intent_id}/events"))["events"]
    assert event_types(events)[3:] == ["delivery_failed", "failed"]
    assert events[3]["details"] == {"delivery_attempt": "3", "max_delivery_attempts": 3}
    posts = receiver.of(intent_id)
    attempts = [p.body["attempt"] for p in posts]
    assert sorted(set(attempts)) == [1, 2, 3] and attempts == sorted(attempts), "a new leader may double one"
    assert len({p.headers["webhook-id"] for p in posts}) == 1
    of_account = {"org_id": pushing.org_id, "principal_id": account["service_account_id"]}
    dead = ok(api.get("/v1/deliveries", params={**of_account, "status": "dead_lettered"}))["deliveries"]
    assert [d["intent_id"] for d in dead] == [intent_id]
    assert (dead[0]["attempts"], dead[0]["error_detail"]) == (3, "the endpoint answered 500")

    receiver.answer = lambda _: 200
    replay = ok(api.post(f"/v1/deliveries/{dead[0]['delivery_id']}/replay"))["delivery"]
    assert replay["replay_of_delivery_id"] == dead[0]["delivery_id"]
    again = posted(receiver, intent_id, len(posts) + 1)[len(posts)]
    assert again.body["replay"] is True and again.body["delivery_id"] == replay["delivery_id"]
    path = f"/v1/deliveries/{replay['delivery_id']}"
    until("the replay's record", lambda: ok(api.get(path))["delivery"]["status"] == "delivered")
    assert status(api, intent_id) == "FAILED"

    bulk = {"principal_id": account["service_account_id"], "dry_run": True}
    assert ok(api.post("/v1/deliveries/replay", json=bulk))["matched"] == 0, "replayed already"
    bulk["include_replayed"] = True
    tried = ok(api.post("/v1/deliveries/replay", json=bulk))
    assert (tried["matched"], tried["replayed"]) == (1, 0)
    done = ok(api.post("/v1/deliveries/replay", json={**bulk, "dry_run": False}))
    assert (done["matched"], done["replayed"]) == (1, 1)
    posted(receiver, intent_id, len(posts) + 2)
    assert api.get(f"/v1/deliveries/{uuid4()}").status_code == 404
    assert api.post("/v1/deliveries/replay", json={"status": "pending"}).status_code == 422


def test_deliveries_through_grpc(api: httpx.Client, pushing: Cluster, receiver: Receiver):
    d = messages("delivery_service")
    native = Native(pushing.urls[1], pushing.key)
    name = payment.fresh("listed")
    register(api, pushing, name, delivery_mode="http", callback_url=receiver.url)
    receiver.answer = lambda _: 500
    ids = sorted((submit(api, name, max_delivery_attempts=1) for _ in range(3)), reverse=True)
    for intent_id in ids:
        reaches(api, intent_id, "FAILED")
    found, request = [], d.ListDeliveriesRequest(filter=d.DeliveryFilter(agent=name), page_size=2)
    while True:
        page = native.deliveries.ListDeliveries(request, timeout=30)
        found += page.deliveries
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert [x.intent_id for x in found] == ids
    assert {x.state for x in found} == {d.DELIVERY_STATE_DEAD_LETTERED}
    assert {(x.attempts, x.last_status) for x in found} == {(1, 500)}
    one = native.deliveries.GetDelivery(d.GetDeliveryRequest(delivery_id=found[0].delivery_id), timeout=30).delivery
    assert one == found[0]

    receiver.answer = lambda _: 200
    replay = d.ReplayDeliveryRequest(delivery_id=one.delivery_id, idempotency_key=str(uuid4()))
    made = native.deliveries.ReplayDelivery(replay, timeout=30).delivery
    again = native.deliveries.ReplayDelivery(replay, timeout=30).delivery
    assert (made.replay_of_delivery_id, again.delivery_id) == (one.delivery_id, made.delivery_id)
    bulk = d.ReplayDeliveriesRequest(filter=d.DeliveryFilter(agent=name), dry_run=True)
    would = native.deliveries.ReplayDeliveries(bulk, timeout=30).results
    assert [r.delivery_id for r in would] == [x.delivery_id for x in found[1:]], "one was replayed already"
    assert not any(r.HasField("replay") for r in would)
    bulk.dry_run = False
    done = native.deliveries.ReplayDeliveries(bulk, timeout=30).results
    assert [r.replay.replay_of_delivery_id for r in done] == [x.delivery_id for x in found[1:]]
    for intent_id in ids:
        posted(receiver, intent_id, 2)
    native.close()


def test_a_change_of_the_mode_loses_no_intent(api: httpx.Client, pushing: Cluster, receiver: Receiver):
    name = payment.fresh("switched")
    account = register(api, pushing, name)["service_account"]
    waiting = [submit(api, name) for _ in range(5)]
    patch(api, account, delivery_mode="http", callback_url=receiver.url)
    for intent_id in waiting:
        reaches(api, intent_id, "ACKNOWLEDGED")
    receiver.answer = lambda _: 500
    # More than it can use up until the endpoint is well again.
    failing = submit(api, name, max_delivery_attempts=10)
    posted(receiver, failing)
    patch(api, account, delivery_mode="stream")
    later = submit(api, name)
    path = f"/v1/agents/{name}/intents"

    def listed() -> set[str]:
        return {item["intent_id"] for item in ok(api.get(path, params={"since": 0}))["intents"]}

    assert listed() == {*waiting, failing, later}
    seen = {intent_id: len(receiver.of(intent_id)) for intent_id in waiting}
    receiver.answer = lambda _: 200
    patch(api, account, delivery_mode="http")
    reaches(api, later, "ACKNOWLEDGED")
    reaches(api, failing, "ACKNOWLEDGED")
    # A new leader may have doubled the first post, under the same id; the change of the mode adds none.
    for intent_id in waiting:
        posts = receiver.of(intent_id)
        assert len(posts) == seen[intent_id], "taken is taken"
        assert len({p.headers["webhook-id"] for p in posts}) == 1


def test_an_endpoint_that_is_gone_is_left_alone(api: httpx.Client, pushing: Cluster, receiver: Receiver):
    name = payment.fresh("gone")
    account = register(api, pushing, name, delivery_mode="http", callback_url=receiver.url)["service_account"]
    receiver.answer = lambda _: 410
    intent_id = submit(api, name)
    path = f"/v1/service-accounts/{account['service_account_id']}"

    def disabled() -> str | None:
        return ok(api.get(path))["service_account"].get("callback_disabled_reason")

    assert until("the endpoint's end", disabled) == "the endpoint answered 410 Gone"
    receiver.answer = lambda _: 200
    second = submit(api, name)
    patch(api, account, callback_url=receiver.url)
    assert disabled() is None
    reaches(api, second, "ACKNOWLEDGED")
    reaches(api, intent_id, "ACKNOWLEDGED")


def test_only_what_may_be_dialled_is_dialled(api: httpx.Client, pushing: Cluster):
    name = payment.fresh("inside")
    made = register(api, pushing, name, delivery_mode="http", callback_url="http://169.254.169.254/latest")
    intent_id = submit(api, name)
    reaches(api, intent_id, "FAILED")
    query = {"principal_id": made["service_account"]["service_account_id"]}
    (record,) = ok(api.get("/v1/deliveries", params=query))["deliveries"]
    assert "169.254.169.254 is not dialled (link-local)" in record["error_detail"]
    path = f"/v1/service-accounts/{made['service_account']['service_account_id']}"
    for wrong in ("https://user:secret@example.com/", "gopher://example.com/", "https:///path", "https://example.com/#a"):
        assert api.patch(path, json={"callback_url": wrong}).status_code == 422, wrong
    for wrong in ({"callback_secret": "short"}, {"callback_secret_overlap_seconds": 10**9}):
        assert api.patch(path, json=wrong).status_code == 422, wrong


def leading_node(pushing: Cluster, agent: str) -> int:
    """Number of the node that leads the agent's group: the one that names no other."""
    m = messages("agent_service")
    for number, url in enumerate(pushing.urls, 1):
        native = Native(url, pushing.key)
        try:
            request = m.GetBacklogRequest(agent=agent)
            _, call = native.agents.GetBacklog.with_call(request, timeout=10)
        finally:
            native.close()
        if not dict(call.initial_metadata()).get("baton-leader"):
            return number
    raise AssertionError("every node names another leader")


def alive(pushing: Cluster, but: int) -> Callable[[], httpx.Client]:
    url = next(url for number, url in enumerate(pushing.urls, 1) if number != but)
    return lambda: http(url, pushing.key)


def test_a_new_leader_makes_the_next_attempt(api: httpx.Client, pushing: Cluster, receiver: Receiver):
    name = payment.fresh("led")
    register(api, pushing, name, delivery_mode="http", callback_url=receiver.url)
    receiver.answer = lambda n: 500 if n == 0 else 200
    # The first attempt of the one that matters is the first post of all.
    node = leading_node(pushing, name)
    intent_id = submit(api, name)
    posted(receiver, intent_id)
    with alive(pushing, node)() as other:
        until("the failure in the log", lambda: _attempts(other, intent_id) == 1)
        pid = pushing.kill_node(node)
        posts = posted(receiver, intent_id, 2)
        reaches(other, intent_id, "ACKNOWLEDGED")
    assert [p.body["attempt"] for p in posts[:2]] == [1, 2]
    assert len({p.headers["webhook-id"] for p in posts}) == 1
    pushing.wait_restarted(node, pid)


def _attempts(api: httpx.Client, intent_id: str) -> int:
    return ok(api.get(f"/v1/intents/{intent_id}"))["intent"]["delivery_attempt"]
