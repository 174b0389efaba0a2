"""The state of a training, read from a file that is damaged, or that asks for code to be run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from pickles import Calls

from yolodeploy_torch.training.state import STATE_FILE, Progress, read_state, write_state


def training() -> Progress:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    return Progress(model, torch.nn.Module(), optimizer)


def finished() -> Progress:
    progress = training()
    progress.model[0].weight.data += 1
    progress.history.loss.append(1.5)
    progress.end_epoch(0, 0.25)
    return progress


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def test_what_was_written_is_taken_up(tmp_path: Path) -> None:
    write_state(tmp_path, finished())
    progress = training()
    assert not same(progress.state_dict(), finished().state_dict())
    read_state(tmp_path, progress)
    assert same(progress.state_dict(), finished().state_dict())
    assert (progress.epoch, progress.history.best) == (1, 1)


def spoiled(name: str) -> Any:
    state = finished().state_dict()
    parts, history = state["parts"], state["history"]
    other = torch.nn.Linear(2, 2).state_dict()
    changes: dict[str, Any] = {
        "another model": {**state, "parts": [other, *parts[1:]]},
        "another average, after the model fits": {**state, "parts": [*parts[:2], other, parts[3]]},
        "another optimizer": {**state, "parts": [*parts[:3], {"state": {}, "param_groups": []}]},
        "no history": {**state, "history": None},
        "an odd history": {**state, "history": {**history, "loss": ["x"]}},
        "few parts": {**state, "parts": parts[:2]},
        "a list": [1],
        "a command": {**state, "best": Calls(os.system, "touch canary")},
    }
    return changes[name]


@pytest.mark.parametrize(
    "name",
    ["another model", "another average, after the model fits", "another optimizer", "no history",
     "an odd history", "few parts", "a list", "a command"],
)  # fmt: skip
def test_another_state_is_thrown_away_and_the_training_begins_anew(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(spoiled(name), tmp_path / STATE_FILE)
    progress = training()
    read_state(tmp_path, progress)
    assert same(progress.state_dict(), training().state_dict())
    assert progress.epoch == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
def test_a_state_that_is_cut_off_is_thrown_away(part: float, tmp_path: Path) -> None:
    write_state(tmp_path, finished())
    data = (tmp_path / STATE_FILE).read_bytes()
    (tmp_path / STATE_FILE).write_bytes(data[: int(len(data) * part)])
    progress = training()
    read_state(tmp_path, progress)
    assert progress.epoch == 0
    assert not (tmp_path / STATE_FILE).exists()
