"""Checkpoints made to harm whoever opens them are refused in one sentence, before they do anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile import MEGABYTES, SECONDS, pickles, read_all, write_hostile

pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    return write_hostile(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def outcome(hostile: dict[str, tuple[Path, str]]) -> dict[str, object]:
    return read_all(next(iter(hostile.values()))[0].parent)


def test_each_is_refused_in_one_sentence(
    hostile: dict[str, tuple[Path, str]], outcome: dict[str, dict[str, list[object]]]
) -> None:
    assert len(hostile) > 90
    for name, (path, expected) in hostile.items():
        message, _, _ = outcome["found"][path.stem]
        assert message, f"{name} was accepted"
        assert re.search(expected, message), f"{name}: {message}"
        assert message.startswith(str(path))
        assert message.isprintable(), message
        assert len(message) < len(str(path)) + 500, message


def test_nothing_runs_is_imported_or_written(
    hostile: dict[str, tuple[Path, str]], outcome: dict[str, dict[str, list[object]]]
) -> None:
    for path, _ in hostile.values():
        assert outcome["found"][path.stem][2] == [], path.stem
    assert not (path.parent / "canary").exists()


def test_time_and_memory_are_bounded(
    hostile: dict[str, tuple[Path, str]], outcome: dict[str, dict[str, list[float]]]
) -> None:
    slowest = max(outcome["found"].items(), key=lambda item: item[1][1])
    assert slowest[1][1] < SECONDS, slowest
    assert outcome["peak"] < MEGABYTES


def test_the_command_ends_with_code_5_and_no_trace(
    hostile: dict[str, tuple[Path, str]], tmp_path: Path, dataset_in: Callable[..., Path]
) -> None:
    data = dataset_in(tmp_path / "data")
    for name in ("reduce", "modules without end"):
        weights = tmp_path / "model.pt"
        weights.write_bytes(hostile[name][0].read_bytes())
        recipe = tmp_path / "evil.yaml"
        recipe.write_text(
            f"model: {{weights: {weights.name}}}\ndata: {{path: {data.relative_to(tmp_path)}}}\n"
            "target: xeon-icelake\nsteps: [export]\n"
        )
        command = [
            sys.executable,
            "-m",
            "yolodeploy",
            "build",
            recipe,
            "--cache",
            tmp_path / "c",
        ]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 5, done.stderr
        assert "Traceback" not in done.stderr
        assert re.search(hostile[name][1], done.stderr)


def test_the_payload_would_run_in_an_ordinary_reader(tmp_path: Path) -> None:
    import pickle

    canary = tmp_path / "canary"
    for name in ("reduce", "inst", "obj", "name from the stack", "reduce, then damage"):
        try:
            pickle.loads(pickles(f"touch {canary}")[name][0])
        except pickle.UnpicklingError:
            assert "damage" in name
        assert canary.exists(), name
        canary.unlink()
