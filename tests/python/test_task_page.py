"""The page of a human task in a real browser without scripts, and the messages that bring people there."""

from __future__ import annotations

import json
import re
import time
from email.message import EmailMessage
from typing import Any, Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from standardwebhooks import Webhook

from browser import fits, focused, launched, page_of, shoot, tab_to
from clients import event_types, http
from cluster import Cluster, scratch, until
from mail_server import MailServer
from receiver import Receiver
from test_tasks import group_of, leader_of

PUBLIC_URL = "https://baton.test"
PAUSE_MS = 500
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def mail() -> Iterator[MailServer]:
    server = MailServer(scratch("task-page-mail")).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def mailing(mail: MailServer) -> Iterator[Cluster]:
    """Three nodes that send mails."""
    settings = {**mail.settings, "notifier_public_url": PUBLIC_URL, "notifier_retry_schedule_ms": PAUSE_MS}
    cluster = Cluster("task-page", restart=True, **settings)
    yield cluster.start()
    cluster.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from launched()


@pytest.fixture
def api(mailing: Cluster) -> Iterator[httpx.Client]:
    with http(mailing.url, mailing.key) as client:
        yield client


def somebody() -> str:
    """A fresh address, so that every test reads its own mails."""
    return f"boss-{uuid4().hex[:8]}@example.com"


def ask(api: httpx.Client, task: dict[str, Any], **settings: Any) -> str:
    body = {
        "intent_type": "deploy.approval.v1",
        "correlation_id": str(uuid4()),
        "from_agent": "agent://acme/prod/ci",
        "to_agent": "agent://agent_core",
        "payload": {"build": 7},
        "human_task": task,
        **settings,
    }
    created = api.post("/v1/intents", json=body)
    assert created.status_code == 200, created.text
    return created.json()["intent_id"]


def intent(api: httpx.Client, intent_id: str) -> dict[str, Any]:
    return api.get(f"/v1/intents/{intent_id}").json()["intent"]


def events(api: httpx.Client, intent_id: str) -> list[dict[str, Any]]:
    return api.get(f"/v1/intents/{intent_id}/events").json()["events"]


def links(mail: EmailMessage) -> list[str]:
    """Paths of the links in a mail, in both of its forms alike."""
    plain = mail.get_body(("plain",)).get_content()
    marked_up = mail.get_body(("html",)).get_content()
    found = re.findall(re.escape(PUBLIC_URL) + r"(\S+)", plain)
    assert found and all(f'href="{PUBLIC_URL}{path}"' in marked_up for path in found)
    return found


def at(cluster: Cluster, node: int, path: str) -> str:
    return cluster.urls[node % cluster.count] + path


def test_a_mailed_yes_or_no_is_answered_by_keyboard(api, mailing: Cluster, mail: MailServer, browser) -> None:
    boss = somebody()
    task = {
        "title": "Ship build 7 to production?",
        "description": "All checks are green.\nThe change log has 14 entries, two of them migrations.",
        "assignees": [boss],
    }
    intent_id = ask(api, task)
    (letter,) = mail.wait_for(boss)
    assert letter["subject"] == "Your answer is needed: Ship build 7 to production?"
    assert letter["auto-submitted"] == "auto-generated"
    assert letter["from"] == "Baton <baton@example.com>"
    assert letter["message-id"] == f"<{intent_id}-1@example.com>"
    approve, reject, page_path = links(letter)
    assert (approve, reject) == (page_path + "?answer=approved", page_path + "?answer=rejected")

    page = page_of(browser)
    page.goto(at(mailing, 1, reject))
    assert page.locator("h1").inner_text() == "Ship build 7 to production?"
    shoot(page, "task-yes-no")
    assert focused(page) == "Reject", "the suggested answer has the keyboard"
    assert intent(api, intent_id)["status"] == "WAITING", "opening a link answers nothing"
    page.keyboard.press("Shift+Tab")
    assert focused(page) == "Approve"
    page.keyboard.press("Enter")
    page.wait_for_load_state()
    assert page.locator("h1").inner_text() == "Thank you"
    shoot(page, "task-thanks")
    ended = intent(api, intent_id)
    assert (ended["status"], ended["result"]["outcome"]) == ("COMPLETED", "approved")
    started = next(e for e in events(api, intent_id) if e["event_type"] == "intent.in_progress")
    assert (started["actor"], started["details"]["by_link"]) == (boss, True)

    # The link is spent, on every node.
    for node in range(3):
        answer = page.goto(at(mailing, node, approve))
        assert answer.status == 410
        assert page.locator("h1").inner_text() == "Already answered"
        assert boss in page.locator("dl").inner_text()
    shoot(page, "task-answered")
    assert httpx.post(at(mailing, 2, page_path), data={"outcome": "rejected"}).status_code == 409
    assert intent(api, intent_id)["result"]["outcome"] == "approved"
    assert all(urlsplit(url).path.startswith("/t/") for url in page.loaded), page.loaded
    assert not [text for text in page.refusals if "Content Security Policy" in text], page.refusals


FORM = {
    "type": "object",
    "required": ["grant_duration_days", "scope_confirmed", "reason"],
    "properties": {
        "grant_duration_days": {
            "type": "integer",
            "minimum": 1,
            "maximum": 90,
            "title": "Days of access",
            "description": "How long the account may be used.",
        },
        "scope_confirmed": {"type": "boolean", "title": "I have checked the scope"},
        "environment": {"enum": ["staging", "production"], "default": "staging"},
        "reason": {"type": "string", "maxLength": 500},
        "systems": {"type": "array", "items": {"enum": ["database", "queue", "dashboards"]}},
        "owner": {
            "type": "object",
            "title": "Who owns the account",
            "required": ["name"],
            "properties": {"name": {"type": "string"}, "phone": {"type": "string"}},
        },
    },
}


def test_a_form_on_a_phone_keeps_what_was_written_until_it_fits(api, mailing, mail, browser) -> None:
    boss = somebody()
    task = {
        "title": "Grant access to the billing account",
        "description": "A contractor needs it for the migration.",
        "task_type": "form",
        "form_schema": FORM,
        "required_comment": True,
        "notify_email": boss,
        "allowed_outcomes": ["approved", "rejected"],
    }
    # As written: the order of the fields is the order of the schema.
    body = json.dumps(
        {
            "intent_type": "access.v1",
            "correlation_id": str(uuid4()),
            "from_agent": "agent://acme/prod/iam",
            "to_agent": "agent://agent_core",
            "payload": {},
            "human_task": task,
        }
    )
    created = api.post("/v1/intents", content=body, headers={"content-type": "application/json"})
    intent_id = created.json()["intent_id"]
    (letter,) = mail.wait_for(boss)
    (path,) = links(letter)
    page = page_of(browser, phone=True)
    page.goto(at(mailing, 2, path))
    shoot(page, "form-phone")
    assert fits(page)
    labels = [label.split(" (")[0] for label in page.locator("label:not(.option), legend").all_inner_texts()]
    assert labels[:6] == [
        "Days of access",
        "I have checked the scope",
        "Environment",
        "Reason",
        "Systems",
        "Who owns the account",
    ]
    page.get_by_label("Days of access").fill("365")
    # Enter in a line of text must not press an answer.
    page.keyboard.press("Enter")
    page.get_by_label("Reason").fill("Migration of <b>all</b> invoices")
    page.get_by_label("queue").check()
    page.get_by_role("button", name="Approve").click()
    page.wait_for_load_state()
    assert focused(page).startswith("Your answer is not complete yet")
    shoot(page, "form-phone-errors")
    assert fits(page)
    said = page.locator(".problems a").all_inner_texts()
    assert said == [
        "Days of access: Must be at most 90.",
        "I have checked the scope: This is required.",
        "Comment: Write a comment.",
    ], said
    for link in page.locator(".problems a").all():
        assert page.locator(f"[id='{link.get_attribute('href')[1:]}']").count() == 1
    assert page.get_by_label("Reason").input_value() == "Migration of <b>all</b> invoices"
    assert page.get_by_label("queue").is_checked()
    assert page.get_by_label("Days of access").get_attribute("aria-invalid") == "true"
    assert intent(api, intent_id)["status"] == "WAITING"
    page.get_by_label("Days of access").fill("30")
    page.get_by_label("Yes").check()
    page.get_by_role("textbox", name="Comment").fill("for the migration only")
    page.get_by_label("Name").fill("Ada")
    page.get_by_role("button", name="Approve").click()
    page.wait_for_load_state()
    assert page.locator("h1").inner_text() == "Thank you"
    shoot(page, "thanks-phone")
    result = intent(api, intent_id)["result"]["task_result"]
    assert result["data"] == {
        "grant_duration_days": 30,
        "scope_confirmed": True,
        "environment": "staging",
        "reason": "Migration of <b>all</b> invoices",
        "systems": ["queue"],
        "owner": {"name": "Ada"},
    }


def test_a_form_by_keyboard_in_the_dark(api, mailing, mail, browser) -> None:
    boss = somebody()
    form = {"type": "object", "required": ["sure"], "properties": {"sure": {"type": "boolean", "title": "Are you sure"}}}
    intent_id = ask(api, {"title": "Delete the old cluster", "form_schema": form, "assignees": [boss]})
    (path,) = links(mail.wait_for(boss)[0])
    page = page_of(browser, dark=True)
    page.goto(at(mailing, 0, path))
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    tab_to(page, "Reject")
    shoot(page, "form-dark-keyboard")
    page.keyboard.press("Enter")
    page.wait_for_load_state()
    assert page.locator("h1").inner_text() == "Thank you"
    assert intent(api, intent_id)["result"]["task_result"]["data"] == {"sure": True}


def test_forged_and_late_links_open_nothing(api, mailing, mail, browser) -> None:
    boss = somebody()
    intent_id = ask(api, {"title": "Soon over", "assignees": [boss]}, deadline_at=in_seconds(6))
    path = links(mail.wait_for(boss)[0])[-1]
    page = page_of(browser, phone=True)
    forged = path[:-6] + ("A" * 6 if not path.endswith("A" * 6) else "B" * 6)
    assert page.goto(at(mailing, 1, forged)).status == 404
    assert page.locator("h1").inner_text() == "This link is not valid"
    shoot(page, "forged-phone")
    assert httpx.post(at(mailing, 1, forged), data={"outcome": "approved"}).status_code == 404
    until("the deadline", lambda: intent(api, intent_id)["status"] == "TIMED_OUT")
    assert page.goto(at(mailing, 1, path)).status == 410
    assert page.locator("h1").inner_text() == "This link has expired", "as its deadline was that of the question"
    assert httpx.post(at(mailing, 1, path), data={"outcome": "approved"}).status_code == 410


def in_seconds(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def step(**settings: Any) -> dict[str, Any]:
    return {"tool_id": "tool.human.approval.v1", "assigned_to": "boss", **settings}


def scenario(api: httpx.Client, boss: str, steps: list[dict[str, Any]]) -> str:
    bundle = {
        "scenario_id": "task.page.v1",
        "agents": [],
        "humans": [{"role": "boss", "contact": boss, "display_name": "The boss"}],
        "workflow": {"steps": steps},
        "intent": {"type": "intent.page.v1", "payload": {}},
    }
    applied = api.post("/v1/scenarios/apply", json=bundle)
    assert applied.status_code == 200, applied.text
    return applied.json()["intent_id"]


def test_a_link_expires_with_its_deadline_and_the_escalation_brings_another(api, mailing, mail, browser) -> None:
    boss, chief = somebody(), somebody()
    asked = step(step_id="ask", step_deadline_seconds=8, escalate_to=chief, human_task={"title": "Pay the invoice?"})
    intent_id = scenario(api, boss, [asked])
    first = links(mail.wait_for(boss)[0])[-1]
    (escalated,) = mail.wait_for(chief)
    assert escalated["subject"] == "Escalated to you: Pay the invoice?"
    page = page_of(browser)
    assert page.goto(at(mailing, 1, first)).status == 410
    assert page.locator("h1").inner_text() == "This link has expired"
    shoot(page, "expired")
    assert httpx.post(at(mailing, 1, first), data={"outcome": "approved"}).status_code == 410
    answered = httpx.post(at(mailing, 2, links(escalated)[-1]), data={"outcome": "approved"})
    assert answered.status_code == 200, answered.text
    until("the end", lambda: intent(api, intent_id)["status"] == "COMPLETED")


def test_reminders_are_mailed_until_somebody_answers(api, mailing, mail) -> None:
    boss = somebody()
    intent_id = ask(
        api,
        {"title": "Still there?", "assignees": [boss]},
        remind_after_seconds=2,
        remind_interval_seconds=60,
        max_reminders=2,
    )
    first, second = mail.wait_for(boss, 2)
    assert second["subject"] == "Reminder 1: Still there?"
    assert first["message-id"] != second["message-id"]
    answered = httpx.post(at(mailing, 0, links(first)[-1]), data={"outcome": "approved"})
    assert answered.status_code == 200, "the older link works as long as the question is open"
    assert event_types(events(api, intent_id)).count("reminder") == 1


def test_a_notification_step_goes_to_its_channels(api, mailing, mail) -> None:
    boss = somebody()
    notify = {
        "step_id": "tell",
        "tool_id": "tool.internal.notification",
        "input": {"channels": [boss, "pager"], "subject": "Deploy of {{intent_id}}", "body": "It begins now."},
    }
    intent_id = scenario(api, somebody(), [notify, step(step_id="ask", human_task={"title": "Go on?"})])
    (told,) = mail.wait_for(boss)
    assert told["subject"] == f"Deploy of {intent_id}"
    assert "It begins now." in told.get_body(("plain",)).get_content()
    failed = until(
        "the channel that no mail reaches",
        lambda: [e for e in events(api, intent_id) if e["event_type"] == "intent.notification_failed"],
    )
    assert [e["details"]["recipient"] for e in failed] == ["pager"]
    assert "no mail address" in failed[0]["details"]["reason"]
    assert failed[0]["status"] == "WAITING"


def test_a_lost_leader_and_a_dead_mail_server_lose_no_mail(api, mailing: Cluster, mail: MailServer) -> None:
    boss = somebody()
    mail.stop()
    intent_id = ask(api, {"title": "Nobody hears this yet", "assignees": [boss]})
    leader = leader_of(mailing, group_of(intent_id))
    # Everybody else is served while mails cannot be sent.
    assert api.get("/v1/me/tasks").status_code == 200
    other = (leader % 3) + 1

    def led_by() -> int | None:
        groups = mailing.operator(other, "status").json()["groups"]
        return next(g["leader"] for g in groups if g["group"] == group_of(intent_id))

    before = led_by()
    was = mailing.kill_node(leader)
    until("another leader", lambda: led_by() not in (None, before))
    mail.start()
    mails = mail.wait_for(boss, seconds=60)
    mailing.wait_restarted(leader, was)
    mailing.wait_all_ready()
    assert len({letter["message-id"] for letter in mail.to(boss)}) == 1
    answered = httpx.post(at(mailing, leader - 1, links(mails[0])[-1]), data={"outcome": "rejected"})
    assert answered.status_code == 200
    assert intent(api, intent_id)["result"]["outcome"] == "rejected"


def test_an_endpoint_gets_signed_messages() -> None:
    receiver = Receiver(lambda n: 503 if n == 0 else 204)
    secret = scratch("task-page-hook-secret") / "secret"
    secret.write_text(SECRET + "\n")
    cluster = Cluster(
        "task-page-hook",
        nodes=1,
        notifier_kind="http",
        notifier_public_url=PUBLIC_URL,
        notifier_http_url=receiver.url,
        notifier_http_secret_file=secret,
        notifier_retry_schedule_ms=PAUSE_MS,
    ).start()
    try:
        with http(cluster.url, cluster.key) as api:
            boss = somebody()
            intent_id = ask(api, {"title": "Ship it?", "assignees": [boss, "a-role"]})
            until("the second attempt", lambda: len(receiver.posts) >= 2)
            first, second = receiver.posts[:2]
            assert first.headers["webhook-id"] == second.headers["webhook-id"] == f"{intent_id}-1"
            message = Webhook(SECRET).verify(second.raw, second.headers)
            assert (message["type"], message["to"], message["title"]) == ("task.assigned", boss, "Ship it?")
            assert set(message["answers"]) == {"approved", "rejected"}
            path = message["link"].removeprefix(PUBLIC_URL)
            assert httpx.post(at(cluster, 0, path), data={"outcome": "approved"}).status_code == 200
            assert intent(api, intent_id)["status"] == "COMPLETED"
    finally:
        cluster.stop()
        receiver.close()
