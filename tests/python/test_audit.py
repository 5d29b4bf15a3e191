"""Audit chains on three real nodes: what people did is recorded, stays through the death of a node, and tampering is found."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from clients import Workspace, http
from cluster import BATON, Cluster, environment, group_of, leader_of
from test_tasks import answered, asking, patiently

NAMES = (
    "workspace_id group_id sequence at_ms action actor actor_kind actor_label key_id owner_agent request_id trace_id "
    "endpoint method status_code target_type target_id"
).split()


def field(value: object) -> bytes:
    data = str(value).encode()
    return len(data).to_bytes(4, "big") + data


def empty(workspace_id: str, group_id: int) -> bytes:
    return hashlib.sha256(field("baton.audit.v1") + field(workspace_id) + field(group_id)).digest()


def sealed(previous: bytes, event: dict[str, Any]) -> bytes:
    """The recipe of docs/audit.md, without any code of the server."""
    parts: list[object] = ["baton.audit.v1", *(event[name] for name in NAMES)]
    for name in sorted(event["details"], key=str.encode):
        parts += [name, event["details"][name]]
    return hashlib.sha256(previous + b"".join(map(field, parts))).digest()


def every_event(plain: httpx.Client, **filters: str) -> list[dict[str, Any]]:
    """Newest first."""
    found, cursor = [], None
    while True:
        params = {"limit": "7", **filters, **({"cursor": cursor} if cursor else {})}
        page = patiently(lambda: plain.get("/v1/audit/events", params=params)).json()
        found += page["events"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def heads(plain: httpx.Client) -> list[dict[str, Any]]:
    return patiently(lambda: plain.get("/v1/audit/heads")).json()["heads"]


def check_chains(events: list[dict[str, Any]], chains: list[dict[str, Any]]) -> None:
    """Every chain leads from its anchor to its head."""
    for head in chains:
        own = [e for e in reversed(events) if e["group_id"] == head["group_id"] and e["sequence"] <= head["sequence"]]
        assert [e["sequence"] for e in own] == list(range(head["anchor"]["sequence"] + 1, head["sequence"] + 1))
        hashed = empty(head["workspace_id"], head["group_id"])
        assert head["anchor"]["hash"] == hashed.hex()
        for event in own:
            assert event["previous_hash"] == hashed.hex()
            hashed = sealed(hashed, event)
            assert event["hash"] == hashed.hex()
        assert head["hash"] == hashed.hex()


def baton(cluster: Cluster, *args: str) -> subprocess.CompletedProcess[str]:
    command = [str(BATON), "audit", *args, "--timeout", "30s"]
    env = environment(BATON_ENDPOINTS=",".join(cluster.urls), BATON_API_KEY=cluster.key, XDG_CONFIG_HOME="/nonexistent")
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def audited():
    cluster = Cluster("audit", restart=True).start()
    yield cluster
    cluster.stop()


def decide(plain: httpx.Client, outcome: str) -> str:
    created = patiently(lambda: plain.post("/v1/intents", json=asking({})))
    intent_id = created.json()["intent_id"]
    body = {"task_result": {"outcome": outcome, "comment": "seen"}, "actor": "ann@example.com"}
    patiently(lambda: answered(plain, intent_id, body))
    return intent_id


def administer(plain: httpx.Client, name: str) -> None:
    account = patiently(lambda: plain.post("/v1/service-accounts", json={"name": name})).json()["service_account"]
    path = f"/v1/service-accounts/{account['service_account_id']}/keys"
    key = patiently(lambda: plain.post(path, json={})).json()["key"]
    patiently(lambda: plain.post(f"{path}/{key['key_id']}/revoke"))


def test_who_approved_what_survives_a_node_and_shows_tampering(audited: Cluster, tmp_path: Path):
    with http(audited.urls[0], audited.key) as plain:
        approved = [decide(plain, "approved") for _ in range(3)]
        administer(plain, "before-the-kill")
        earlier = tmp_path / "heads.json"
        kept = baton(audited, "heads", "-o", "json")
        assert kept.returncode == 0, kept.stderr
        earlier.write_text(kept.stdout)
    victim = leader_of(audited, group_of(approved[0]))
    survivor = next(n for n in (1, 2, 3) if n != victim)
    old_pid = audited.kill_node(victim)
    with http(audited.urls[survivor - 1], audited.key) as plain:
        rejected = decide(plain, "rejected")
        administer(plain, "after-the-kill")
    audited.wait_restarted(victim, old_pid)
    seen = []
    for url in audited.urls:
        with http(url, audited.key) as plain:
            events, chains = every_event(plain), heads(plain)
            check_chains(events, chains)
            seen.append((events, chains))
    assert seen[0] == seen[1] == seen[2], "every node shows the same chains"
    answers = {e["target_id"]: e for e in seen[0][0] if e["action"] == "task.answered"}
    assert set(answers) == {*approved, rejected}
    assert answers[rejected]["details"]["outcome"] == "rejected"
    for event in answers.values():
        assert (event["actor_label"], event["actor_kind"], event["status_code"]) == ("ann@example.com", "operator", 200)
        assert event["request_id"].startswith("req_") and event["key_id"]
    actions = [e["action"] for e in seen[0][0] if e["action"] != "task.answered"]
    assert sorted(actions) == sorted(2 * ["service_account.created", "key.created", "key.revoked"])
    whole = baton(audited, "verify", "--against", str(earlier))
    assert whole.returncode == 0, whole.stderr
    every = baton(audited, "verify", "--all-workspaces")
    assert every.returncode == 0, every.stderr
    export = tmp_path / "audit.jsonl"
    written = baton(audited, "export", "--out", str(export))
    assert written.returncode == 0, written.stderr
    assert baton(audited, "verify", "--file", str(export), "--against", str(earlier)).returncode == 0
    tamper(audited, export, earlier)


def tamper(cluster: Cluster, export: Path, earlier: Path) -> None:
    first, *lines = export.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if json.loads(line)["action"] == "task.answered")
    group = json.loads(lines[at])["group_id"]
    turned = [i for i, line in enumerate(lines) if json.loads(line)["group_id"] == 0][:2]
    changed = [
        [*lines[:at], lines[at].replace('"seen"', '"x"').replace('"outcome":"', '"outcome":"not '), *lines[at + 1 :]],
        [*lines[:at], *lines[at + 1 :]],
        [*lines[:at], lines[at], *lines[at:]],
        swapped(lines, *turned),
    ]
    for other in changed:
        assert other != lines
        file = export.with_name("changed.jsonl")
        file.write_text("\n".join([first, *other]) + "\n")
        found = baton(cluster, "verify", "--file", str(file))
        assert found.returncode == 1, found.stdout
        assert "event" in found.stderr and "group" in found.stderr, found.stderr
    # A chain that was cut together with its head shows only beside heads that were kept elsewhere.
    cut = json.loads(first)
    cut["heads"] = [head for head in cut["heads"] if head["group_id"] != group]
    kept = [line for line in lines if json.loads(line)["group_id"] != group]
    file = export.with_name("cut.jsonl")
    file.write_text("\n".join([json.dumps(cut), *kept]) + "\n")
    assert baton(cluster, "verify", "--file", str(file)).returncode == 0
    found = baton(cluster, "verify", "--file", str(file), "--against", str(export))
    assert found.returncode == 1 and "gone" in found.stderr, found.stderr
    assert baton(cluster, "verify", "--file", str(file), "--against", str(file)).returncode == 0


def swapped(lines: list[str], a: int, b: int) -> list[str]:
    other = list(lines)
    other[a], other[b] = lines[b], lines[a]
    return other


def test_retention_of_a_workspace_is_set_everywhere(ws: Workspace):
    path = f"/v1/workspaces/{ws.cluster.workspace_id}/retention"
    month_ms = 30 * 24 * 3_600_000
    with http(ws.cluster.urls[0], ws.cluster.key) as first, http(ws.cluster.urls[2], ws.cluster.key) as third:
        assert first.get(path).json()["retention"]["inherited"]
        changed = first.put(path, json={"terminal_retention_ms": month_ms})
        assert changed.status_code == 200, changed.text
        assert third.get(path).json() == changed.json()
        short = third.put(path, json={"terminal_retention_ms": 3_600_000})
        assert short.status_code == 422 and "idempotency" in short.json()["detail"]
        set_events = every_event(third, action_prefix="workspace.")
        assert [e["action"] for e in set_events] == ["workspace.retention_set"]
        assert third.delete(path).json()["retention"]["inherited"]
