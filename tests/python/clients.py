"""The published client with every answer checked, and the agent and sender processes that tests start and kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from axme_sdk import AxmeClient, AxmeClientConfig

import schemas
from cluster import Cluster, environment, until

HERE = Path(__file__).resolve().parent


def http(url: str, key: str | None, **headers: str) -> httpx.Client:
    """A plain HTTP client that checks every answer."""
    base = {"content-type": "application/json", **headers}
    if key is not None:
        base["x-api-key"] = key
    return httpx.Client(base_url=url, headers=base, timeout=20.0, event_hooks={"response": [schemas.check_response]})


def client(url: str, key: str) -> AxmeClient:
    """The published client, with its own way to be given an HTTP client."""
    return AxmeClient(AxmeClientConfig(base_url=url, api_key=key), http_client=http(url, key))


class Worker:
    """A client process. What it does is in its journal, one JSON object per line."""

    def __init__(self, script: str, journal: Path, url: str, key: str, *args: str) -> None:
        self._command = [sys.executable, str(HERE / script), "--url", url, "--key", key, "--journal", str(journal), *args]
        self.journal_file = journal
        self.output_file = journal.with_suffix(".out")
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        with self.output_file.open("ab") as output:
            self.process = subprocess.Popen(
                self._command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment()
            )

    def journal(self) -> list[dict[str, Any]]:
        return read_journal(self.journal_file)

    def wait_for(self, kind: str, seconds: float = 20.0, **fields: Any) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            for line in self.journal():
                if line["kind"] == kind and all(line.get(k) == v for k, v in fields.items()):
                    return line
            return None

        return until(f"{kind} {fields} in {self.journal_file.name}", found, seconds)

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()

    def stop(self, seconds: float = 10.0) -> None:
        """Asks, then insists."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()


def read_journal(file: Path) -> list[dict[str, Any]]:
    """Complete lines only: a killed process may leave half of one."""
    if not file.exists():
        return []
    lines = []
    for line in file.read_text().split("\n")[:-1]:
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


class Workspace:
    """One tenant of a cluster and everything a test starts in it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.client = client(cluster.url, cluster.key)
        self._workers: list[Worker] = []
        self._number = 0

    def node(self, number: int) -> AxmeClient:
        return client(self.cluster.urls[number - 1], self.cluster.key)

    def register(self, name: str) -> tuple[str, str]:
        """Makes a service account with a key of its own; returns its address and the key."""
        made = self.client.create_service_account(
            {"org_id": self.cluster.org_id, "workspace_id": self.cluster.workspace_id, "name": name}
        )["service_account"]
        key = self.client.create_service_account_key(made["service_account_id"], {})["key"]["token"]
        return made["agent_address"], key

    def agent(self, address: str, *args: str, key: str | None = None, url: str | None = None) -> Worker:
        """Starts an agent process on an address."""
        self._number += 1
        return self._worker(
            "agent_process.py", f"agent-{self._number}", key or self.cluster.key, url, "--address", address, *args
        )

    def _worker(self, script: str, name: str, key: str, url: str | None, *args: str) -> Worker:
        worker = Worker(script, self.folder / f"{name}.jsonl", url or self.cluster.url, key, *args)
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()


def event_types(events: list[dict[str, Any]]) -> list[str]:
    return [e["event_type"].removeprefix("intent.") for e in events]


def check_events(events: list[dict[str, Any]]) -> None:
    """The rules that hold for every complete event log."""
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1)), "a gap in seq"
    assert event_types(events)[:3] == ["created", "submitted", "delivered"]
    terminal = [e for e in events if e["status"] in TERMINAL]
    assert len(terminal) <= 1, "more than one terminal event"
    if terminal:
        assert events[-1] is terminal[0], "something follows the terminal event"
    for event in events:
        schemas.check_event(event)


TERMINAL = {"COMPLETED", "FAILED", "CANCELED", "TIMED_OUT"}
