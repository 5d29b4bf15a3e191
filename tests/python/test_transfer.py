"""Intents that are handed to agents of other groups, on three real nodes: however the new handler gets its deliveries, and
whichever leader dies in between."""

from __future__ import annotations

import threading
from typing import Any, Callable, Iterator
from uuid import uuid4

import httpx
import pytest

import payment
import test_work
from clients import Worker, check_events, event_types, http
from cluster import Cluster, group_of, leader_of, until
from receiver import Receiver

SECONDS = 60.0


class Competing(test_work.Worker):
    """A worker that completes what any test sends."""

    def complete(self, item: Any) -> Any:
        self.seen.append(item.intent.intent_id)
        result = test_work.common.Payload(data=b'{"paid": true}')
        return test_work.agents.WorkReport(
            intent_id=item.intent.intent_id, fence=item.fence, complete=test_work.agents.Complete(result=result)
        )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Nodes that come back, and posts that are tried again after a second."""
    cluster = Cluster("transfer", restart=True, push_retry_schedule_ms=1_000)
    yield cluster.start()
    cluster.stop()


@pytest.fixture
def api(cluster: Cluster) -> Iterator[httpx.Client]:
    cluster.wait_all_ready()
    with http(cluster.url, cluster.key) as client:
        yield client


@pytest.fixture
def workers(cluster: Cluster) -> Iterator[list[Any]]:
    started: list[Any] = []
    yield started
    for worker in started:
        worker.stop()


def ok(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return response.json()


def patiently(call: Callable[[], httpx.Response]) -> dict[str, Any]:
    """A call that may be made twice, while leaders change."""

    def answered() -> httpx.Response | None:
        try:
            response = call()
        except httpx.HTTPError:
            return None
        return response if response.status_code < 500 else None

    return ok(until("an answer", answered, SECONDS))


def submit(api: httpx.Client, to_agent: str, **more: Any) -> str:
    """Looking at a mailbox is an attempt when nobody fetches what is in it, so there are many."""
    settings = {"max_delivery_attempts": 20, **more}
    body = {**payment.intent(to_agent, **settings), "correlation_id": str(uuid4())}
    key = str(uuid4())
    return patiently(lambda: api.post("/v1/intents", json=body, headers={"idempotency-key": key}))["intent_id"]


def apart(api: httpx.Client, count: int) -> list[str]:
    """Names of agents that live in different groups."""
    found: dict[int, str] = {}
    while len(found) < count:
        name = payment.fresh("holder")
        probe = submit(api, name)
        patiently(lambda: api.post(f"/v1/intents/{probe}/resolve", json={"status": "CANCELED"}, headers={"idempotency-key": probe}))
        found.setdefault(group_of(probe), name)
    return list(found.values())


def register(api: httpx.Client, cluster: Cluster, name: str, **more: Any) -> tuple[dict[str, Any], str]:
    """A new account and its own key."""
    body = {"org_id": cluster.org_id, "workspace_id": cluster.workspace_id, "name": name, **more}
    account = ok(api.post("/v1/service-accounts", json=body))["service_account"]
    key = ok(api.post(f"/v1/service-accounts/{account['service_account_id']}/keys", json={}))["key"]["token"]
    return account, key


def hand(api: httpx.Client, intent_id: str, to: str) -> dict[str, Any]:
    body = {"approve_current_step": True, "next_handler": to}
    key = str(uuid4())
    return patiently(lambda: api.post(f"/v1/intents/{intent_id}/resume", json=body, headers={"idempotency-key": key}))


def intent(api: httpx.Client, intent_id: str) -> dict[str, Any]:
    return patiently(lambda: api.get(f"/v1/intents/{intent_id}"))["intent"]


def events(api: httpx.Client, intent_id: str) -> list[dict[str, Any]]:
    found = patiently(lambda: api.get(f"/v1/intents/{intent_id}/events"))["events"]
    check_events(found)
    return found


def reaches(api: httpx.Client, intent_id: str, wanted: str) -> list[dict[str, Any]]:
    until(f"{wanted} of {intent_id}", lambda: intent(api, intent_id)["status"] == wanted, SECONDS)
    return events(api, intent_id)


def offered(api: httpx.Client, name: str) -> list[str]:
    """What a poll of the agent shows."""
    found = patiently(lambda: api.get(f"/v1/agents/{name}/intents", params={"since": 0}))["intents"]
    return [item["intent_id"] for item in found]


def threads(api: httpx.Client, owner: str) -> dict[str, str]:
    found = patiently(lambda: api.get("/v1/inbox", params={"owner_agent": owner}))["threads"]
    return {thread["thread_id"]: thread["status"] for thread in found}


def listening(cluster: Cluster, name: str, key: str, node: int, mode: str = "complete") -> Worker:
    journal = cluster.directory / f"{name}.jsonl"
    return Worker("agent_process.py", journal, cluster.urls[node - 1], key, "--address", name, "--mode", mode)


def killed(cluster: Cluster, whose: str, home: int, host: int) -> tuple[int, int] | None:
    """Kills the leader of one of the two groups; the node and the process id it had."""
    if whose == "nobody":
        return None
    victim = leader_of(cluster, home if whose == "home" else host)
    return victim, cluster.kill_node(victim)


@pytest.mark.parametrize("whose", ["nobody", "home", "host"])
@pytest.mark.parametrize("mode", ["stream", "poll", "push", "inbox", "work"])
def test_a_handler_of_another_group_gets_it_and_ends_it(
    mode: str, whose: str, cluster: Cluster, api: httpx.Client, workers: list[Any]
):
    first, second = apart(api, 2)
    receiver = Receiver()
    more = {"delivery_mode": "http", "callback_url": receiver.url} if mode == "push" else {}
    account, own_key = register(api, cluster, second, **more)
    intent_id = submit(api, first)
    home, host = group_of(intent_id), group_of(submit(api, second))
    assert home != host
    moved = hand(api, intent_id, second)["intent"]
    assert (moved["status"], moved["lifecycle_waiting_reason"]) == ("WAITING", "WAITING_FOR_AGENT")
    assert moved["handler"] == account["address"]
    gone = killed(cluster, whose, home, host)
    node = next(n for n in (1, 2, 3) if gone is None or n != gone[0])
    with http(cluster.urls[node - 1], cluster.key) as near, http(cluster.urls[node - 1], own_key) as own:
        if mode == "stream":
            workers.append(listening(cluster, second, own_key, node))
        elif mode == "work":
            workers.append(Competing(cluster, second, node - 1))
        else:
            if mode == "push":
                until("a post", lambda: receiver.of(intent_id), SECONDS)
            elif mode == "poll":
                until("the delivery", lambda: intent_id in offered(own, second), SECONDS)
            until("the thread", lambda: threads(own, second).get(intent_id) == "pending", SECONDS)
            key = str(uuid4())
            patiently(
                lambda: own.post(
                    f"/v1/intents/{intent_id}/resume", json={"paid": True}, headers={"idempotency-key": key}
                )
            )
        seen = reaches(near, intent_id, "COMPLETED")
        assert event_types(seen)[3:] == ["transfer", "in_progress", "completed"]
        assert seen[3]["details"]["next_handler"] == account["address"]
        until("the end in the inbox", lambda: threads(near, second).get(intent_id) == "done", SECONDS)
        until("an empty mailbox", lambda: intent_id not in offered(near, second), SECONDS)
        assert intent_id in threads(near, first), "whom it was sent to still has it"
        late = near.post(f"/v1/intents/{intent_id}/resume", params={"owner_agent": first}, json={"paid": False})
        assert late.status_code == 409
    receiver.close()
    if gone is not None:
        cluster.wait_restarted(*gone)


def test_a_handler_of_before_is_refused_while_the_new_one_works(cluster: Cluster, api: httpx.Client):
    first, second = apart(api, 2)
    _, key = register(api, cluster, first)
    register(api, cluster, second)
    intent_id = submit(api, first)
    hand(api, intent_id, second)
    with http(cluster.url, key) as own:
        assert own.post(f"/v1/intents/{intent_id}/resume", json={"paid": True}).status_code == 403
    late = api.post(f"/v1/intents/{intent_id}/resume", params={"owner_agent": first}, json={"paid": True})
    assert late.status_code == 409
    ok(api.post(f"/v1/intents/{intent_id}/resume", params={"owner_agent": second}, json={"paid": True}))
    assert event_types(reaches(api, intent_id, "COMPLETED"))[3:] == ["transfer", "in_progress", "completed"]


def test_it_goes_around_while_leaders_die_and_is_where_it_was_sent_last(cluster: Cluster, api: httpx.Client):
    names = apart(api, 3)
    held = {submit(api, names[0]): 0 for _ in range(6)}
    home = group_of(next(iter(held)))
    for turn in range(6):
        gone = None
        if turn in (1, 3):
            victim = leader_of(cluster, home)
            gone = victim, cluster.kill_node(victim)
        node = next(n for n in (1, 2, 3) if gone is None or n != gone[0])
        with http(cluster.urls[node - 1], cluster.key) as near:
            for number, intent_id in enumerate(held):
                held[intent_id] = (held[intent_id] + 1 + (number + turn) % 2) % 3
                hand(near, intent_id, names[held[intent_id]])
        if gone is not None:
            cluster.wait_restarted(*gone)
    for place, name in enumerate(names):
        expected = {intent_id for intent_id, at in held.items() if at == place}
        until(f"the deliveries of {name}", lambda: set(offered(api, name)) == expected, SECONDS)
        inbox = {thread for thread, status in threads(api, name).items() if status == "pending"}
        # Whom they were sent to keeps seeing them.
        assert inbox == (set(held) if place == 0 else expected)
    for intent_id, at in held.items():
        ok(api.post(f"/v1/intents/{intent_id}/resume", params={"owner_agent": names[at]}, json={"paid": True}))
        assert event_types(reaches(api, intent_id, "COMPLETED"))[3:] == ["transfer"] * 6 + ["in_progress", "completed"]
    until("empty mailboxes", lambda: not any(offered(api, name) for name in names), SECONDS)


def test_an_endpoint_of_another_group_that_refuses_leaves_a_dead_letter(cluster: Cluster, api: httpx.Client):
    first, second = apart(api, 2)
    receiver = Receiver(lambda _: 500)
    register(api, cluster, second, delivery_mode="http", callback_url=receiver.url)
    intent_id = submit(api, first, max_delivery_attempts=2)
    hand(api, intent_id, second)
    seen = reaches(api, intent_id, "FAILED")
    assert event_types(seen)[3:] == ["transfer", "delivery_failed", "failed"]
    assert seen[4]["details"]["delivery_attempt"] == "2" and intent(api, intent_id)["delivery_attempt"] == 2
    delivery_id = receiver.of(intent_id)[0].body["delivery_id"]
    record = ok(api.get(f"/v1/deliveries/{delivery_id}"))["delivery"]
    assert (record["status"], record["attempts"]) == ("dead_lettered", 2)
    receiver.answer = lambda _: 200
    replay = ok(api.post(f"/v1/deliveries/{delivery_id}/replay"))["delivery"]["delivery_id"]
    until("the replay", lambda: ok(api.get(f"/v1/deliveries/{replay}"))["delivery"]["status"] == "delivered", SECONDS)
    assert receiver.of(intent_id)[-1].body["replay"] is True
    receiver.close()


def test_what_waits_for_an_agent_of_another_group_follows_its_mode(cluster: Cluster, api: httpx.Client):
    first, second = apart(api, 2)
    receiver = Receiver()
    account, key = register(api, cluster, second)
    intent_id = submit(api, first)
    hand(api, intent_id, second)
    until("the delivery", lambda: intent_id in offered(api, second), SECONDS)
    change = {"delivery_mode": "http", "callback_url": receiver.url}
    ok(api.patch(f"/v1/service-accounts/{account['service_account_id']}", json=change))
    (post,) = until("the post", lambda: receiver.of(intent_id), SECONDS)
    assert (post.body["intent_id"], post.body["payload"]) == (intent_id, payment.PAYLOAD)
    record = f"/v1/deliveries/{post.body['delivery_id']}"
    until("its record", lambda: api.get(record).json().get("delivery", {}).get("status") == "delivered", SECONDS)
    with http(cluster.url, key) as own:
        ok(own.post(f"/v1/intents/{intent_id}/resume", json={"paid": True}))
    assert event_types(reaches(api, intent_id, "COMPLETED"))[3:] == ["transfer", "in_progress", "completed"]
    listed = ok(api.get("/v1/deliveries", params={"org_id": cluster.org_id, "workspace_id": cluster.workspace_id}))
    assert post.body["delivery_id"] in [delivery["delivery_id"] for delivery in listed["deliveries"]]
    receiver.close()


def test_a_silent_listener_of_another_group_uses_the_attempts_up(
    cluster: Cluster, api: httpx.Client, workers: list[Any]
):
    first, second = apart(api, 2)
    _, key = register(api, cluster, second)
    intent_id = submit(api, first, max_delivery_attempts=2)
    hand(api, intent_id, second)
    workers.append(listening(cluster, second, key, 1, "ignore"))
    assert event_types(reaches(api, intent_id, "FAILED"))[3:] == ["transfer", "delivery_failed", "failed"]
    until("the end in the inbox", lambda: threads(api, second).get(intent_id) == "done", SECONDS)


def test_canceled_on_its_way_it_is_offered_to_nobody(cluster: Cluster, api: httpx.Client):
    first, second = apart(api, 2)
    sent = []
    for _ in range(5):
        intent_id = submit(api, first)
        sent.append(intent_id)
        hand(api, intent_id, second)
        ok(api.post(f"/v1/intents/{intent_id}/resolve", json={"status": "CANCELED", "reason": "sold out"}))
        assert event_types(events(api, intent_id))[3:] == ["transfer", "canceled"]
    until("an empty mailbox", lambda: not offered(api, second), SECONDS)
    until("all of them done", lambda: _all_done(threads(api, second), sent), SECONDS)


def _all_done(inbox: dict[str, str], intents: list[str]) -> bool:
    return all(inbox.get(intent_id) == "done" for intent_id in intents)


def test_a_step_that_was_handed_on_moves_its_scenario(cluster: Cluster, api: httpx.Client):
    first, second = apart(api, 2)
    parent = ok(api.post("/v1/scenarios/apply", json=payment.bundle(first)))["intent_id"]

    def started() -> str | None:
        return intent(api, parent)["steps"][0]["intent_id"]

    step = until("the step", started)
    until("its delivery", lambda: step in offered(api, first))
    hand(api, step, second)
    until("its delivery elsewhere", lambda: step in offered(api, second), SECONDS)
    ok(api.post(f"/v1/intents/{step}/resume", params={"owner_agent": second}, json={"paid": True}))
    assert reaches(api, parent, "COMPLETED")[-1]["details"]["result"]["paid"] is True


def test_an_escalation_hands_it_to_an_agent_of_another_group(cluster: Cluster, api: httpx.Client):
    first, second = apart(api, 2)
    account, _ = register(api, cluster, second)
    for target in (second, account["address"]):
        intent_id = submit(
            api, first, remind_after_seconds=1, remind_interval_seconds=1, max_reminders=2, escalate_to=target
        )
        until("the delivery", lambda: intent_id in offered(api, second), SECONDS)
        seen = events(api, intent_id)
        assert event_types(seen)[3:] == ["reminder", "reminder", "escalated", "transfer"]
        assert seen[5]["details"]["escalated_to"] == target
        assert intent(api, intent_id)["handler"] == account["address"]
        ok(api.post(f"/v1/intents/{intent_id}/resume", params={"owner_agent": second}, json={"paid": True}))
        reaches(api, intent_id, "COMPLETED")


def test_a_step_that_its_agent_leaves_lying_goes_to_an_agent_of_another_group(cluster: Cluster, api: httpx.Client):
    first, second = apart(api, 2)
    account, _ = register(api, cluster, second)
    settings = {"remind_after_seconds": 1, "max_reminders": 1, "escalate_to": second}
    parent = ok(api.post("/v1/scenarios/apply", json=payment.bundle(first, **settings)))["intent_id"]
    step = until("the step", lambda: intent(api, parent)["steps"][0]["intent_id"])
    until("the delivery", lambda: step in offered(api, second), SECONDS)
    until("the news on the parent", lambda: intent(api, parent)["handler"] == account["address"], SECONDS)
    assert event_types(events(api, parent))[3:] == ["waiting", "reminder", "escalated", "transfer"]
    # Through the parent's id, as those do who know no other.
    ok(api.post(f"/v1/intents/{parent}/resume", params={"owner_agent": second}, json={"paid": True}))
    reaches(api, parent, "COMPLETED")
    # It ends with its parent: with the result when they are in one group, else canceled.
    until("the end of the step", lambda: intent(api, step)["status"] in ("COMPLETED", "CANCELED"), SECONDS)
    until("an empty mailbox", lambda: not offered(api, second), SECONDS)


def at_once(cluster: Cluster, calls: list[tuple[str, dict[str, Any]]]) -> list[tuple[int, str]]:
    """Status of each call, made at the same moment through different nodes."""
    start, seen = threading.Barrier(len(calls)), []

    def make(number: int, path: str, body: dict[str, Any]) -> None:
        with http(cluster.urls[number % 3], cluster.key) as own:
            start.wait()
            seen.append((own.post(path, json=body).status_code, path.rsplit("/", 1)[1]))

    made = [threading.Thread(target=make, args=(n, *call)) for n, call in enumerate(calls)]
    for thread in made:
        thread.start()
    for thread in made:
        thread.join(SECONDS)
    assert len(seen) == len(calls)
    return seen


def test_of_changes_at_once_under_one_generation_one_wins(cluster: Cluster, api: httpx.Client):
    first, second, third = apart(api, 3)
    for _ in range(4):
        intent_id = submit(api, first)
        expected = hand(api, intent_id, second)["policy_generation"]
        cas = {"expected_policy_generation": expected}
        base = f"/v1/intents/{intent_id}"
        codes = at_once(
            cluster,
            [
                (f"{base}/resume", {"approve_current_step": True, "next_handler": third, **cas}),
                (f"{base}/resume", {"approve_current_step": True, "next_handler": first, **cas}),
                (f"{base}/controls", {"controls_patch": {"timeout_seconds": 5}, **cas}),
                (f"{base}/policy", {"envelope_patch": {"max_retry_count": 1}, **cas}),
            ],
        )
        assert sorted(code for code, _ in codes) == [200, 409, 409, 409], codes
        after = intent(api, intent_id)
        assert after["policy_generation"] == expected + 1
        won = next(what for code, what in codes if code == 200)
        assert event_types(events(api, intent_id))[3:] == ["transfer"] * (2 if won == "resume" else 1)
        holder = after["handler"].rsplit("/", 1)[1]
        until("the delivery", lambda: intent_id in offered(api, holder), SECONDS)
        others = [name for name in (first, second, third) if name != holder]
        until("it left", lambda: not any(intent_id in offered(api, name) for name in others), SECONDS)
        ok(api.post(f"{base}/resolve", json={"status": "COMPLETED"}))


def test_a_result_wins_over_controls_and_what_comes_later_is_409(cluster: Cluster, api: httpx.Client):
    first, second = apart(api, 2)
    intent_id = submit(api, first)
    hand(api, intent_id, second)
    base = f"/v1/intents/{intent_id}"
    codes = at_once(
        cluster,
        [
            (f"{base}/resume", {"paid": True}),
            (f"{base}/controls", {"controls_patch": {"a": 1}}),
            (f"{base}/policy", {"envelope_patch": {"ttl_seconds": 9}}),
        ],
    )
    assert (200, "resume") in codes and {code for code, _ in codes} <= {200, 409}
    assert event_types(reaches(api, intent_id, "COMPLETED"))[-1] == "completed"
    for path, body in (
        ("resume", {"approve_current_step": True, "next_handler": first}),
        ("controls", {"controls_patch": {"a": 2}}),
        ("policy", {"envelope_patch": {"ttl_seconds": 1}}),
    ):
        assert api.post(f"{base}/{path}", json=body).status_code == 409
