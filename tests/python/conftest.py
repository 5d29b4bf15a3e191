"""One cluster of three processes for all tests; a workspace handle per test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from clients import Workspace
from cluster import BATON, Cluster, scratch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not BATON.exists():
        pytest.exit(f"{BATON} does not exist: build it with `cargo build -p baton-server` or set BATON_BIN", 3)
    # The short run of the soak comes last.
    items.sort(key=lambda item: item.get_closest_marker("chaos") is not None)


@pytest.fixture(scope="session")
def cluster():
    running = Cluster("shared")
    try:
        running.start()
    except AssertionError as error:
        # One message instead of one error per test.
        pytest.exit(f"the cluster does not start: {error}", 1)
    yield running
    running.stop()


@pytest.fixture
def ws(cluster: Cluster, request: pytest.FixtureRequest):
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)[:80]
    workspace = Workspace(cluster, scratch(f"tests/{name}"))
    yield workspace
    workspace.close()
