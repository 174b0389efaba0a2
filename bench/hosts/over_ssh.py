"""Measuring over ssh, on this machine's own sshd: how long that takes."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

from bench.common import DEVICES, Bench
from bench.hosts.ssh_desk import Desk, a_desk, must

IMAGES = 128
FIRST, SECOND = 1.3, 1.1  # times the wall time here


def over_ssh(bench: Bench) -> None:
    """Deploys of int8 artifacts whose evidence is made, here and over ssh: the first time, and when the host keeps the images.

    All of them find the artifact, the float export and the source model's findings in the store.
    """
    with a_desk(bench) as desk:
        for name, backend in (("intel", "openvino"), ("android", "ncnn")):
            steps = "[{export: {precision: fp32}}, quantize]"
            views = f"evaluation: {{images: {IMAGES}}}, calibration: {{split: train, images: 32}}"
            recipe = bench.write(f"ssh-{name}", DEVICES[name], steps, views)
            must(desk.deploy(recipe))
            must(desk.deploy(recipe, "--on", "again"))
            _report(backend, [_three(desk, recipe, number) for number in range(bench.options.runs)])


def _three(desk: Desk, recipe: Path, number: int) -> tuple[float, float, float]:
    """Seconds of a deploy here, of the first and of a later one there; in turns."""
    ways: list[tuple[str, ...]] = [(), ("--on", "desk"), ("--on", "again")]
    seconds = {}
    shutil.rmtree(desk.folder("desk"), ignore_errors=True)
    for place in range(3):
        way = ways[(number + place) % 3]
        desk.forget()
        seconds[way] = must(desk.deploy(recipe, *way))[3]
    return seconds[ways[0]], seconds[ways[1]], seconds[ways[2]]


def _report(backend: str, runs: list[tuple[float, float, float]]) -> None:
    for which, name, limit in ((1, "the first time", FIRST), (2, "images kept there", SECOND)):
        ratios = [run[which] / run[0] for run in runs]
        print(
            f"{backend:<10} {name:<18} {statistics.median(run[which] for run in runs):5.1f} s, here "
            f"{statistics.median(run[0] for run in runs):5.1f} s: {statistics.median(ratios):.2f} times (limit {limit}; "
            f"{len(runs)} runs, {min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )
