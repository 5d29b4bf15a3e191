"""A short run of the soak."""

from __future__ import annotations

import os
import random

import pytest

import chaos


@pytest.mark.chaos
def test_nothing_is_lost_or_doubled_while_nodes_are_killed(capsys: pytest.CaptureFixture):
    seed = int(os.environ.get("BATON_TEST_SEED") or random.SystemRandom().randrange(2**32))
    report = chaos.run("chaos", seconds=20, kill_every=4, seed=seed)
    with capsys.disabled():
        print(f"\n{report.line()}")
    assert report.violations == [], f"repeat with BATON_TEST_SEED={seed}"
    assert report.kills >= 1
    assert report.ends["COMPLETED"] >= 1, report.line()
