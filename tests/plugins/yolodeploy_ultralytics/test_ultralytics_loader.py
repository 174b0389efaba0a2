"""A checkpoint with a layer of somebody's own: refused without both opt-ins, and shipped with them."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import exported as made
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from real_model import ROOT

import yolodeploy_openvino
import yolodeploy_ultralytics
from yolodeploy.backend import Artifact, CodeFolder, Target
from yolodeploy.cli import main as cli
from yolodeploy.errors import ModelError, PlanRefused, RecipeError, YolodeployError
from yolodeploy.planning import plan_recipe
from yolodeploy_ultralytics.edited import edited
from yolodeploy_ultralytics.export import export
from yolodeploy_ultralytics.params import LoadUltralytics

SIZE = (96, 160)
NAMES = ("red", "green", "blue")  # of the data set
GATE = '''
import os
from pathlib import Path

import torch
from torch import nn

if "GATE_MARK" in os.environ:
    Path(os.environ["GATE_MARK"]).write_text("executed")


class Gate(nn.Module):
    """Scales channels by what it sees of the whole image."""

    def __init__(self, channels):
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.mix(x.mean((2, 3), keepdim=True)))
'''
OPTED = "  loader: {ultralytics: {path: mods}}\n"


def recipe(folder: Path, loader: str = OPTED, weights: str = "best.pt") -> Path:
    path = folder / "own.yaml"
    path.write_text(
        f"model:\n  weights: {weights}\n{loader}data: {{path: data/data.yaml}}\ntarget: intel-cpu\n"
        "steps:\n  - export: {precision: fp32}\n",
        encoding="utf-8",
    )
    return path


def gated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A narrow YOLOv8 with a Gate inside, saved as Ultralytics saves it; random weights that give lively outputs."""
    tasks = pytest.importorskip("ultralytics.nn.tasks", reason="pip install 'yolodeploy[train]'")
    monkeypatch.syspath_prepend(folder / "mods")
    gate = importlib.import_module("own_gates").Gate
    table = tasks.yaml_model_load("yolov8n.yaml")
    table["scales"] = {"n": [0.33, 0.06, 64]}
    torch.manual_seed(0)
    model = tasks.DetectionModel(table, nc=len(NAMES), verbose=False)
    layer = model.model[4]
    mixed = torch.nn.Sequential(layer, gate(layer.cv2.conv.out_channels))
    mixed.i, mixed.f, mixed.type, mixed.np = layer.i, layer.f, "Gate", 0
    model.model[4] = mixed
    for _ in range(40):  # the normalisations learn what they see
        model.train()(torch.rand(4, 3, *SIZE))
    for branch in model.model[-1].cv3:
        branch[-1].weight.data.mul_(30)
        branch[-1].bias.data.fill_(-1)
    model.names = dict(enumerate(NAMES))
    content = {"model": model.half(), "ema": None, "epoch": -1, "train_args": {"imgsz": SIZE[1]}}
    torch.save(content, folder / "best.pt")
    del sys.modules["own_gates"]
    return model.float().eval()


@pytest.fixture
def project(tmp_path: Path, dataset: Path, cache: Path) -> Path:
    """A project with a data set, a folder of modules, and a file that is no checkpoint."""
    del dataset, cache
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "best.pt").write_bytes(b"no checkpoint")
    (tmp_path / "mods").mkdir()
    (tmp_path / "mods" / "own_gates.py").write_text(GATE, encoding="utf-8")
    return tmp_path


@pytest.mark.slow
def test_a_layer_of_ones_own_ships_if_both_ask_for_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, mark = gated(project, monkeypatch), project / "mark"
    monkeypatch.setenv("GATE_MARK", str(mark))
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(project / "settings of the user"))
    own = "If the layers are your own, write `loader: ultralytics` beside `weights` and add --trust-weights"
    with pytest.raises(ModelError, match=rf"own\.yaml:2:3: .*needs `own_gates\.Gate`.*{own}"):
        plan_recipe(recipe(project, ""), project / "cache", trusted=True)
    with pytest.raises(PlanRefused, match=r"own\.yaml:3:3: .* executes .*add: --trust-weights"):
        plan_recipe(recipe(project), project / "cache")
    assert cli.main(["inspect", str(project / "best.pt")]) == ModelError.exit_code
    assert not mark.exists()

    capsys.readouterr()
    shape = f"  imgsz: [{SIZE[0]}, {SIZE[1]}]\n"
    assert cli.main(["build", str(recipe(project, OPTED + shape)), "--trust-weights", "-q"]) == 0
    built = Path(capsys.readouterr().out.splitlines()[0])
    assert mark.read_text(encoding="utf-8") == "executed"
    assert not (project / "settings of the user").exists()
    assert {path.name for path in (project / "mods").iterdir()} <= {"own_gates.py", "__pycache__"}
    _require_equal(model, built)

    plan = plan_recipe(recipe(project, OPTED + shape), project / "cache", trusted=True)
    assert any("was trusted, and the ultralytics loader executes it" in note for note in plan.notes)
    assert plan.facts
    assert (plan.facts.imgsz, plan.facts.names, plan.facts.known) == (SIZE[1], NAMES, "head")


def _require_equal(model: Any, built: Path) -> None:
    """The artifact gives what the module itself gives."""
    images: NDArray[np.float32] = np.random.default_rng(3).random((1, 3, *SIZE), np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(images))[0].numpy()
    assert np.ptp(expected[:, 4:]) > 0.5
    target = Target(next(d for d in yolodeploy_openvino.DEVICES if d.name == "intel-cpu"))
    found = yolodeploy_openvino.open(Artifact("openvino", built, ""), target, 1)(images)
    found = found["output0"] if isinstance(found, dict) else found
    assert np.abs(found - expected)[:, :4].max() < 1e-3
    assert np.abs(found - expected)[:, 4:].max() < 1e-5


@pytest.mark.parametrize(
    ("loader", "expected", "kind"),
    [
        (
            "ultralitics",
            r":3:3: no installed plugin `ultralitics` .*meant `ultralytics`",
            PlanRefused,
        ),
        ("onnx", r":3:3: the onnx plugin does not load `best\.pt`\. Loadable: \.onnx", PlanRefused),
        ("{ultralytics: {fork: mods}}", r":3:.*no option `fork`.*Allowed: path", RecipeError),
        ("{ultralytics: {head: one-to-one}}", r":3:.*no option `head`", RecipeError),
        (
            "{torch: {path: mods}}",
            r":3:.*`loader: torch` has no option `path`. It has none",
            RecipeError,
        ),
        ("[ultralytics]", r":3:.*must be the name of a plugin, alone or with", RecipeError),
        ("{ultralytics: {path: ../..}}", r":3:.*outside the recipe's project", PlanRefused),
        ("{ultralytics: {path: gone}}", r":3:.*there is no folder .*gone", ModelError),
        ("{ultralytics: {path: data}}", r":3:.*data holds no Python modules", ModelError),
    ],
)
def test_what_a_loader_cannot_be(
    loader: str, expected: str, kind: type[YolodeployError], project: Path
) -> None:
    path = recipe(project, f"  loader: {loader}\n")
    with pytest.raises(kind, match=rf"own\.yaml{expected}"):
        plan_recipe(path, project / "cache", trusted=True)


FORKS = {
    "import gone": r"needs the module `gone`, which is not found\. Name the folder .*path: FOLDER",
    "import socket; socket.create_connection(('example.org', 80))": "a loader gets no network",
    "raise AttributeError(\"Can't get attribute 'G' on <module '__main__'>\")": "class of the script that saved it",
    "import os; os._exit(7)": r"the process that executed it ended with code 7",
    "raise RuntimeError('odd\\nfile')": r"failed with RuntimeError: odd file\.",
}


@pytest.mark.parametrize("line", FORKS)
def test_what_goes_wrong_in_the_child_is_told(line: str, project: Path) -> None:
    """With a fork that is nothing but this line: it comes before what is installed."""
    (project / "mods" / "ultralytics.py").write_text(line, encoding="utf-8")
    (project / "work").mkdir()
    params = LoadUltralytics(path=CodeFolder(folder=project / "mods"))
    with pytest.raises(ModelError, match=rf"best\.pt cannot be used: .*{FORKS[line]}"):
        export(project / "best.pt", params, None, project / "work")


@pytest.mark.slow
def test_models_of_other_tasks_are_exported_with_either_head(tmp_path: Path) -> None:
    pytest.importorskip("ultralytics", reason="the oracle. Run: pip install 'yolodeploy[train]'")
    oracle = made.narrow("yolo26n-pose", tmp_path, (64, 64))
    info = yolodeploy_ultralytics.facts(oracle.checkpoint, LoadUltralytics(head="one-to-one"))
    assert (info.task, info.names, info.kpt_shape) == ("pose", made.NAMES, made.KEYPOINTS)
    assert (info.known, info.head, info.imgsz) == ("head", "one-to-one", 64)
    assert set(info.heads) == {"one-to-one", "one-to-many"}


def test_ids_follow_the_modules_and_nothing_beside_them(project: Path) -> None:
    pack = project / "mods" / "pack"
    pack.mkdir()
    (pack / "__init__.py").touch()
    before = _digest(project)
    (project / "mods" / "runs").mkdir()
    (project / "mods" / "runs" / "notes.py").touch()
    (pack / "__pycache__").mkdir()
    (pack / "__pycache__" / "x.pyc").touch()
    assert _digest(project) == before
    (pack / "settings.yaml").write_text("a: 1", encoding="utf-8")
    after = _digest(project)
    assert after != before
    os.symlink(project / "data", pack / "linked")  # noqa: PTH211
    with pytest.raises(ModelError, match=r"linked is a link to a folder, which is not followed"):
        _digest(project)


def _digest(project: Path) -> str:
    from yolodeploy.backend import with_digests
    from yolodeploy.planning import forgetful
    from yolodeploy.recipe import Position, allowed_paths

    params = LoadUltralytics(path=CodeFolder(folder=project / "mods"))
    at, allowed = Position(project / "own.yaml", 1, 1), allowed_paths(project / "own.yaml", ())
    found = with_digests(params, at, forgetful(), allowed).model_dump(mode="json")
    assert found["path"].keys() == {"sha256"}
    return str(found["path"]["sha256"])


def test_an_editable_installation_counts_by_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}

    class Installed:
        def read_text(self, name: str) -> str:
            return json.dumps(record) if name == "direct_url.json" else ""

    monkeypatch.setattr("importlib.metadata.distribution", lambda _: Installed())
    found = []
    for text in ("a = 1", "a = 2"):
        (tmp_path / "own.py").write_text(text, encoding="utf-8")
        found.append(edited.__wrapped__("ultralytics"))
    assert [list(versions) for versions in found] == [["ultralytics (edited)"]] * 2
    assert found[0] != found[1]
    record["dir_info"] = {}
    assert edited.__wrapped__("ultralytics") == {}


def test_only_the_child_imports_ultralytics() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("yolodeploy", "plugins")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"^ *(import|from) ultralytics\b", path.read_text("utf-8"), re.MULTILINE)
    }
    assert found == {"plugins/yolodeploy_ultralytics/child.py"}
