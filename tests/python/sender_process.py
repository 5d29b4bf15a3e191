"""A sender that goes on where its journal ends: submits, waits for the end, submits the next ones."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

from axme_sdk import AxmeClient, AxmeClientConfig
from axme_sdk.exceptions import AxmeHttpError

import payment
from agent_process import Journal

# Submitted before the first of them is waited for.
BATCH = 4


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--journal", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--addresses", required=True, help="separated by commas")
    parser.add_argument("--stop-file", required=True, help="no new submits once it exists")
    return parser.parse_args()


def past(file: str) -> tuple[int, dict[str, int], list[int]]:
    """Next number, accepted intents that are not known to have ended, keyed submits without an answer."""
    number, waiting, unanswered = 0, {}, []
    path = Path(file)
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    for line in map(json.loads, lines):
        if line["kind"] == "submitting":
            number = max(number, line["number"] + 1)
            if line["key"]:
                unanswered.append(line["number"])
        elif line["kind"] == "accepted":
            waiting[line["intent_id"]] = line["number"]
            if line["number"] in unanswered:
                unanswered.remove(line["number"])
        elif line["kind"] == "ended":
            waiting.pop(line["intent_id"], None)
    return number, waiting, unanswered


def main() -> None:
    args = arguments()
    number, waiting, unanswered = past(args.journal)
    journal = Journal(args.journal)
    client = AxmeClient(AxmeClientConfig(base_url=args.url, api_key=args.key, timeout_seconds=10.0))
    addresses = args.addresses.split(",")
    # A keyed write without an answer is repeated: it must become exactly one intent.
    for repeated in unanswered:
        submit(client, journal, args.name, addresses, repeated, waiting, repeat=True)
    while True:
        if not Path(args.stop_file).exists():
            for _ in range(BATCH):
                submit(client, journal, args.name, addresses, number, waiting, repeat=False)
                number += 1
        elif not waiting:
            journal.write("finished")
            return
        for intent_id in list(waiting):
            observe(client, journal, intent_id)
            del waiting[intent_id]


def submit(
    client: AxmeClient,
    journal: Journal,
    name: str,
    addresses: list[str],
    number: int,
    waiting: dict[str, int],
    repeat: bool,
) -> None:
    # All choices follow from name and number, so that a repeated write has the same body.
    rng = random.Random(f"{name}-{number}")
    address = rng.choice(addresses)
    key = f"{name}-{number}" if rng.random() < 0.5 else None
    if not repeat:
        journal.write("submitting", number=number, key=key, address=address)
    try:
        intent_id = client.send_intent(
            {
                "intent_type": payment.INTENT_TYPE,
                "to_agent": address,
                "payload": {**payment.PAYLOAD, "order_id": f"{name}-{number}"},
                # The most there is: nothing is to fail here, however often agents die.
                "max_delivery_attempts": 100,
            },
            correlation_id=str(uuid5(NAMESPACE_OID, f"{name}-{number}")),
            idempotency_key=key,
        )
    except AxmeHttpError as error:
        if error.status_code < 500:
            journal.write("refused", number=number, key=key, error=str(error))
        raise
    journal.write("accepted", number=number, intent_id=intent_id, key=key)
    waiting[intent_id] = number


def observe(client: AxmeClient, journal: Journal, intent_id: str) -> None:
    last = 0
    try:
        for event in client.observe(intent_id, timeout_seconds=120.0):
            if event["seq"] != last + 1:
                journal.write("bad_seq", intent_id=intent_id, after=last, got=event["seq"])
            last = event["seq"]
    except AxmeHttpError as error:
        if error.status_code == 404:
            journal.write("unknown", intent_id=intent_id)
        raise
    journal.write("ended", intent_id=intent_id, status=event["status"], seq=last)


if __name__ == "__main__":
    main()
