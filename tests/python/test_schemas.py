"""The checker itself: it must find what it is there to find."""

from __future__ import annotations

import pytest

import schemas


def test_published_schemas_are_there():
    if schemas.folder() is None:
        pytest.skip("published schemas: not in $BATON_AXP_SCHEMAS nor ../shared/axp/schemas")
    for _, _, name, _ in schemas.PUBLISHED:
        assert schemas.published(name) is not None


def test_an_undecided_field_is_found():
    validator = schemas.published("api.intents.create.response")
    if validator is None:
        pytest.skip("published schemas: not present")
    good = {
        "ok": True,
        "intent_id": "018f4e9e-3c5a-8a5b-9c1d-1d2e3f4a5b6c",
        "status": "DELIVERED",
        "created_at": "2026-05-01T10:00:00.123Z",
    }
    assert schemas.problems(validator, good) == []
    assert schemas.problems(validator, {**good, "surprise": 1})
    assert schemas.problems(validator, {**good, "created_at": "yesterday"})
    assert schemas.problems(validator, {**good, "intent_id": "7"})


def test_decided_fields_are_taken_out_where_they_are_decided():
    document = {"ok": True, "payload": 1, "intent": {"payload": 2}, "items": [{"address": 3, "x": 4}]}
    kept = schemas.without_extras(document, {"": {"payload"}, "items[]": {"address"}})
    assert kept == {"ok": True, "intent": {"payload": 2}, "items": [{"x": 4}]}
