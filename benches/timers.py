#!/usr/bin/env python3
"""How late deadlines fire: arms many timers and compares each deadline with the event that it led to.

    benches/timers.py --target DIR/client.env [--timers 10000] [--spread-seconds 20] [--workers 32]

The cluster is one that `baton dev --data-dir DIR` runs. Every intent waits for an agent that does not exist and has a deadline of its own, all of them
within `--spread-seconds` and armed before the first one is due. Lateness is the time of `intent.timed_out` less the deadline,
both cluster time. Nothing but Python's standard library is needed.
"""

import argparse
import http.client
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from threading import local
from urllib.parse import urlsplit

AGENTS = 64
# Submits a second that even a small machine manages; the first deadline lies behind all of them.
SUBMITS_PER_SECOND = 250


class Api:
    """One connection for each thread."""

    def __init__(self, env):
        values = dict(
            line.removeprefix("export ").split("=", 1) for line in env.read_text().splitlines() if "=" in line
        )
        values = {name: value.strip("\"'") for name, value in values.items()}
        self.netloc = urlsplit(values["AXME_BASE_URL"]).netloc
        self.headers = {"x-api-key": values["AXME_API_KEY"], "content-type": "application/json"}
        self.local = local()

    def call(self, method, path, body=None):
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPConnection(self.netloc, timeout=30)
        connection = self.local.connection
        connection.request(method, path, body and json.dumps(body), self.headers)
        response = connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise SystemExit(f"{method} {path}: {response.status} {text.decode()}")
        return json.loads(text)


def rfc3339(seconds):
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--timers", type=int, default=10_000)
    parser.add_argument("--spread-seconds", type=float, default=20.0)
    parser.add_argument("--workers", type=int, default=32)
    arguments = parser.parse_args()
    api = Api(arguments.target)
    first = time.time() + 5 + arguments.timers / SUBMITS_PER_SECOND
    run = f"{random.getrandbits(32):08x}"

    def arm(n):
        deadline = first + random.random() * arguments.spread_seconds
        body = {
            "intent_type": "timers.armed.v1",
            "to_agent": f"timers-{run}-{n % AGENTS}",
            "payload": {"n": n},
            "deadline_at": rfc3339(deadline),
        }
        return api.call("POST", "/v1/intents", body)["intent_id"], round(deadline, 3)

    def lateness_ms(armed):
        intent_id, deadline = armed
        events = api.call("GET", f"/v1/intents/{intent_id}/events")["events"]
        ends = [event for event in events if event["event_type"] == "intent.timed_out"]
        if len(ends) != 1:
            raise SystemExit(f"{intent_id} has {len(ends)} ends by its deadline: {[e['event_type'] for e in events]}")
        at = datetime.fromisoformat(ends[0]["at"].replace("Z", "+00:00")).timestamp()
        return (at - deadline) * 1000

    with ThreadPoolExecutor(arguments.workers) as pool:
        armed = list(pool.map(arm, range(arguments.timers)))
    left = first - time.time()
    if left < 0:
        raise SystemExit(f"arming took {-left:.1f} s longer than planned: no figure")
    time.sleep(left + arguments.spread_seconds + 5)
    # Other threads: the nodes have closed the idle connections of the first ones.
    with ThreadPoolExecutor(arguments.workers) as pool:
        late = sorted(pool.map(lateness_ms, armed))
    at = lambda share: late[min(int(len(late) * share), len(late) - 1)]
    print(f"{len(late)} timers, all armed {left:.1f} s before the first was due, due within {arguments.spread_seconds:g} s")
    print(f"late by: p50 {at(0.5):.0f} ms, p99 {at(0.99):.0f} ms, worst {late[-1]:.0f} ms; earliest {late[0]:.0f} ms")


if __name__ == "__main__":
    main()
