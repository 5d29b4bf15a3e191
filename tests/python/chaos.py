"""Nodes and agents are killed under load; afterwards every accepted intent is accounted for."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import payment
from clients import TERMINAL, Worker, check_events, client
from cluster import Cluster, until
from proxy import Proxy

SENDERS = 3
ADDRESSES = 3
DRAIN_SECONDS = 180.0


@dataclass
class Report:
    """What happened. Everything in `violations` is a broken promise."""

    seed: int
    seconds: float
    kills: int = 0
    agent_kills: int = 0
    restarts: int = 0
    accepted: int = 0
    ends: Counter = field(default_factory=Counter)
    unanswered: int = 0
    deliveries: int = 0
    redelivered: int = 0
    violations: list[str] = field(default_factory=list)

    def line(self) -> str:
        ends = " ".join(f"{status.lower()}={count}" for status, count in sorted(self.ends.items()))
        return (
            f"chaos: seed={self.seed} seconds={self.seconds:.0f} node_kills={self.kills} "
            f"agent_kills={self.agent_kills} client_restarts={self.restarts} accepted={self.accepted} {ends} "
            f"unanswered={self.unanswered} deliveries={self.deliveries} redelivered={self.redelivered} "
            f"violations={len(self.violations)}"
        )


class Chaos:
    def __init__(self, cluster: Cluster, seconds: float, kill_every: float, seed: int) -> None:
        self._cluster = cluster
        self._folder = cluster.directory / "clients"
        self._folder.mkdir()
        self._seconds = seconds
        self._kill_every = kill_every
        self._rng = random.Random(seed)
        self._proxy = Proxy(cluster.urls)
        self._senders: list[Worker] = []
        self._agents: list[Worker] = []
        self._stopping = threading.Event()
        self._stop_file = self._folder / "stop"
        self.report = Report(seed, seconds)

    def run(self) -> Report:
        self._proxy.start()
        keeper = threading.Thread(target=self._keep_clients, name="keeper", daemon=True)
        try:
            self._start_clients()
            keeper.start()
            self._kill_for_a_while()
            self._cluster.wait_all_ready(120)
            self._stop_file.touch()
            self._drain()
        finally:
            self._stopping.set()
            if keeper.is_alive():
                keeper.join(30)
            for worker in self._senders + self._agents:
                worker.stop()
            self._proxy.stop()
        self._judge()
        return self.report

    def _start_clients(self) -> None:
        url, key = self._proxy.url, self._cluster.key
        addresses = [payment.fresh(f"chaos-{i}") for i in range(ADDRESSES)]
        for i, address in enumerate(addresses):
            # Two agents on the first address; one goes on from its cursor, the others from the start.
            for j in range(2 if i == 0 else 1):
                args = ["--address", address, "--wait-seconds", "5"]
                if j == 0:
                    args += ["--cursor-file", str(self._folder / f"agent-{i}-{j}.cursor")]
                if i % 2 == 0:
                    args.append("--with-key")
                self._agents.append(
                    Worker("agent_process.py", self._folder / f"agent-{i}-{j}.jsonl", url, key, *args)
                )
        for i in range(SENDERS):
            args = ["--name", f"sender-{self.report.seed}-{i}", "--addresses", ",".join(addresses)]
            args += ["--stop-file", str(self._stop_file)]
            self._senders.append(Worker("sender_process.py", self._folder / f"sender-{i}.jsonl", url, key, *args))

    def _keep_clients(self) -> None:
        """A client that raised or was killed is started again, as its supervisor would."""
        while not self._stopping.wait(0.5):
            for worker in self._senders + self._agents:
                if not worker.running() and not self._finished(worker):
                    self.report.restarts += 1
                    worker.start()

    @staticmethod
    def _finished(worker: Worker) -> bool:
        lines = worker.journal()
        return bool(lines) and lines[-1]["kind"] == "finished"

    def _kill_for_a_while(self) -> None:
        end = time.monotonic() + self._seconds
        while True:
            pause = self._kill_every * self._rng.uniform(0.5, 1.5)
            node = self._rng.randint(1, self._cluster.count)
            with_agent = self._rng.random() < 0.3
            agent = self._rng.choice(self._agents)
            if time.monotonic() + pause > end:
                time.sleep(max(0.0, end - time.monotonic()))
                return
            time.sleep(pause)
            old = self._cluster.kill_node(node)
            self.report.kills += 1
            if with_agent:
                agent.kill()
                self.report.agent_kills += 1
            # A majority stays up: the next one dies only when this one serves again.
            self._cluster.wait_restarted(node, old)

    def _drain(self) -> None:
        def done() -> bool:
            return all(self._finished(sender) for sender in self._senders)

        try:
            until("the end of every accepted intent", done, DRAIN_SECONDS, every=0.5)
        except AssertionError as error:
            self.report.violations.append(str(error))

    def _judge(self) -> None:
        accepted: dict[str, int] = {}
        by_key: dict[str, set[str]] = defaultdict(set)
        ended: dict[str, str] = {}
        for sender in self._senders:
            submitted, answered = set(), set()
            for line in sender.journal():
                kind = line["kind"]
                if kind == "submitting":
                    submitted.add(line["number"])
                elif kind == "accepted":
                    accepted[line["intent_id"]] = line["number"]
                    answered.add(line["number"])
                    if line["key"]:
                        by_key[line["key"]].add(line["intent_id"])
                elif kind == "ended":
                    ended[line["intent_id"]] = line["status"]
                elif kind in ("bad_seq", "unknown", "refused"):
                    self._violation(f"a sender saw {line}")
            self.report.unanswered += len(submitted - answered)
        self.report.accepted = len(accepted)
        for key, ids in by_key.items():
            if len(ids) > 1:
                self._violation(f"key {key} became {len(ids)} intents: {sorted(ids)}")
        self._judge_intents(accepted, ended)
        self._judge_listeners()

    def _judge_intents(self, accepted: dict[str, int], ended: dict[str, str]) -> None:
        readers = [client(url, self._cluster.key) for url in self._cluster.urls]
        for index, intent_id in enumerate(accepted):
            reader = readers[index % len(readers)]
            try:
                events = reader.list_intent_events(intent_id)["events"]
                intent = reader.get_intent(intent_id)["intent"]
                check_events(events)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                self._violation(f"{intent_id}: {error!r}")
                continue
            last = events[-1]
            if last["status"] not in TERMINAL:
                self._violation(f"{intent_id} has not ended: {last['status']}")
                continue
            self.report.ends[last["status"]] += 1
            if intent["status"] != last["status"]:
                self._violation(f"{intent_id} is {intent['status']} after {last['event_type']}")
            if ended.get(intent_id, last["status"]) != last["status"]:
                self._violation(f"{intent_id} ended as {ended[intent_id]} and then as {last['status']}")
            if last["status"] == "COMPLETED" and intent["result"]["order_id"] != intent["payload"]["order_id"]:
                self._violation(f"{intent_id} has the result of another intent")

    def _judge_listeners(self) -> None:
        meaning: dict[tuple[str, int], str] = {}
        completed: Counter = Counter()
        delivered: Counter = Counter()
        for agent in self._agents:
            last: dict[int, int] = {}
            for line in agent.journal():
                if line["kind"] == "listening":
                    last[line["pid"]] = line["since"]
                elif line["kind"] == "delivery":
                    self._judge_delivery(line, last, meaning)
                    delivered[line["address"], line["intent_id"]] += 1
                    self.report.deliveries += 1
                elif line["kind"] == "resumed":
                    completed[line["intent_id"]] += 1
        self.report.redelivered = sum(count - 1 for count in delivered.values())
        for intent_id, count in completed.items():
            if count > 1:
                self._violation(f"{intent_id} was completed {count} times")

    def _judge_delivery(self, line: dict[str, Any], last: dict[int, int], meaning: dict) -> None:
        cursor, pid = line["cursor"], line["pid"]
        if cursor <= last.get(pid, 0):
            self._violation(f"cursor {cursor} after {last[pid]} on {line['address']}")
        last[pid] = cursor
        if cursor >= 2**53:
            self._violation(f"cursor {cursor} does not fit a double")
        known = meaning.setdefault((line["address"], cursor), line["intent_id"])
        if known != line["intent_id"]:
            self._violation(f"cursor {cursor} of {line['address']} means two intents")
        for neighbour in (cursor - 1, cursor + 1):
            if (line["address"], neighbour) in meaning:
                self._violation(f"cursors {cursor} and {neighbour} of {line['address']} are neighbours")

    def _violation(self, text: str) -> None:
        self.report.violations.append(text)


def run(name: str, seconds: float, kill_every: float, seed: int) -> Report:
    """Starts a cluster that restarts its nodes, and runs the chaos on it."""
    cluster = Cluster(name, restart=True, visibility_ms=3_000).start()
    try:
        return Chaos(cluster, seconds, kill_every, seed).run()
    finally:
        cluster.stop()

