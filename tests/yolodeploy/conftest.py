"""Fixtures of the core's tests: a world with a fake backend, fresh or already deployed."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from world import PLUGINS, World, copy_world

from yolodeploy.backend.registry import GROUP
from yolodeploy.hosts.timing import time_here

FAKES = ("clay", "kiln", "oven")
_find_entries = importlib.metadata.entry_points


def _search_path() -> str:
    """For child processes: the fake plugins, and whatever this process was told to use."""
    return os.pathsep.join(filter(None, [str(PLUGINS), os.environ.get("PYTHONPATH")]))


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake plugins here and in child processes; a store and a log of this test's own."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    monkeypatch.setenv("PYTHONPATH", _search_path())
    monkeypatch.setenv("YOLODEPLOY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CLAY_LOG", str(tmp_path / "clay.log"))
    for name in ("CLAY_FAULT", "NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def quick_measurements(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time in this process and draw few resamples: starting another one takes longer than most tests.

    Tests marked `apart` keep the real process, and so does every command that runs as a process of its own;
    there `kiln` shortens the bursts.
    """
    if request.node.get_closest_marker("apart") is None:
        monkeypatch.setattr("yolodeploy.hosts.local.time_apart", time_here)
        monkeypatch.setattr("yolodeploy.worker.turns.SETTLE", 0.0)
        monkeypatch.setattr("yolodeploy.worker.turns.BURST", 0.0)
        monkeypatch.setattr("yolodeploy.worker.throughput.WINDOW", 0.0)
        monkeypatch.setattr("yolodeploy.tasks.average_precision.MAX_DRAWS", 20)
        monkeypatch.setattr("yolodeploy.tasks.average_precision.MIN_DRAWS", 20)


@pytest.fixture(autouse=True)
def charts_left_out(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave charts empty: most tests of a deployment do not look at them. Those of `report/` draw them."""
    monkeypatch.setattr("yolodeploy.report.charts.drawing._drawn", lambda spec: "")


@pytest.fixture
def only_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the real plugins from this process: messages that list everything stay the same."""

    def entry_points(**options: Any) -> Any:
        ours = options == {"group": GROUP}
        return list(_fakes(tuple(sys.path))) if ours else _find_entries(**options)

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)


@functools.cache
def _fakes(path: tuple[str, ...]) -> list[importlib.metadata.EntryPoint]:
    """The plugins that are not the project's own; looking for them on the path takes longer than most tests."""
    entries = _find_entries(group=GROUP)
    return [e for e in entries if e.dist is None or e.dist.name != "yolodeploy"]


@pytest.fixture
def world(
    tmp_path: Path,
    only_fakes: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dataset_in: Callable[..., Path],
) -> World:
    """A world in which nothing has been built."""
    root = tmp_path / "world"
    dataset_in(root / "data")
    monkeypatch.chdir(root)
    made = World(root, capsys)
    made.weights()
    made.recipe()
    return made


@pytest.fixture(scope="session")
def fired(tmp_path_factory: pytest.TempPathFactory, dataset_in: Callable[..., Path]) -> Path:
    """A folder with `world/`, deployed once, and its `cache/`."""
    top = tmp_path_factory.mktemp("fired")
    root = top / "world"
    dataset_in(root / "data")
    made = World(root, None)  # type: ignore[arg-type]
    made.weights()
    made.recipe()
    env = {**os.environ, "PYTHONPATH": _search_path(), "YOLODEPLOY_CACHE": str(top / "cache")}
    command = [sys.executable, "-m", "yolodeploy", "deploy", "pot.yaml"]
    subprocess.run(command, cwd=root, env=env, check=True, capture_output=True)
    return top


@pytest.fixture
def deployed(
    fired: Path,
    tmp_path: Path,
    only_fakes: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[World]:
    """A world of this test's own that was deployed once."""
    copy_world(fired, tmp_path)
    monkeypatch.chdir(tmp_path / "world")
    yield World(tmp_path / "world", capsys)
    shutil.rmtree(tmp_path / "world", ignore_errors=True)
