"""Images per second, and what a latency is of an artifact that takes several images at a time."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from world import World

from yolodeploy.worker.noise import LAUNCH
from yolodeploy.worker.throughput import WINDOWS, measure_throughput


class _Server:
    """Takes as long as the machine of the day lets it: windows in turn have a drifting speed."""

    def __init__(self, batch: int, requests: int, seconds: float, drift: list[float]) -> None:
        self.batch, self.requests = batch, requests
        self._seconds, self._drift = seconds, drift
        self.runs: list[int] = []

    def __call__(self, images: np.ndarray, runs: int) -> float:
        assert images.shape == (self.batch, 3, 8, 8)
        self.runs.append(runs)
        self._drift.append(1 + 0.02 * len(self._drift))
        return runs * self._seconds * self._drift[-1]


def test_rates_are_medians_and_the_ratio_is_of_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolodeploy.worker.throughput.WINDOW", 0.1)
    drift: list[float] = []
    ours, theirs = _Server(8, 3, 0.02, drift), _Server(1, 2, 0.005, drift)
    found = measure_throughput(ours, theirs, np.zeros((1, 3, 8, 8), np.float32), 2)
    assert len(ours.runs) == len(theirs.runs) == 2 + WINDOWS
    assert {runs % 3 for runs in ours.runs} == {0}  # whole rounds: nobody waits at the end
    assert (found.batch, found.requests, found.threads) == (8, 3, 2)
    assert found.ratio.value == pytest.approx(2, rel=0.01)  # 400 images a second to 200
    assert 2 / LAUNCH**2 < found.ratio.low < 2 < found.ratio.high < 2 * LAUNCH**2
    assert 400 / 1.6 < found.rate.low * LAUNCH < found.rate.value < found.rate.high < 400


@pytest.fixture
def batched(world: World) -> World:
    """A model whose artifact takes four images in the time of one; the reference takes one."""
    world.weights(batch=4, seconds=0.0005)
    return world


def _measures(result: Any) -> dict[str, Any]:
    return {row["key"]: row for row in result["measures"] if not row["group"]}


def test_a_batch_is_served_and_timed_per_image(batched: World) -> None:
    batched.recipe(extra="checks: {throughput_ratio: 3.5, latency_ratio: 0.9}\n")
    out = " ".join(batched.good().out.split())
    report = json.loads((batched.bundle / "report.json").read_text())
    measures = _measures(report)
    rate, ratio = measures["images_per_s"], measures["throughput_ratio"]
    assert (rate["source"], rate["artifact"]) == (1000, 4000)  # two requests of 2 ms each
    assert (ratio["artifact"], ratio["interval"]) == (4, [3.7383, 4.28])
    assert measures["latency_ms"]["artifact"] == report["evidence"]["latency_ms"]["median"] > 2
    assert measures["latency_ratio"]["artifact"] < 0.5  # per image
    assert report["chain"][-1]["latency_ms"] < 0.5 * measures["latency_ms"]["artifact"]
    served = report["conditions"]["throughput"]
    assert (served["batch"], served["requests"]) == (4, 2)
    assert "per batch of 4" in out
    assert "images/s 4000 (3738 to 4280), fp32 export for one image 1000: 4.00 (3.74 to" in out
    assert "2 requests of 4 images in flight" in out
    page = (batched.bundle / "report.html").read_text()
    assert "images/s of the fp32 export for one image" in page


def test_a_ratio_below_the_limit_ships_nothing(batched: World) -> None:
    batched.recipe(extra="checks: {throughput_ratio: 5}\n")
    result = batched.deploy()
    assert result.code == 1
    assert "throughput_ratio (on" in result.error
    assert (
        "4 is 1 below the limit of 5. A processor that is busy with single images" in result.error
    )


def test_one_image_is_served_if_a_check_asks(world: World) -> None:
    world.weights(seconds=0.0005)
    plain = _measures(world.good("--json").json)["images_per_s"]
    assert (plain["artifact"], plain["reason"][:13]) == (None, "not asked for")
    world.recipe(extra="checks: {throughput_ratio: 0.9}\n")
    assert _measures(world.good("--json").json)["images_per_s"]["artifact"] == 1000


def test_a_runtime_of_one_request_is_refused(world: World) -> None:
    world.recipe(
        ("target: kiln-a", "target: oven-x"),
        ("  - press: {strength: 0.25}\n", ""),
        extra="checks: {throughput_ratio: 2}\n",
    )
    result = world.run("plan", "pot.yaml")
    assert result.code == 3
    assert result.error.startswith("pot.yaml:11:10: `throughput_ratio` compares images per second")
