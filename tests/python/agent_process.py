"""An agent as its author would write it: listen, fetch, resume. Everything it sees goes to a journal."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from axme_sdk import AxmeClient, AxmeClientConfig
from axme_sdk.exceptions import AxmeHttpError

ACTIONABLE = {"CREATED", "DELIVERED", "IN_PROGRESS"}


class Journal:
    """Lines survive the process, because each is written with one call."""

    def __init__(self, file: str) -> None:
        self._fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, kind: str, **fields: object) -> None:
        line = json.dumps({"kind": kind, "pid": os.getpid(), "at": time.time(), **fields})
        os.write(self._fd, line.encode() + b"\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--journal", required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--mode", default="complete", choices=["complete", "fail", "ignore", "hold", "die"])
    parser.add_argument("--wait-seconds", type=int, default=15)
    parser.add_argument("--cursor-file", help="go on after the last handled delivery instead of from the start")
    parser.add_argument("--with-key", action="store_true", help="resume with an idempotency key")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    journal = Journal(args.journal)
    client = AxmeClient(AxmeClientConfig(base_url=args.url, api_key=args.key))
    cursor_file = Path(args.cursor_file) if args.cursor_file else None
    since = int(cursor_file.read_text()) if cursor_file and cursor_file.exists() else 0
    journal.write("listening", since=since, address=args.address)
    for delivery in client.listen(args.address, since=since, wait_seconds=args.wait_seconds):
        journal.write(
            "delivery",
            cursor=delivery["seq"],
            intent_id=delivery["intent_id"],
            status=delivery["status"],
            attempt=delivery.get("delivery_attempt"),
            address=args.address,
        )
        handle(client, args, journal, delivery)
        if cursor_file is not None:
            # A rename, so that a kill leaves the old number or the new one.
            new = cursor_file.with_suffix(".new")
            new.write_text(str(delivery["seq"]))
            new.rename(cursor_file)


def handle(client: AxmeClient, args: argparse.Namespace, journal: Journal, delivery: dict) -> None:
    if args.mode == "ignore" or delivery["status"] not in ACTIONABLE:
        return
    intent_id = delivery["intent_id"]
    intent = client.get_intent(intent_id)["intent"]
    payload = intent["payload"].get("parent_payload", intent["payload"])
    journal.write("fetched", intent_id=intent_id, payload=payload, steps=intent["payload"].get("previous_results"))
    if args.mode == "die":
        os._exit(9)
    if args.mode == "hold":
        return
    result = {
        "action": "fail" if args.mode == "fail" else "complete",
        "order_id": payload.get("order_id"),
        "status": "captured",
        "transaction_id": f"txn-{intent_id}",
        "handled_by": args.address,
    }
    key = f"resume-{intent_id}-{os.getpid()}" if args.with_key else None
    try:
        answer = client.resume_intent(intent_id, result, owner_agent=args.address, idempotency_key=key)
    except AxmeHttpError as error:
        if error.status_code != 409:
            raise
        journal.write("conflict", intent_id=intent_id)
        return
    journal.write("resumed", intent_id=intent_id, status=answer["intent"]["status"])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
