"""One business flow, twice: order, payment at a provider that calls back, fulfilment.

`LegacyShop` is the classic kind: an HTTP server that checks signatures, an idempotency table, a retry loop. `BatonShop` is the
same flow with Baton. The provider knows one callback address, the legacy one; what is for Baton goes on from there as a signal.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import queue
import random
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable
from uuid import NAMESPACE_URL, uuid4, uuid5

import httpx
from axme_sdk import AxmeClient, AxmeClientConfig
from axme_sdk.exceptions import AxmeHttpError

SECRET = b"provider-secret"
INTENT_TYPE = "intent.order.process.v1"
PLACED, REQUESTED, FULFILLED, CANCELED = "order placed", "payment requested", "fulfilled", "canceled"


def signature(body: bytes) -> str:
    return hmac.new(SECRET, body, hashlib.sha256).hexdigest()


class Provider:
    """Captures or declines a payment some time after it was asked for, and says so: late, more than once, out of order."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._asked: set[str] = set()
        self._threads: list[threading.Thread] = []
        self.callback_url = ""
        self.posts = 0

    def request(self, payment_id: str, declined: bool) -> None:
        """Repeated, it is the same payment."""
        with self._lock:
            if payment_id in self._asked:
                return
            self._asked.add(payment_id)
            outcome = "payment.declined" if declined else "payment.captured"
            events = [("payment.pending", 1), (outcome, self._random.randint(1, 3))]
            plan = []
            for kind, copies in events:
                event = {"event_id": str(uuid4()), "payment_id": payment_id, "type": kind}
                plan += [(self._random.uniform(0.0, 0.4), event) for _ in range(copies)]
        for delay, event in plan:
            thread = threading.Thread(target=self._tell, args=(delay, event), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _tell(self, delay: float, event: dict[str, str]) -> None:
        body = json.dumps(event).encode()
        time.sleep(delay)
        while True:
            request = urllib.request.Request(self.callback_url, body, {"x-provider-signature": signature(body)})
            with self._lock:
                self.posts += 1
            try:
                with urllib.request.urlopen(request, timeout=30):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)

    def join(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
            assert not thread.is_alive(), "a callback was not taken"


class LegacyShop:
    """The stack that is to be replaced."""

    def __init__(self, provider: Provider, forward: Callable[[dict[str, str]], None]) -> None:
        self._provider = provider
        self._forward = forward
        self._lock = threading.Lock()
        self._seen: set[str] = set()  # the idempotency table
        self._jobs: queue.Queue[tuple[str, int] | None] = queue.Queue()  # the retry loop's
        self.history: dict[str, list[str]] = {}
        self.refused = 0
        shop = self

        class Ingress(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self.send_response(shop._take(body, self.headers.get("x-provider-signature", "")))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Ingress)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/webhooks/payment"
        for target in (self._server.serve_forever, self._retry_loop):
            threading.Thread(target=target, daemon=True).start()

    def place(self, order_id: str, declined: bool) -> None:
        self.history[order_id] = [PLACED, REQUESTED]
        self._provider.request(f"legacy:{order_id}", declined)

    def _take(self, body: bytes, given: str) -> int:
        if not hmac.compare_digest(given, signature(body)):
            self.refused += 1
            return 401
        event = json.loads(body)
        way, order_id = event["payment_id"].split(":", 1)
        if way == "baton":
            # Baton deduplicates; the provider tells it again if this fails.
            try:
                self._forward(event)
            except Exception:
                return 503
            return 200
        with self._lock:
            if event["event_id"] in self._seen:
                return 200
            self._seen.add(event["event_id"])
            if event["type"] != "payment.pending":
                self.history[order_id].append(event["type"].replace(".", " "))
                self._jobs.put((order_id, 0))
        return 200

    def _retry_loop(self) -> None:
        while (job := self._jobs.get()) is not None:
            order_id, failures = job
            if failures == 0 and len(order_id) % 2 == 0:  # the warehouse is down now and then
                threading.Timer(0.05, self._jobs.put, [(order_id, failures + 1)]).start()
                continue
            paid = self.history[order_id][-1] == "payment captured"
            self.history[order_id].append(FULFILLED if paid else CANCELED)

    def close(self) -> None:
        self._jobs.put(None)
        self._server.shutdown()
        self._server.server_close()


class Nodes:
    """The published client, with another node when one does not answer."""

    def __init__(self, urls: list[str], key: str) -> None:
        self._clients = [AxmeClient(AxmeClientConfig(base_url=url, api_key=key)) for url in urls]
        self._turn = itertools.count()

    def next(self) -> AxmeClient:
        return self._clients[next(self._turn) % len(self._clients)]

    def call(self, name: str, *args: Any, seconds: float = 60.0, **more: Any) -> Any:
        """Repeats what may be repeated; a refusal is raised."""
        until = time.monotonic() + seconds
        while True:
            try:
                return getattr(self.next(), name)(*args, **more)
            except AxmeHttpError as error:
                if error.status_code not in (429, 503, 504) or time.monotonic() > until:
                    raise
            except (httpx.HTTPError, OSError):
                if time.monotonic() > until:
                    raise
            time.sleep(0.05)


class BatonShop:
    """The same flow: an agent, and a signal that comes in by the ingress that is there already."""

    def __init__(self, nodes: Nodes, address: str, workspace: Nodes, provider: Provider) -> None:
        self._agent = nodes
        self._workspace = workspace
        self._address = address
        self._provider = provider
        self._stop = threading.Event()
        self.intents: dict[str, str] = {}
        self.shipped: list[str] = []
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def place(self, order_id: str, declined: bool) -> None:
        order = {"intent_type": INTENT_TYPE, "to_agent": self._address, "payload": {"order_id": order_id, "declined": declined}}
        # Every try is the same request, its correlation id included.
        keys = {"idempotency_key": f"order-{order_id}", "correlation_id": str(uuid5(NAMESPACE_URL, order_id))}
        self.intents[order_id] = self._workspace.call("send_intent", order, **keys)

    def signal(self, event: dict[str, str]) -> None:
        """What the legacy ingress does with a callback for Baton: workspace key, in the agent's name, keyed by the event."""
        order_id, key = event["payment_id"].split(":", 1)[1], event["event_id"]
        scope = {"owner_agent": self._address}
        intent_id = self.intents[order_id]
        if event["type"] == "payment.pending":
            return
        if event["type"] == "payment.declined":
            body = {"status": "FAILED", "reason": "payment declined"}
            self._workspace.call("resolve_intent", intent_id, body, idempotency_key=f"{key}-end", **scope)
            return
        paid = {"controls_patch": {"payment": event}}
        self._workspace.call("update_intent_controls", intent_id, paid, idempotency_key=f"{key}-paid", **scope)
        go_on = {"approve_current_step": True, "reason": "payment captured"}
        self._workspace.call("resume_intent", intent_id, go_on, idempotency_key=f"{key}-go", **scope)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                for delivery in self._agent.next().listen(self._address, wait_seconds=2):
                    if self._stop.is_set():
                        return
                    self._handle(delivery["intent_id"])
            except (AxmeHttpError, httpx.HTTPError, OSError):
                time.sleep(0.1)  # another node, from the start: what is open comes again

    def _handle(self, intent_id: str) -> None:
        intent = self._agent.call("get_intent", intent_id)["intent"]
        order_id = intent["payload"]["order_id"]
        scope = {"owner_agent": self._address}
        try:
            if "payment" in intent.get("controls", {}):
                if order_id not in self.shipped:
                    self.shipped.append(order_id)
                done = {"action": "complete", "order_id": order_id, "shipped": True}
                self._agent.call("resume_intent", intent_id, done, idempotency_key=f"{intent_id}-done", **scope)
            elif intent["status"] == "DELIVERED":
                # Said before the provider is asked, so that its answer cannot come first.
                wait = {"action": "wait", "waiting_reason": "WAITING_FOR_TOOL", "tool": "payment-provider", "reason": REQUESTED}
                self._agent.call("resume_intent", intent_id, wait, idempotency_key=f"{intent_id}-wait", **scope)
                self._provider.request(f"baton:{order_id}", intent["payload"]["declined"])
        except AxmeHttpError as error:
            if error.status_code != 409:  # it is over by now
                raise

    def steps(self, events: list[dict[str, Any]]) -> list[str]:
        """The business steps in an event log."""
        found = []
        for event in events:
            reason = event["details"].get("reason", "")
            match event["event_type"]:
                case "intent.created":
                    found.append(PLACED)
                case "intent.waiting":
                    assert event["waiting_reason"] == "WAITING_FOR_TOOL"
                    found.append(reason)
                case "intent.in_progress" if reason:
                    found.append(reason)
                case "intent.completed":
                    found.append(FULFILLED)
                case "intent.failed":
                    found += [reason, CANCELED]
        return found

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)
