"""Checks every answer against the published schemas, and against our own where none is published.

The published schemas are not part of this project. They are looked for in `$BATON_AXP_SCHEMAS`, then in
`../shared/axp/schemas` beside the project; without them answers are checked against our own part only.

Where an answer carries more than its closed schema lists, the field is named below, per endpoint, with the reason.
A field that is not named is a failure.
"""

from __future__ import annotations

import json
import os
import re
from copy import deepcopy
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from jsonschema import Draft202012Validator, FormatChecker

from cluster import ROOT

FORMATS = FormatChecker(formats=())


@FORMATS.checks("uuid", raises=ValueError)
def _uuid(value: object) -> bool:
    return not isinstance(value, str) or str(UUID(value)) == value.lower()


@FORMATS.checks("date-time", raises=ValueError)
def _date_time(value: object) -> bool:
    if not isinstance(value, str):
        return True
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", value):
        return False
    datetime.fromisoformat(value.replace("Z", "+00:00"))
    return True


def folder() -> Path | None:
    """Where the published schemas are, if they are."""
    given = os.environ.get("BATON_AXP_SCHEMAS")
    candidates = [Path(given)] if given else [ROOT.parent / "shared/axp/schemas"]
    for candidate in candidates:
        if (candidate / "public_api").is_dir():
            return candidate
    return None


# Examples and quick starts read these at the root of `get_intent()`; no client refuses extra keys there.
INTENT_MIRRORS = {"": {"intent_id", "status", "lifecycle_status", "payload", "result"}}
# Clients read `address` (command line) or `agent_address` (schema); the mode is what the account was made with.
ACCOUNT = {
    "address",
    "agent_address",
    "display_name",
    "delivery_mode",
    "callback_url",
    "callback_secret_set_at",
    "callback_disabled_at",
    "callback_disabled_reason",
}
# Shown once, by the call that set it.
PUT_ACCOUNT = {"": {"callback_secret"}, "service_account": ACCOUNT}
# What a push came to, beside the published fields.
DELIVERY = {"intent_id", "callback_url", "attempts", "max_attempts", "last_status", "next_attempt_at"}

# method, path, name of the published schema, extra fields by place ("" is the root, "[]" each item of a list).
PUBLISHED: list[tuple[str, str, str, dict[str, set[str]]]] = [
    ("POST", r"/v1/intents", "api.intents.create.response", {}),
    ("GET", r"/v1/intents/[^/]+", "api.intents.get.response", INTENT_MIRRORS),
    ("GET", r"/v1/intents/[^/]+/events", "api.intents.events.list.response", {}),
    ("POST", r"/v1/intents/[^/]+/resolve", "api.intents.resolve.response", {}),
    # The response is a union of two published revisions and of what clients read by key.
    (
        "POST",
        r"/v1/scenarios/apply",
        "api.scenarios.bundle.response",
        {"": {"ok", "compile_id", "agents_provisioned", "warnings"}},
    ),
    ("GET", r"/v1/agents", "api.agents.list.response", {}),
    ("GET", r"/v1/agents/(?!.*/intents).+", "api.agents.get.response", {}),
    ("POST", r"/v1/service-accounts", "api.service_accounts.create.response", PUT_ACCOUNT),
    ("GET", r"/v1/service-accounts", "api.service_accounts.list.response", {"service_accounts[]": ACCOUNT}),
    ("GET", r"/v1/service-accounts/[^/]+", "api.service_accounts.get.response", {"service_account": ACCOUNT}),
    # Nothing is published for a change; clients read the same object.
    ("PATCH", r"/v1/service-accounts/[^/]+", "api.service_accounts.get.response", PUT_ACCOUNT),
    (
        "GET",
        r"/v1/deliveries",
        "api.deliveries.list.response",
        {"": {"next_cursor"}, "deliveries[]": DELIVERY},
    ),
    ("GET", r"/v1/deliveries/[^/]+", "api.deliveries.get.response", {"delivery": DELIVERY}),
    ("POST", r"/v1/deliveries/[^/]+/replay", "api.deliveries.replay.response", {"delivery": DELIVERY}),
    # The example runner reads the token as `api_key` at the root.
    ("POST", r"/v1/service-accounts/[^/]+/keys", "api.service_accounts.keys.create.response", {"": {"api_key"}}),
    ("POST", r"/v1/service-accounts/[^/]+/keys/[^/]+/revoke", "api.service_accounts.keys.revoke.response", {}),
    # A list of more than one page says where the next one begins.
    ("GET", r"/v1/me/tasks", "api.tasks.list.response", {"": {"next_cursor"}}),
    ("POST", r"/v1/approvals/[^/]+/decision", "api.approvals.decision.response", {}),
    ("POST", r"/v1/schemas", "api.schemas.upsert.response", {}),
    ("GET", r"/v1/schemas/[^/]+", "api.schemas.get.response", {}),
    ("GET", r"/v1/capabilities", "api.capabilities.get.response", {}),
    ("GET", r"/v1/inbox", "api.inbox.list.response", {}),
    ("GET", r"/v1/inbox/changes", "api.inbox.changes.response", {}),
    ("GET", r"/v1/inbox/(?!changes)[^/]+", "api.inbox.thread.response", {}),
    ("POST", r"/v1/inbox/[^/]+/(read|reply|delegate|approve|reject)", "api.inbox.thread.response", {}),
    ("POST", r"/v1/inbox/[^/]+/messages/delete", "api.inbox.messages.delete.response", {}),
]

STRING = {"type": "string", "minLength": 1}
INTENT = {
    "type": "object",
    "required": ["intent_id", "status", "lifecycle_status", "created_at", "intent_type", "correlation_id"],
}
APPLIED = {
    "type": "object",
    "additionalProperties": False,
    "required": ["ok", "applied", "policy_generation", "intent"],
    "properties": {
        "ok": {"const": True},
        "applied": {"type": "boolean"},
        "policy_generation": {"type": "integer", "minimum": 0},
        "intent": INTENT,
        "event": {"type": "object"},
        "completion_delivery": {"type": "object", "required": ["delivered"]},
    },
}
TEXTS = {"type": "array", "items": {"type": "string"}}
# Answers without a published schema.
OURS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", r"/v1/intents/[^/]+/(resume|controls|policy)", APPLIED),
    (
        "POST",
        r"/v1/scenarios/validate",
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["ok", "valid", "errors", "warnings"],
            "properties": {
                "ok": {"const": True},
                "valid": {"type": "boolean"},
                "errors": TEXTS,
                "warnings": TEXTS,
            },
        },
    ),
    (
        "GET",
        r"/(v1/)?health",
        {"type": "object", "required": ["ok", "service", "status", "deployment_profile", "storage", "registered_users"]},
    ),
    ("GET", r"/v1/me", {"type": "object", "required": ["ok", "address", "service_account", "org_id", "workspace_id"]}),
    (
        "GET",
        r"/v1/agents/.+/intents",
        {"type": "object", "required": ["ok", "intents", "next_cursor"], "properties": {"next_cursor": {"type": "integer"}}},
    ),
    (
        "GET",
        r"/v1/audit/events",
        {
            "type": "object",
            "required": ["ok", "events", "next_cursor", "has_more"],
            "properties": {
                "events": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": [
                            "event_id", "at", "action", "actor", "request_id", "trace_id", "endpoint", "method", "status_code",
                        ],
                        "properties": {"at": {"type": "string", "format": "date-time"}, "status_code": {"type": "integer"}},
                    },
                },
            },
        },
    ),
]
ERROR = {
    "type": "object",
    "required": ["ok", "error", "detail", "request_id"],
    "properties": {
        "ok": {"const": False},
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string", "pattern": "^[a-z_]+$"}, "message": STRING},
        },
        "detail": STRING,
        "request_id": STRING,
    },
}


@cache
def published(name: str) -> Draft202012Validator | None:
    base = folder()
    if base is None:
        return None
    schema = json.loads((base / "public_api" / f"{name}.v1.json").read_text())
    if name == "api.intents.events.list.response":
        # The published list forgot this status; the event schema and every client have it.
        schema["properties"]["events"]["items"]["properties"]["status"]["enum"].append("TIMED_OUT")
    if name == "api.tasks.list.response":
        # The product has forms; the published list forgot them.
        schema["$defs"]["HumanTaskSpec"]["properties"]["task_type"]["enum"].append("form")
    return Draft202012Validator(schema, format_checker=FORMATS)


@cache
def event_validator() -> Draft202012Validator | None:
    """One event as it is in lists and in `data:` lines of streams."""
    whole = published("api.intents.events.list.response")
    if whole is None:
        return None
    return Draft202012Validator(whole.schema["properties"]["events"]["items"], format_checker=FORMATS)


def without_extras(document: Any, extras: dict[str, set[str]]) -> Any:
    """The document without the fields that we decided to add."""
    document = deepcopy(document)
    for place, names in extras.items():
        if place == "":
            found = [document]
        elif place.endswith("[]"):
            found = document.get(place.removesuffix("[]"), [])
        else:
            found = [document.get(place)]
        for item in found:
            if isinstance(item, dict):
                for name in names:
                    item.pop(name, None)
    return document


def problems(validator: Draft202012Validator, document: Any) -> list[str]:
    return [f"{e.json_path}: {e.message[:300]}" for e in validator.iter_errors(document)]


def check_event(event: dict[str, Any]) -> None:
    validator = event_validator()
    if validator is not None:
        assert problems(validator, event) == [], event


def check_response(response: httpx.Response) -> None:
    """Fails when an answer is not what the surface promises. Streams and anything but JSON are not looked at."""
    path = response.request.url.path
    where = f"{response.request.method} {path} -> {response.status_code}"
    if path in ("/livez", "/readyz", "/startupz", "/metrics"):
        return
    assert response.headers.get("x-request-id"), f"{where}: no x-request-id"
    asked = response.request.headers.get("x-trace-id")
    if asked:
        assert response.headers.get("x-trace-id") == asked, f"{where}: x-trace-id is not echoed"
    if not response.headers.get("content-type", "").startswith("application/json"):
        assert response.headers.get("content-type", "").startswith("text/event-stream"), where
        return
    response.read()
    document = response.json()
    if response.status_code >= 400:
        assert problems(Draft202012Validator(ERROR), document) == [], f"{where}: {document}"
        return
    assert response.status_code == 200, f"{where}: a success is always 200"
    for method, pattern, name, extras in PUBLISHED:
        if method == response.request.method and re.fullmatch(pattern, path):
            validator = published(name)
            if validator is not None:
                found = problems(validator, without_extras(document, extras))
                assert found == [], f"{where} against {name}: {found}"
            return
    for method, pattern, schema in OURS:
        if method == response.request.method and re.fullmatch(pattern, path):
            found = problems(Draft202012Validator(schema, format_checker=FORMATS), document)
            assert found == [], f"{where}: {found}"
            return
