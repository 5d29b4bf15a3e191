"""A cluster of real processes, started with `baton dev` and spoken to over loopback only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Callable
from uuid import UUID

import httpx

ROOT = Path(__file__).resolve().parents[2]
BATON = Path(os.environ.get("BATON_BIN", ROOT / "target/debug/baton"))
SCRATCH = Path(os.environ.get("BATON_TEST_SCRATCH", ROOT / "target/client-tests/manual"))
LONG = os.environ.get("BATON_TEST_LONG") == "1"

START_SECONDS = 90.0
STOP_SECONDS = 30.0
SHARD_GROUPS = 16


def until(what: str, condition: Callable[[], object], seconds: float = 20.0, every: float = 0.05):
    """Waits for a condition and returns what it returned; says what was missing when time is up."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(every)


def scratch(name: str) -> Path:
    """An empty directory below the build output."""
    path = SCRATCH / name
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    return path


def environment(**extra: str) -> dict[str, str]:
    """What servers inherit: nothing of the caller's own Baton settings, no request limit, short delivery timeouts."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith("BATON_") and not k.startswith("AXME_")
    }
    kept["BATON_LIMITS_REQUESTS_PER_MINUTE"] = "0"
    kept.update(extra)
    return kept


class Cluster:
    """`baton dev` and its nodes. Nodes are numbered from 1, as in its directory."""

    def __init__(
        self,
        name: str,
        *,
        nodes: int = 3,
        restart: bool = False,
        visibility_ms: int = 2_000,
        **settings: object,
    ) -> None:
        """`settings` are settings of the nodes, as environment variables without their prefix."""
        self.directory = scratch(name)
        self.data = self.directory / "data"
        self.log = self.directory / "dev.log"
        self.count = nodes
        self._restart = restart
        self._environment = environment(
            BATON_DELIVERY_VISIBILITY_TIMEOUT_MS=str(visibility_ms),
            **{f"BATON_{name.upper()}": str(value) for name, value in settings.items()},
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.client_env: dict[str, str] = {}

    def start(self) -> "Cluster":
        command = [str(BATON), "dev", "--nodes", str(self.count), "--data-dir", str(self.data)]
        if self._restart:
            command.append("--restart")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=self._environment
            )
        try:
            until("the cluster's start", self._started, START_SECONDS)
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}\n{self.log_tail()}") from None
        return self

    def _started(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"baton dev ended with status {self._process.returncode}")
        file = self.data / "client.env"
        if not file.exists():
            return False
        self.client_env = read_env(file)
        return len(self.urls) == self.count and all(ready(url) for url in self.urls)

    @property
    def urls(self) -> list[str]:
        """Base address of each node, in the order of their numbers."""
        return [u for u in self.client_env.get("AXME_BASE_URLS", "").split(",") if u]

    @property
    def url(self) -> str:
        return self.client_env["AXME_BASE_URL"]

    @property
    def key(self) -> str:
        return self.client_env["AXME_API_KEY"]

    @property
    def org_id(self) -> str:
        return self.client_env["AXME_ORG_ID"]

    @property
    def workspace_id(self) -> str:
        return self.client_env["AXME_WORKSPACE_ID"]

    def node_log(self, node: int) -> str:
        return (self.data / f"node-{node}" / "log").read_text(errors="replace")

    def operator(self, node: int, page: str) -> httpx.Response:
        """A page of a node's operator port."""
        config = tomllib.loads((self.data / f"node-{node}" / "config.toml").read_text())
        return httpx.get(f"http://{config['operator']['listen']}/{page}", timeout=5.0)

    def ended(self) -> int | None:
        """Status of `baton dev` itself, once it has ended."""
        return None if self._process is None else self._process.poll()

    def node_pid(self, node: int) -> int:
        return int((self.data / f"node-{node}" / "pid").read_text().strip())

    def kill_node(self, node: int) -> int:
        """Ends a node the hard way and returns the process id it had."""
        pid = self.node_pid(node)
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_restarted(self, node: int, old_pid: int, seconds: float = 60.0) -> None:
        """Waits until a killed node runs as another process and serves again."""

        def restarted() -> bool:
            try:
                pid = self.node_pid(node)
            except (FileNotFoundError, ValueError):
                return False
            return pid != old_pid and ready(self.urls[node - 1])

        until(f"the restart of node {node}", restarted, seconds)

    def wait_all_ready(self, seconds: float = 60.0) -> None:
        until("readiness of all nodes", lambda: all(ready(url) for url in self.urls), seconds)

    def log_tail(self, lines: int = 40) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def interrupt(self) -> int:
        """Ctrl-C; the status with which it ends."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(STOP_SECONDS)

    def stop(self) -> None:
        """Ctrl-C, then insistence, only toward processes that this object started."""
        process, self._process = self._process, None
        if process is None:
            return
        nodes = self._node_pids()
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in nodes:
            if is_ours(pid, self.data):
                os.kill(pid, signal.SIGKILL)

    def _node_pids(self) -> list[int]:
        pids = []
        for node in range(1, self.count + 1):
            try:
                pids.append(self.node_pid(node))
            except (FileNotFoundError, ValueError):
                continue
        return pids


def is_ours(pid: int, data: Path) -> bool:
    """Whether a process is a server on this data directory (a process id may have been given to another)."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False
    return str(data) in command


def read_env(file: Path) -> dict[str, str]:
    values = {}
    for line in file.read_text().splitlines():
        line = line.strip().removeprefix("export ")
        if line and not line.startswith("#") and "=" in line:
            name, _, value = line.partition("=")
            values[name] = value.strip("'\"")
    return values


def group_of(intent_id: str) -> int:
    """The group of an intent: its slot follows the version in the id."""
    slot = (UUID(intent_id).int >> 64) & 0xFFF
    return 1 + slot * SHARD_GROUPS // 4096


def leader_of(cluster: Cluster, group: int, asked: int = 1) -> int:
    """Number of the node that leads a group, as another node sees it."""
    status = cluster.operator(asked, "status").json()
    leader = next(g["leader"] for g in status["groups"] if g["group"] == group)
    ids = {cluster.operator(n, "status").json()["node_id"]: n for n in (1, 2, 3)}
    return ids[leader]


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2.0).status_code == 200
    except httpx.HTTPError:
        return False
