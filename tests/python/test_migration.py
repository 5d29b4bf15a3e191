"""Legacy webhooks beside Baton: the same orders both ways at once, with bad callbacks and a node killed; one story."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from typing import Iterator

import pytest

import migration
import payment
from clients import TERMINAL, check_events, http
from cluster import LONG, Cluster, until

ORDERS = 200 if LONG else 24


@pytest.fixture(scope="module")
def running() -> Iterator[Cluster]:
    cluster = Cluster("migration", restart=True)
    yield cluster.start()
    cluster.stop()


def key_of(cluster: Cluster, name: str, kind: str) -> tuple[str, str]:
    """A service account's address, and a key of it."""
    with http(cluster.url, cluster.key) as api:
        account = {"org_id": cluster.org_id, "workspace_id": cluster.workspace_id, "name": name}
        made = api.post("/v1/service-accounts", json=account).json()["service_account"]
        path = f"/v1/service-accounts/{made['service_account_id']}/keys"
        return made["agent_address"], api.post(path, json={"kind": kind}).json()["key"]["token"]


def test_the_same_orders_both_ways_tell_the_same_story(running: Cluster):
    address, agent_key = key_of(running, payment.fresh("shop"), "agent")
    _, workspace_key = key_of(running, payment.fresh("ingress"), "workspace")
    provider = migration.Provider(seed=7)
    workspace = migration.Nodes(running.urls, workspace_key)
    new = migration.BatonShop(migration.Nodes(running.urls, agent_key), address, workspace, provider)
    old = migration.LegacyShop(provider, new.signal)
    provider.callback_url = old.url

    orders = [f"{payment.fresh('o')}{'x' * (n % 2)}" for n in range(ORDERS)]

    def place(some: list[str]) -> None:
        for order_id in some:
            declined = orders.index(order_id) % 4 == 3
            for shop in (new, old):
                shop.place(order_id, declined)

    halves = [threading.Thread(target=place, args=(orders[n::2],)) for n in (0, 1)]
    for thread in halves:
        thread.start()
    until("some orders", lambda: len(new.intents) >= ORDERS // 3, 60)
    pid = running.kill_node(2)
    for thread in halves:
        thread.join(120)
        assert not thread.is_alive(), "orders are not taken"
    assert sorted(new.intents) == sorted(old.history) == sorted(orders)

    def ended() -> bool:
        return all(workspace.call("get_intent", i)["intent"]["status"] in TERMINAL for i in new.intents.values())

    until("the end of every order with Baton", ended, 120, every=0.3)
    until("the end of every legacy order", lambda: all(len(h) == 4 for h in old.history.values()), 60)
    running.wait_restarted(2, pid)
    provider.join(60)

    outcomes = set()
    for order_id, intent_id in new.intents.items():
        events = workspace.call("list_intent_events", intent_id)["events"]
        check_events(events)
        assert [e["status"] in TERMINAL for e in events].count(True) == 1
        assert new.steps(events) == old.history[order_id], order_id
        outcomes.add(old.history[order_id][-1])
    assert outcomes == {migration.FULFILLED, migration.CANCELED}
    fulfilled = [o for o, steps in old.history.items() if steps[-1] == migration.FULFILLED]
    assert sorted(new.shipped) == sorted(fulfilled), "each shipped once, and none that was not paid"
    assert provider.posts > 2 * 2 * ORDERS, "callbacks came more than once"
    new.close()
    old.close()


def test_a_callback_with_a_wrong_signature_reaches_neither(running: Cluster):
    provider = migration.Provider(seed=1)
    signals: list[dict[str, str]] = []
    shop = migration.LegacyShop(provider, signals.append)
    body = b'{"event_id": "e", "payment_id": "baton:o", "type": "payment.captured"}'
    request = urllib.request.Request(shop.url, body, {"x-provider-signature": "0" * 64})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    assert refused.value.code == 401 and shop.refused == 1 and not signals
    shop.close()
