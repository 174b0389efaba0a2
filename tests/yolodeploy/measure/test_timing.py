"""Latencies: turns, intervals, waiting for a processor, and verdicts that noise cannot turn over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import quantile_test
from world import World

from yolodeploy.hosts.timing import Request, time_here
from yolodeploy.system import child_environment, wait_passively
from yolodeploy.worker import turns
from yolodeploy.worker.noise import CONFIDENCE, LAUNCH, Ratio, images_needed, ratio_of
from yolodeploy.worker.run_delay import RunDelay
from yolodeploy.worker.turns import ROUNDS

Run = Callable[[Any], None]
COMPARED = Request("clay", "pot", None, "brick", "ours", {"theirs": "theirs"}, "", 1)


def _turns(ours: Run, theirs: Run, *limits: float, threads: int = 1) -> tuple[list[Any], Ratio]:
    """The bursts of both, and the ratio of their latencies."""
    with RunDelay(threads) as delay:
        clock, last = turns._Clock(None, delay), turns.ROUNDS[-1]
        times = turns._take_turns(["theirs"], {"theirs": limits}, [ours, theirs], clock, last=last)
    runs = [[burst.clean or burst.every for burst in bursts] for bursts in times]
    return runs, turns._ratios(["theirs"], times)["theirs"]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_everybody_takes_every_place_equally_often(count: int) -> None:
    rounds = np.array([turns._order(number, count) for number in range(2 * count)])
    for place in rounds.T:
        assert np.bincount(place).tolist() == [2] * count


def test_a_turn_does_not_count_the_run_that_wakes_a_model_up() -> None:
    """Ten times slower right after another model has run: no latency that a device would see."""
    last: list[str] = []

    def model(name: str) -> Run:
        def run(_: Any) -> None:
            time.sleep(0.001 if last[-1:] == [name] else 0.01)
            last.append(name)

        return run

    (ours, theirs), _ = _turns(model("ours"), model("theirs"))
    assert len(ours) == len(theirs) >= ROUNDS[0]
    assert np.median(np.concatenate(ours)) < 5 > np.median(np.concatenate(theirs))
    turns = [name for at, name in enumerate(last) if last[at - 1 : at] != [name]]
    assert len(turns) >= 18  # they did take turns


@pytest.mark.parametrize("count", [11, 12, 24, 96, 192])
def test_the_interval_is_that_of_the_sign_test(count: int) -> None:
    ours, theirs = np.random.default_rng(count).lognormal(0, 0.3, (2, count))
    found = ratio_of(ours, theirs)
    exact = quantile_test(ours / theirs, p=0.5).confidence_interval(CONFIDENCE)
    assert found.low * LAUNCH == pytest.approx(exact.low, abs=2e-4)
    assert found.high / LAUNCH == pytest.approx(exact.high, abs=2e-4)
    assert found.value == pytest.approx(np.median(ours / theirs), abs=1e-4)


def test_single_runs_are_kept_in_their_order_and_not_too_many() -> None:
    runs = [float(number) for number in range(1, 1001)]
    bursts = turns.Burst(runs, []), turns.Burst([1.0, 9.0, 2.0], [1.0, 2.0])
    found = turns.figures(["other"], [[burst] for burst in bursts]).samples_ms
    assert found == {"": runs[::5], "other": [1.0, 2.0]}  # of a burst those that hardly waited


class _Interrupted:
    """A delay whose first reading is interrupted before the clock is read; `more` is what other threads waited."""

    def __init__(self, more: float) -> None:
        self._more, self._waited = more, 0.0

    def seconds(self) -> float:
        told = self._waited
        if not told:
            time.sleep(0.005)
            self._waited = 0.005 + self._more
        return told


@pytest.mark.parametrize("more", [0.0, 9.0])
def test_a_run_is_never_shorter_than_its_work(more: float) -> None:
    clock = turns._Clock(None, _Interrupted(more))  # type: ignore[arg-type]
    took, disturbed = clock._run(spin(2), None)
    assert took >= 1.9
    assert disturbed


def test_with_few_pairs_the_interval_spans_them_all() -> None:
    assert ratio_of([2, 4, 3], [2, 2, 2]) == Ratio(1.5, round(1 / LAUNCH, 4), round(2 * LAUNCH, 4))
    assert Ratio(1.5, 1.0, 2.0).inverse() == Ratio(0.6667, 0.5, 1.0)


def test_noise_hardly_ever_turns_a_verdict_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thirds as slow again in one of three bursts, and twelve per cent over the limit: 2 of 1,000 may be wrong."""
    random = np.random.default_rng(0)
    verdicts = []
    for _ in range(1000):
        noise = 1 + 2 / 3 * (random.random((2, ROUNDS[-1])) < 1 / 3)
        noise *= random.normal(1, 0.02, noise.shape)
        for rounds in ROUNDS:
            ratio = ratio_of(1.12 * noise[0, :rounds], noise[1, :rounds])
            if ratio.side(1.0):
                break
        verdicts.append(ratio.side(1.0))
    assert verdicts.count(-1) <= 2
    assert verdicts.count(1) > 500


def test_measures_longer_while_a_limit_is_in_doubt() -> None:
    pauses = np.random.default_rng(1).normal(1, 0.25, 10_000).clip(0.1)

    def pausing(milliseconds: float) -> Run:
        steps = iter(milliseconds * 1e-3 * pauses)
        return lambda _: time.sleep(next(steps))

    (clear, _), _ = _turns(pausing(0.5), pausing(1.5), 1.0)
    (close, _), ratio = _turns(pausing(0.5), pausing(0.5), 1.0)
    assert len(clear) <= ROUNDS[1] == len(close)  # more would not tell: processes differ by more
    assert not ratio.side(1.0)


def spin(milliseconds: float) -> Run:
    """Compute for a while."""

    def run(_: Any) -> None:
        end = time.thread_time() + milliseconds * 1e-3
        while time.thread_time() < end:
            pass

    return run


@contextmanager
def crowded() -> Iterator[None]:
    """Share one processor with another process that is always busy."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        time.sleep(0.2)
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()
        os.sched_setaffinity(0, allowed)


@pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="this system does not count run delays"
)
def test_a_latency_does_not_contain_the_wait_for_a_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "ROUNDS", ROUNDS[:1])
    with crowded():
        (ours, theirs), ratio = _turns(spin(2), spin(4), 1.0)
        on_two = _turns(spin(2), spin(4), 1.0, threads=2)[0][0]
    assert np.median(np.concatenate(ours)) == pytest.approx(2, rel=0.2)
    assert np.median(np.concatenate(theirs)) == pytest.approx(4, rel=0.2)
    assert 0.4 < ratio.value < 0.6
    assert ratio.side(1.0) == -1
    assert (
        np.mean(np.concatenate(on_two)) > 3
    )  # several threads wait at the same time: nothing is subtracted


def test_images_that_would_tell() -> None:
    assert images_needed(100, 0.01, (0.0, 0.02), 0.015) == 400
    assert images_needed(128, 0.008, (0.003, 0.014), 0.01) == 1200  # 128 * 9 = 1152
    assert images_needed(100, 0.02, (0.005, 0.03), 0.01) == 230  # 100 * 1.5 ** 2 = 225
    assert images_needed(100, 0.01, (0.0, 0.02), 0.0101) is None


def test_the_build_lets_threads_sleep_and_the_timing_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    wait_passively()
    assert child_environment()["OMP_WAIT_POLICY"] == "PASSIVE"
    assert not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"} & set(
        child_environment(own_threading=True)
    )
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


@pytest.fixture
def doubtful(deployed: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose latency ratio may be anything from 0.9 to 1.1."""

    def time_so(request: Request) -> turns.Timing:
        found = time_here(request)
        doubt = {name: Ratio(0.98, 0.9, 1.1) for name in found.ratios}
        return replace(found, ratios=doubt, waited=0.25)

    monkeypatch.setattr("yolodeploy.hosts.local.time_apart", time_so)
    return deployed


def test_what_noise_could_turn_over_is_no_verdict(doubtful: World) -> None:
    doubtful.recipe(extra="checks: {latency_ratio: 1.0}\n")
    before = {file: file.read_bytes() for file in doubtful.bundle.rglob("*") if file.is_file()}
    result = doubtful.deploy("--json")
    assert (result.code, result.json["error"]["kind"]) == (12, "undecided")
    (check,) = result.json["report"]["checks"]
    assert (check["verdict"], check["ok"]) == ("UNDECIDED", False)
    assert check["interval"] == [0.9, 1.1]
    assert (
        "0.98 was measured, but it may be anything from 0.9 to 1.1, and the limit is 1."
        in result.error
    )
    assert "let it wait for 25% of the time" in result.error
    assert "--undecided=accept" in result.error
    assert before == {file: file.read_bytes() for file in before}  # the earlier bundle stays
    assert "measure latency" in doubtful.deploy().err  # nothing was kept that decided nothing


def test_a_check_that_fails_does_not_keep_what_decides_nothing(doubtful: World) -> None:
    doubtful.recipe(extra="checks: {latency_ratio: 1.0, size_mb: 0.001}\n")
    assert doubtful.deploy().code == 1
    doubtful.recipe(extra="checks: {latency_ratio: 1.0}\n")
    again = doubtful.deploy()
    assert again.code == 12
    assert "measure latency" in again.err


def test_an_export_is_as_fast_as_itself(deployed: World) -> None:
    deployed.recipe(
        ("  - export: {precision: fp16}\n", "  - export: {precision: fp32}\n"),
        ("  - press: {strength: 0.25}\n", ""),
        extra="checks: {latency_ratio: 1.0, speedup: 1.0}\n",
    )
    checks = deployed.good("--json").json["checks"]
    assert [(check["value"], check["interval"]) for check in checks] == [(1.0, [1.0, 1.0])] * 2


def test_an_undecided_artifact_ships_if_that_is_accepted(doubtful: World) -> None:
    doubtful.recipe(extra="checks: {latency_ratio: 1.0}\n")
    result = doubtful.good("--undecided=accept")
    assert "UNDECIDED latency_ratio 0.98 (limit 1, 0.9 to 1.1" in " ".join(result.out.split())
    report = json.loads((doubtful.bundle / "report.json").read_text())
    assert report["checks"][0]["verdict"] == "UNDECIDED"
    assert "UNDECIDED" in (doubtful.bundle / "report.html").read_text()
    assert "measure latency" not in doubtful.good("--undecided=accept").err


@pytest.mark.parametrize(("limit", "code"), [(0.89, 1), (1.11, 0)])
def test_a_limit_outside_the_interval_decides(doubtful: World, limit: float, code: int) -> None:
    doubtful.recipe(extra=f"checks: {{latency_ratio: {limit}}}\n")
    assert doubtful.deploy().code == code


def test_more_threads_are_measured_besides(world: World) -> None:
    world.recipe(("target: kiln-a", "target: {device: kiln-a, threads: 2}"))
    out = " ".join(world.good().out.split())
    report = json.loads((world.bundle / "report.json").read_text())
    latencies = [row for row in report["measures"] if row["key"] == "latency_ms"]
    assert [row["group"] for row in latencies] == ["", "2 threads"]
    assert report["conditions"]["threads"] == 1
    assert "(1 thread, " in out
    assert "on 2 threads: median" in out


def test_more_threads_than_processors_are_not_measured(world: World) -> None:
    world.recipe(("target: kiln-a", "target: {device: kiln-a, threads: 64}"))
    assert "not measured on 64 threads: this machine has" in " ".join(world.good().out.split())
