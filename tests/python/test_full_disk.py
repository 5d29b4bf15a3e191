"""Disks that run full under real nodes: writes are refused in time, reads go on, nothing acknowledged is lost."""

from __future__ import annotations

from typing import Iterator

import httpx
import pytest

import payment
from clients import http
from cluster import Cluster, ready, until
from small_disk import SmallDisk

MIB = 1 << 20
RESERVE = 32 * MIB
DISK_MB = 256


@pytest.fixture
def started() -> Iterator[list]:
    """What a test starts; the last first, all of it ends with the test."""
    things: list = []
    yield things
    for thing in reversed(things):
        (thing.stop if isinstance(thing, Cluster) else thing.unmount)()


def submit(plain: httpx.Client, to: str, **payload) -> httpx.Response:
    return plain.post("/v1/intents", json={**payment.intent(to), "payload": payload or {"n": 1}})


def accepted_write(plain: httpx.Client, to: str) -> httpx.Response | None:
    """One that is never refused for want of room, nor for good; a moment without a leader is part of every move."""
    answer = submit(plain, to, text="x" * 10_000)
    if answer.status_code == 200:
        return answer
    assert answer.json()["error"]["code"] in ("unavailable", "timeout", "stale_replica"), answer.text
    return None


def refusal(plain: httpx.Client, to: str) -> httpx.Response | None:
    answer = submit(plain, to)
    return None if answer.status_code == 200 else answer


def metric(cluster: Cluster, name: str) -> float | None:
    """A metric of node 1 without labels."""
    for line in cluster.operator(1, "metrics").text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    return None


def known(plain: httpx.Client, intent_id: str) -> bool:
    answer = plain.get(f"/v1/intents/{intent_id}/events")
    return answer.status_code == 200 and len(answer.json()["events"]) == 3


def test_writes_are_refused_before_the_disk_is_full_and_reads_go_on(started: list):
    cluster = Cluster("low-disk", nodes=1, storage_disk_free_min_bytes=RESERVE)
    disk = SmallDisk(cluster.data, DISK_MB)
    started += [disk, cluster]
    cluster.start()
    to = payment.fresh("worker")
    with http(cluster.url, cluster.key) as plain:
        first = submit(plain, to).json()["intent_id"]
        disk.fill(leave=RESERVE - MIB)
        answer = until("a refusal", lambda: refusal(plain, to))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "disk_low"), answer.text
        assert int(answer.headers["retry-after"]) >= 1
        assert "room" in answer.json()["error"]["message"]
        for call, content in (("resolve", {"status": "COMPLETED"}), ("resume", {"ok": 1})):
            assert plain.post(f"/v1/intents/{first}/{call}", json=content).status_code == 503
        assert known(plain, first)
        assert ready(cluster.url)
        assert metric(cluster, "baton_disk_low") == 1
        assert disk.free() > RESERVE // 2, "refused writes took the reserve"
        disk.release()
        until("writes", lambda: submit(plain, to).status_code == 200)
        assert plain.post(f"/v1/intents/{first}/resolve", json={"status": "COMPLETED"}).status_code == 200
    lines = [line for line in cluster.node_log(1).splitlines() if "nearly full" in line]
    assert len(lines) == 1, lines


def test_one_full_node_of_three_neither_stops_writes_nor_ends(started: list):
    cluster = Cluster("one-full-disk", storage_disk_free_min_bytes=RESERVE)
    disk = SmallDisk(cluster.data / "node-1", DISK_MB)
    started += [disk, cluster]
    cluster.start()
    pid = cluster.node_pid(1)
    disk.fill(leave=RESERVE - MIB)
    until("the low disk to be noticed", lambda: metric(cluster, "baton_disk_low") == 1)

    def leads_nothing() -> bool:
        status = cluster.operator(1, "status").json()
        return all(group["leader"] not in (None, status["node_id"]) for group in status["groups"])

    until("node 1 to give its groups away", leads_nothing)
    to = payment.fresh("worker")
    accepted: list[str] = []

    def write(urls: list[str]) -> None:
        for n in range(30):
            with http(urls[n % len(urls)], cluster.key) as plain:
                answer = until("an accepted write", lambda: accepted_write(plain, to), 60)
                accepted.append(answer.json()["intent_id"])

    write(cluster.urls)
    disk.fill(leave=0)
    until("the full disk to be noticed", lambda: metric(cluster, "baton_disk_free_size_bytes") == 0)
    write(cluster.urls[1:])
    # It takes no entries, so it cannot answer for what it lacks, and says so.
    page = cluster.operator(1, "readyz")
    assert page.status_code == 503 and "disk" in {check["name"] for check in page.json()["checks"]}, page.text
    disk.release()
    cluster.wait_all_ready()
    with http(cluster.urls[0], cluster.key) as plain:
        until("node 1 to catch up", lambda: all(known(plain, intent_id) for intent_id in accepted), 60)
    assert cluster.node_pid(1) == pid and cluster.ended() is None, cluster.log_tail()


def test_a_log_that_meets_a_full_disk_ends_the_node_and_loses_nothing(started: list):
    cluster = Cluster("full-disk", nodes=1, storage_disk_free_min_bytes=0)
    disk = SmallDisk(cluster.data, DISK_MB)
    started += [disk, cluster]
    cluster.start()
    to = payment.fresh("worker")
    accepted = []
    disk.fill(leave=8 * MIB)
    with http(cluster.url, cluster.key) as plain:
        for n in range(2_000):
            try:
                answer = submit(plain, to, n=n, text="x" * 100_000)
            except httpx.HTTPError:
                break
            if answer.status_code != 200:
                # It is on its way out; whatever it says must not be an acceptance.
                assert answer.status_code >= 500, answer.text
                break
            accepted.append(answer.json()["intent_id"])
    assert accepted
    until("the node's end", lambda: cluster.ended() is not None, 60)
    cluster.stop()
    last = [line for line in cluster.node_log(1).splitlines() if line.strip()]
    ends = [line for line in last if "free space on the disk" in line]
    assert len(ends) == 1 and ends[0] is last[-1] and "start this node again" in ends[0], last[-5:]
    assert not any("panicked" in line for line in last), last[-5:]
    disk.release()
    cluster.start()
    with http(cluster.url, cluster.key) as plain:
        lost = [intent_id for intent_id in accepted if not known(plain, intent_id)]
        assert lost == [], f"{len(lost)} of {len(accepted)} acknowledged intents are lost"
        assert submit(plain, to).status_code == 200
