"""A folder with a recipe, clay weights and images, and ways to run yolodeploy in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from yolodeploy.cli import main as cli
from yolodeploy.planning.plan import Plan

PLUGINS = Path(__file__).parent / "plugins"
RECIPE = """\
model:
  weights: model.clay
  imgsz: 64
data:
  path: data/data.yaml
  evaluation: {split: val}
  calibration: {split: train}
target: kiln-a
steps:
  - export: {precision: fp16}
  - press: {strength: 0.25}
"""
WEIGHTS: dict[str, Any] = {"names": ["red", "green", "blue"], "padding": 40000}


@dataclass(frozen=True)
class Result:
    """What one run of the command line gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The error message, without progress lines and `error: `."""
        return self.err[self.err.index("error: ") + 7 :].rstrip("\n")


@dataclass(frozen=True)
class World:
    """The folder. Commands run in it; `pot.yaml` is the recipe."""

    root: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def cache(self) -> Path:
        return Path(os.environ["YOLODEPLOY_CACHE"])

    @property
    def bundle(self) -> Path:
        return self.root / "dist" / "pot"

    @property
    def lock(self) -> Path:
        return self.root / "pot.lock"

    @property
    def log(self) -> list[str]:
        """The steps that ran, in order."""
        file = Path(os.environ["CLAY_LOG"])
        return file.read_text(encoding="utf-8").split() if file.is_file() else []

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def recipe(self, *changes: tuple[str, str], name: str = "pot.yaml", extra: str = "") -> Path:
        """Write the recipe with some of its text replaced."""
        text = RECIPE
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        return self.write(name, text + extra)

    def weights(self, **changes: Any) -> Path:
        """Write the weights file."""
        return self.write("model.clay", json.dumps({**WEIGHTS, **changes}))

    def run(self, *arguments: str) -> Result:
        """Run a command in this process."""
        self.capsys.readouterr()
        code = cli.main(arguments)
        printed = self.capsys.readouterr()
        return Result(code, printed.out, printed.err)

    def deploy(self, *arguments: str) -> Result:
        return self.run("deploy", "pot.yaml", *arguments)

    def good(self, *arguments: str) -> Result:
        """Deploy, and insist that it works."""
        result = self.deploy(*arguments)
        assert result.code == 0, result.err
        return result

    def plan(self, name: str = "pot.yaml") -> Plan:
        from yolodeploy.planning.planner import plan_recipe

        return plan_recipe(self.root / name, self.cache)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command as a process of its own."""
        command = [sys.executable, "-m", "yolodeploy", *arguments]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(command, cwd=self.root, text=True, **options)

    def process(self, *arguments: str, **options: Any) -> Result:
        """Run a command as a process of its own."""
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=240)
        return Result(process.returncode, out or "", err or "")

    def state(self) -> Mapping[str, tuple[bytes, int]]:
        """Bytes and mtime of every file of bundle, lock and store objects."""
        files = [self.lock, *self.bundle.rglob("*"), *self.cache.glob("objects/**/*")]
        return {
            str(path): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in files
            if path.is_file()
        }

    def leftovers(self) -> list[str]:
        """What an aborted run may not leave behind where users look, or in the store's tmp."""
        dist = self.root / "dist"
        hidden = [p.name for p in dist.glob(".*") if p.is_dir()] if dist.is_dir() else []
        return hidden + [p.name for p in self.cache.glob("tmp/*")]


def objects(cache: Path) -> list[Path]:
    """The folders of the stored objects."""
    return sorted(cache.glob("objects/??/*"))


def copy_world(source: Path, target: Path) -> None:
    """Copy a world with its store and bundle."""
    shutil.copytree(source, target, dirs_exist_ok=True, copy_function=shutil.copy2)
