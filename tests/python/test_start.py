"""A server that cannot start says why in one line, and touches nothing."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tomllib
from pathlib import Path

import pytest

from cluster import BATON, Cluster, environment, scratch


def refuse(*args: str, **variables: str) -> str:
    """Runs `baton server`, expects it to refuse soon, and returns its one line."""
    ran = subprocess.run(
        [str(BATON), "server", *args],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert ran.returncode in (1, 2, 78), (ran.returncode, ran.stderr)
    assert "panicked" not in ran.stderr
    # Log lines may precede it, with a time at their start; what the command says itself is one line.
    lines = [line for line in ran.stderr.splitlines() if line.strip() and not line[:4].isdigit()]
    assert len(lines) == 1, ran.stderr
    return lines[0]


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Path:
    return scratch("start/" + "".join(c if c.isalnum() else "-" for c in request.node.name)[:80])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ports() -> dict[str, str]:
    """Ports that nobody uses, so that only what a test spoils is wrong."""
    return {
        "BATON_CLIENT_LISTEN": f"127.0.0.1:{free_port()}",
        "BATON_PEER_LISTEN": f"127.0.0.1:{free_port()}",
        "BATON_OPERATOR_LISTEN": f"127.0.0.1:{free_port()}",
    }


def test_configuration_that_is_not_there(folder: Path):
    file = folder / "none.toml"
    line = refuse("--config", str(file))
    assert str(file) in line and "--config" in line


def test_configuration_that_cannot_be_read(folder: Path):
    file = folder / "baton.toml"
    file.write_text("data_dir = \n")
    assert str(file) in refuse("--config", str(file))


def test_configuration_with_a_misspelt_key(folder: Path):
    file = folder / "baton.toml"
    file.write_text("[client]\nlisen = '127.0.0.1:1'\n")
    line = refuse("--config", str(file))
    assert "lisen" in line and "listen" in line


@pytest.mark.parametrize("port_of", ["client", "peer", "operator"])
def test_a_taken_port(folder: Path, port_of: str):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        variables = {**ports(), f"BATON_{port_of.upper()}_LISTEN": address}
        # Only a cluster of several has a use for the peer port.
        variables["BATON_CLUSTER_PEERS"] = f"{variables['BATON_PEER_LISTEN']},127.0.0.1:{free_port()}"
        variables["BATON_CLUSTER_ORDINAL"] = "0"
        line = refuse("--data-dir", str(folder / "data"), **variables)
    assert address in line and f"{port_of}.listen" in line and "stop what uses" in line
    assert not (folder / "data").exists(), "a node that cannot listen left something behind"


def test_a_data_directory_that_is_a_file(folder: Path):
    file = folder / "data"
    file.write_text("mine")
    assert str(file) in refuse("--data-dir", str(file), **ports())
    assert file.read_text() == "mine"


def test_a_foreign_directory_is_left_alone(folder: Path):
    (folder / "letters.txt").write_text("mine")
    line = refuse("--data-dir", str(folder), **ports())
    assert str(folder) in line
    assert [p.name for p in folder.iterdir()] == ["letters.txt"]


def test_the_directory_of_a_running_node(cluster: Cluster):
    data = cluster.data / "node-1" / "data"
    line = refuse("--data-dir", str(data), **ports())
    assert str(data) in line and "used by another process" in line and "stop it" in line


def copied_directory(cluster: Cluster, node: int, folder: Path) -> Path:
    """What makes a directory that of one node of one cluster, without the node that uses it."""
    data = folder / "data"
    data.mkdir()
    shutil.copy(cluster.data / f"node-{node}" / "data" / "node.pb", data)
    return data


def test_the_directory_of_another_cluster(cluster: Cluster, folder: Path):
    data = copied_directory(cluster, 1, folder)
    before = (data / "node.pb").read_bytes()
    own = ports()
    peers = [own["BATON_PEER_LISTEN"], f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"]
    own |= {"BATON_CLUSTER_PEERS": ",".join(peers), "BATON_CLUSTER_ORDINAL": "0"}
    line = refuse("--data-dir", str(data), **own)
    assert str(data) in line and peers[0] in line and "belongs to" in line and "use that" in line
    assert (data / "node.pb").read_bytes() == before


def test_the_directory_of_another_node_of_the_cluster(cluster: Cluster, folder: Path):
    data = copied_directory(cluster, 2, folder)
    config = tomllib.loads((cluster.data / "node-1" / "config.toml").read_text())
    own = {**ports(), "BATON_PEER_LISTEN": f"127.0.0.1:{free_port()}"}
    own["BATON_PEER_ADVERTISE"] = config["cluster"]["peers"][0]
    own |= {"BATON_CLUSTER_PEERS": ",".join(config["cluster"]["peers"]), "BATON_CLUSTER_ORDINAL": "0"}
    line = refuse("--data-dir", str(data), **own)
    assert str(data) in line and config["cluster"]["peers"][1] in line and "belongs to" in line


def test_a_configuration_that_may_not_be_read(folder: Path):
    # A directory, because nothing is forbidden to root.
    line = refuse("--config", str(folder))
    assert str(folder) in line and "--config" in line


def test_a_directory_without_its_stamp(cluster: Cluster, folder: Path):
    data = copied_directory(cluster, 1, folder)
    (data / "log").mkdir()
    (data / "log" / "0000000000000001.raftlog").write_bytes(b"entries")
    (data / "node.pb").unlink()
    line = refuse("--data-dir", str(data), **ports())
    assert str(data) in line and "node.pb" in line and "restore the file" in line


def test_peers_across_the_network_need_tls(folder: Path):
    line = refuse("--data-dir", str(folder / "data"), **{**ports(), "BATON_PEER_LISTEN": f"0.0.0.0:{free_port()}"})
    assert "tls" in line.lower()
