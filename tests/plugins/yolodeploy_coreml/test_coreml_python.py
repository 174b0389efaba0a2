"""Python versions that coremltools has no release for: everything but Core ML works, and the plugin says so."""

from __future__ import annotations

import tomllib
import types
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from real_model import DEMO, ROOT

import yolodeploy_coreml
from yolodeploy.cli.commands.upkeep import doctor
from yolodeploy.cli.main import main

SENTENCE = (
    "coremltools has no release for Python newer than 3.13, and this is 3.14.1. "
    "Install yolodeploy under Python 3.11 to 3.13 to ship to iOS; the other backends run here"
)


@pytest.fixture
def newer_python(monkeypatch: pytest.MonkeyPatch) -> None:
    python = types.SimpleNamespace(version_info=(3, 14, 1, "final", 0))
    monkeypatch.setattr(yolodeploy_coreml, "sys", python)
    monkeypatch.setattr(
        yolodeploy_coreml, "installed", lambda *names: dict.fromkeys(names, "missing")
    )


def test_a_newer_python_installs_everything_but_coremltools() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = map(Requirement, project["optional-dependencies"]["coreml"])
    needed = next(one for one in extra if one.name == "coremltools")
    assert needed.marker
    newest = ".".join(map(str, yolodeploy_coreml._NEWEST_PYTHON))
    assert needed.marker.evaluate({"python_version": newest})
    assert not needed.marker.evaluate({"python_version": "3.14"})
    versions = [c.rpartition(" ")[2] for c in project["classifiers"] if ":: Python :: 3." in c]
    assert versions == ["3.11", "3.12", "3.13", "3.14"]


@pytest.mark.usefixtures("newer_python")
def test_doctor_backends_and_refusal_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_MIN_FREE_GB", 0.0)  # not what a full disk of this machine says
    store = ["--cache", str(tmp_path / "store")]
    assert main(["doctor", *store]) == 0
    assert f"NO  coreml       {SENTENCE}\n" in capsys.readouterr().out
    assert main(["backends", *store]) == 0
    assert f"coreml       {SENTENCE}\n" in capsys.readouterr().out
    recipe = tmp_path / "ios.yaml"
    data = ROOT / "examples" / "shapes" / "data" / "data.yaml"
    recipe.write_text(
        f"model: {{weights: {DEMO}}}\ndata: {{path: {data}, evaluation: {{images: 2}}}}\n"
        "target: iphone-13\nsteps: [export]\n"
    )
    allow = ["--allow", str(ROOT)]
    assert main(["check", str(recipe), *allow, *store]) == 0
    assert capsys.readouterr().out.endswith(f"ios.yaml: ok, but not here: {SENTENCE}\n")
    assert main(["build", str(recipe), *allow, *store]) == 4
    assert f"the coreml backend cannot run here: {SENTENCE}\n" in capsys.readouterr().err
