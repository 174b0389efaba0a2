"""What the ids of steps say of the images and labels that they read."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from world import World

from yolodeploy.backend import ModelInfo, Params

POSES = ModelInfo("pose", ("red", "green", "blue"), (8, 16, 32), 42, kpt_shape=(2, 3))


def test_how_poses_are_mirrored_is_part_of_a_training(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training with other `flip_idx` gives other weights, so it must not be found in the store."""
    clay = importlib.import_module("clay")

    def facts(weights: Path, params: Params) -> ModelInfo:
        return POSES

    monkeypatch.setattr(clay, "facts", facts, raising=False)
    for file in (world.root / "data").glob("labels/*/*.txt"):
        rows = [row.split() for row in file.read_text(encoding="utf-8").splitlines()]
        file.write_text("".join(f"{' '.join(row[:5])} .4 .4 2 .6 .6 1\n" for row in rows))
    names = (world.root / "data" / "data.yaml").read_text(encoding="utf-8")
    world.recipe(("{split: train}", "{split: train}\n  training: {split: train}"), ("  - export", "  - teach\n  - export"))  # fmt: skip
    ids, digests = {}, {}
    for flip in ("", "flip_idx: [0, 1]\n", "flip_idx: [1, 0]\n"):
        world.write("data/data.yaml", f"{names}\nkpt_shape: [2, 3]\n{flip}")
        plan = world.plan()
        ids[flip] = [step.id for step in plan.steps]
        digests[flip] = dict(plan.view_digests)
    plain, straight, swapped = ids.values()
    assert plain[0] == straight[0] == swapped[0]
    assert len({plain[1], straight[1], swapped[1]}) == 3
    assert digests["flip_idx: [0, 1]\n"] == digests["flip_idx: [1, 0]\n"]


def test_a_task_that_nothing_could_read_before(world: World) -> None:
    """Without what weights say, a data set is read as a detector's: no other task may be measured on that."""
    world.weights(task="segment")
    result = world.deploy()
    assert result.code == 7
    assert "model for `segment`, and the data set was read for `detect`" in result.error
