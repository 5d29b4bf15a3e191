"""Service accounts and keys: what is sent again under its key is done once, on every node and after failovers."""

from __future__ import annotations

from uuid import uuid4

import httpx
import pytest
from axme_sdk import AxmeServerError, AxmeValidationError

import payment
from clients import Workspace, client, http
from cluster import Cluster, until


def account(ws: Workspace, name: str) -> str:
    made = ws.client.create_service_account(
        {"org_id": ws.cluster.org_id, "workspace_id": ws.cluster.workspace_id, "name": name}
    )
    return made["service_account"]["service_account_id"]


def me(url: str, token: str) -> httpx.Response:
    with http(url, token) as plain:
        return plain.get("/v1/me")


def test_a_repeated_key_creation_shows_one_token_on_every_node(ws: Workspace):
    name = payment.fresh("keyed")
    account_id, key = account(ws, name), f"key-{uuid4()}"
    answers = [
        ws.node(n).create_service_account_key(account_id, {"name": "ci"}, idempotency_key=key) for n in (1, 2, 3, 1)
    ]
    assert all(answer == answers[0] for answer in answers)
    token = answers[0]["key"]["token"]
    for url in ws.cluster.urls:
        assert me(url, token).json()["service_account"]["service_account_id"] == account_id
    with pytest.raises(AxmeValidationError) as raised:
        ws.node(2).create_service_account_key(account_id, {"name": "cd"}, idempotency_key=key)
    assert raised.value.status_code == 409
    assert raised.value.body["detail"] == "idempotency key reused with different payload"
    other = ws.client.create_service_account_key(account_id, {"name": "ci"}, idempotency_key=f"key-{uuid4()}")
    plain = ws.client.create_service_account_key(account_id, {"name": "ci"})
    assert len({token, other["key"]["token"], plain["key"]["token"]}) == 3


def test_a_repeated_change_does_not_undo_a_later_one(ws: Workspace):
    account_id = account(ws, payment.fresh("patched"))

    def patch(node: int, display_name: str, key: str) -> httpx.Response:
        with http(ws.cluster.urls[node - 1], ws.cluster.key) as plain:
            content = {"display_name": display_name}
            path = f"/v1/service-accounts/{account_id}"
            return plain.patch(path, json=content, headers={"idempotency-key": key})

    first_key = f"patch-{uuid4()}"
    first = patch(1, "One", first_key)
    assert patch(2, "Two", f"patch-{uuid4()}").json()["service_account"]["display_name"] == "Two"
    again = patch(3, "One", first_key)
    assert (again.status_code, again.json()) == (200, first.json())
    conflict = patch(2, "Two", first_key)
    assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "idempotency_conflict")
    with http(ws.cluster.url, ws.cluster.key) as plain:
        now = plain.get(f"/v1/service-accounts/{account_id}").json()["service_account"]
    assert now["display_name"] == "Two"


def test_a_repeated_key_creation_outlives_every_leader():
    cluster = Cluster("accounts-failover", restart=True).start()
    try:
        admin = client(cluster.url, cluster.key)
        made = admin.create_service_account(
            {"org_id": cluster.org_id, "workspace_id": cluster.workspace_id, "name": "keyed"}
        )
        account_id = made["service_account"]["service_account_id"]
        first = admin.create_service_account_key(account_id, {}, idempotency_key="one-of-a-kind")
        for node in (1, 2, 3):
            killed = cluster.kill_node(node)
            survivor = client(cluster.urls[node % 3], cluster.key)

            def again() -> dict | None:
                try:
                    return survivor.create_service_account_key(account_id, {}, idempotency_key="one-of-a-kind")
                except (AxmeServerError, httpx.TransportError):
                    # No leader yet.
                    return None

            assert until("the answer of a new leader", again) == first
            cluster.wait_restarted(node, killed)
        assert me(cluster.url, first["key"]["token"]).status_code == 200
    finally:
        cluster.stop()
