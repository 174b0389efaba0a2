"""`yolodeploy init`: from weights and a data set to recipes that are deployed as they are."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import pytest
from world import World

import yolodeploy as yd
from yolodeploy.backend import Advice, AdvisedStep, Situation, Target
from yolodeploy.errors import PlanRefused


@pytest.fixture
def potter(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A project with weights that say what they are, and a backend that advises."""
    clay, kiln = importlib.import_module("clay"), importlib.import_module("kiln")
    monkeypatch.setattr(clay, "facts", clay.read_facts, raising=False)
    monkeypatch.setattr(kiln, "SUGGESTED", "kiln-b", raising=False)
    monkeypatch.setattr(kiln, "advise", advise, raising=False)
    world.write(".git/HEAD", "")
    (world.root / "pot.yaml").unlink()
    return world


def advise(situation: Situation, target: Target) -> Advice:
    export = AdvisedStep("export", {"precision": "fp16"}, "Half the size.")
    if not situation.calibration:
        return Advice((export,), 0.1, 0.01, 0.95)
    press = AdvisedStep("press", {"strength": 0.25}, f"Heats to {target.device.title}.")
    return Advice((export, press), 0.05, 0.02, 0.9, ("Press harder next time.",))


def init(world: World, *more: str) -> dict[str, object]:
    found = world.run("init", "model.clay", "--json", *more)
    assert found.code == 0, found.err
    return dict(found.json)


def test_two_commands_lead_to_a_bundle(potter: World) -> None:
    said = init(potter)
    assert said["data"] == "data/data.yaml"
    assert said["next"] == "yolodeploy deploy recipes/kiln-b.yaml"
    assert potter.run("check", "recipes/kiln-b.yaml").err.endswith("objects\n")  # no warning
    deployed = potter.run("deploy", "recipes/kiln-b.yaml")
    assert deployed.code == 0, deployed.err
    assert (potter.root / "dist/kiln-b/report.json").is_file()


def test_every_backend_gets_a_recipe_and_one_without_advice_its_export(
    potter: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("oven"), "problem", lambda: None)
    found = potter.run("init", "model.clay")
    assert found.out.splitlines()[-4:] == [
        "recipes/kiln-b.yaml  export, press",
        "recipes/oven-x.yaml  export",
        "",
        "Next: yolodeploy deploy recipes/*.yaml",
    ]


def test_a_recipe_says_why(potter: World) -> None:
    init(potter, "--device", "kiln-a")
    text = Path("recipes/kiln-a.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=recipe.schema.json\n")
    assert json.loads(Path("recipes/recipe.schema.json").read_text())["properties"]["steps"]
    for line in (
        "  weights: ../model.clay",
        "  # Heats to Kiln A (2021).",
        "  - press: {strength: 0.25}",
        "  # Press harder next time.",
        "  map_drop: 0.02  # loss of mAP50-95 against the source model",
    ):
        assert line in text.splitlines()


def test_nothing_is_overwritten(potter: World) -> None:
    potter.write("recipes/kiln-b.yaml", "mine")
    found = potter.run("init", "model.clay")
    assert found.code == 2
    assert found.error == (
        "recipes/kiln-b.yaml exists already, and init overwrites nothing. Name another folder (-o), or devices that have no "
        "recipe yet (--device)."
    )
    assert [path.name for path in Path("recipes").iterdir()] == ["kiln-b.yaml"]
    init(potter, "-o", "others")
    assert Path("recipes/kiln-b.yaml").read_text() == "mine"


def test_what_lies_outside_of_the_project_is_allowed_by_the_command(
    potter: World, tmp_path: Path
) -> None:
    shutil.rmtree(".git")
    shutil.move("data", tmp_path / "my data")
    said = init(potter, "--data", str(tmp_path / "my data/data.yaml"), "--device", "kiln-a")
    assert said["next"] == (
        f"yolodeploy deploy recipes/kiln-a.yaml --allow '{tmp_path}/my data' --allow ."
    )
    refused = potter.run("deploy", "recipes/kiln-a.yaml")
    assert refused.code == 3
    assert "lies outside the recipe's project" in refused.error
    allowed = ["--allow", f"{tmp_path}/my data", "--allow", "."]
    assert potter.run("check", "recipes/kiln-a.yaml", *allowed).code == 0


def test_a_folder_means_the_data_yaml_in_it(potter: World) -> None:
    assert init(potter, "--data", "data")["data"] == "data/data.yaml"


@pytest.mark.parametrize(
    "words",
    [
        "model.clay --device kiln-a,kiln-b",
        "model.clay --device kiln-a kiln-b",
        "--device kiln-a kiln-b model.clay",
        "--device kiln-a, model.clay --device kiln-b",
        "-o recipes model.clay --device kiln-a --device kiln-b",
    ],
)
def test_devices_and_weights_in_any_order(potter: World, words: str) -> None:
    found = potter.run("init", *words.split())
    assert found.code == 0, found.err
    assert sorted(path.stem for path in Path("recipes").glob("*.yaml")) == ["kiln-a", "kiln-b"]


def test_devices_without_weights(potter: World) -> None:
    found = potter.run("init", "--device", "kiln-a")
    assert (found.code, found.error) == (
        2,
        "the following arguments are required: WEIGHTS. See `yolodeploy init --help`.",
    )
    two = potter.run("init", "model.clay", "--device", "kiln-a", "model.clay")
    assert (two.code, "`model.clay`" in two.error) == (3, True)  # no such device


def test_a_file_in_place_of_the_folder(potter: World) -> None:
    found = potter.run("init", "model.clay", "--device", "kiln-a", "-o", "model.clay")
    assert found.code == 4
    assert found.error == (
        "kiln-a: model.clay is a file, or lies in one. Name a folder for the recipes with -o."
    )


def test_why_a_command_has_allow(potter: World) -> None:
    shutil.rmtree(".git")
    said = potter.run("init", "model.clay").out
    words = " ".join(said.split())
    assert "else their own. Here that is recipes; --allow names what else they may read." in words
    assert said.endswith("Next: yolodeploy deploy recipes/kiln-b.yaml --allow .\n")


def test_without_training_images_nothing_is_calibrated(potter: World) -> None:
    shutil.rmtree("data/images/train")
    said = init(potter, "--device", "kiln-a")
    assert said["calibration_images"] == 0
    text = Path("recipes/kiln-a.yaml").read_text()
    assert "  # No `calibration:`, because there are no training images here" in text
    assert "press" not in text


def test_training_images_that_are_evaluation_images_are_not_calibrated_with(potter: World) -> None:
    file = Path("data/data.yaml")
    file.write_text(file.read_text().replace("images/train", "images/val"))
    assert init(potter, "--device", "kiln-a")["calibration_images"] == 0
    assert "are also in `val`" in Path("recipes/kiln-a.yaml").read_text()


def test_a_data_set_without_labels_is_checked_by_fidelity(potter: World) -> None:
    shutil.rmtree("data/labels/val")
    (said,) = init(potter, "--device", "kiln-a")["recipes"]  # type: ignore[misc]
    assert said["checks"] == {"size_mb": 0.05, "fidelity": 0.9}
    assert potter.run("deploy", "recipes/kiln-a.yaml").code == 0


def test_a_name_that_no_recipe_may_have(potter: World) -> None:
    Path("model.clay").rename("Öfen v2 (final).clay")
    found = potter.run("init", "Öfen v2 (final).clay", "--device", "kiln-a")
    assert found.code == 0, found.err
    assert Path("recipes/fen-v2-final-kiln-a.yaml").is_file()
    assert (
        'weights: "../Öfen v2 (final).clay"' in Path("recipes/fen-v2-final-kiln-a.yaml").read_text()
    )


def test_characters_that_nobody_sees_are_escaped(potter: World) -> None:
    name = "a\x7f\x85\u202e\u2028b.clay"
    Path("model.clay").rename(name)
    found = potter.run("init", name, "--device", "kiln-a")
    assert found.code == 0, found.err
    text = Path("recipes/a-b-kiln-a.yaml").read_text(encoding="utf-8")
    assert r'"../a\U0000007f\U00000085\U0000202e\U00002028b.clay"' in text


def test_a_device_that_stands_alone_is_one(potter: World) -> None:
    with pytest.raises(PlanRefused, match="ships to `kiln-q`"):
        yd.init("model.clay", devices="kiln-q")


def test_a_schema_that_is_a_broken_link_stays_as_it_is(potter: World) -> None:
    Path("recipes").mkdir()
    Path("recipes/recipe.schema.json").symlink_to("nowhere")
    assert potter.run("init", "model.clay").code == 0
    assert not Path("recipes/nowhere").exists()


def test_a_missing_data_set_is_one_refusal(potter: World) -> None:
    Path("data/data.yaml").unlink()
    found = potter.run("init", "model.clay")
    assert found.code == 6
    assert found.error == (
        "The data set of model.clay was not found: it does not name it, and none of the same classes lies near. Add: --data "
        "path/to/data.yaml"
    )
    assert not Path("recipes").exists()


def test_a_data_set_of_other_classes_is_passed_over(potter: World) -> None:
    potter.weights(names=["cup", "jug"])
    found = potter.run("init", "model.clay")
    assert found.code == 6
    assert "Passed over: data/data.yaml has 3 classes, the model 2." in found.error


def test_labels_of_another_task_are_passed_over(potter: World) -> None:
    shutil.copytree("data", "datasets")
    for label in Path("data").rglob("*.txt"):
        label.write_text("0 0.1 0.1 0.4 0.1 0.4 0.4 0.2 0.5 0.1\n")  # half a polygon
    assert init(potter)["data"] == "datasets/data.yaml"


def test_on_a_terminal_it_asks_for_what_it_cannot_find(
    potter: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.move("data", "elsewhere/deep")
    answers = iter(["kiln-a, kiln-b\n", "elsewhere/deep/data.yaml\n"])
    monkeypatch.setattr("sys.stdin", Terminal(answers))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert potter.run("init", "model.clay").code == 0
    assert sorted(path.stem for path in Path("recipes").glob("*.yaml")) == ["kiln-a", "kiln-b"]


class Terminal:
    """Somebody who answers."""

    def __init__(self, answers: object) -> None:
        self.answers = answers

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return str(next(self.answers))  # type: ignore[call-overload]


def test_an_unknown_device_names_the_nearest(potter: World) -> None:
    found = potter.run("init", "model.clay", "--device", "kiln-c")
    assert found.code == 3
    assert "Perhaps you meant kiln-" in found.error


def test_a_device_that_cannot_run_the_model_is_left_out_unless_it_was_named(
    potter: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("oven"), "problem", lambda: None)
    kiln = importlib.import_module("kiln")
    monkeypatch.setattr(kiln, "refuse", lambda *_: "it would crack. Choose another.")
    said = init(potter)
    assert said["left_out"] == {"kiln-b": "it would crack. Choose another."}
    assert said["next"] == "yolodeploy deploy recipes/oven-x.yaml"
    assert not Path("recipes/kiln-b.yaml").exists()
    named = potter.run("init", "model.clay", "--device", "kiln-b", "-o", "others")
    assert named.code == 3
    assert "it would crack" in named.error
    assert not Path("others").exists()


def test_measured_limits_hold_at_once(potter: World) -> None:
    """A model that loses a class to fp16 fails the first limits; measured ones allow for it."""
    potter.weights(damage={"fp16": {"shift": 2.0}})
    (said,) = init(potter, "--device", "kiln-a", "--measure")["recipes"]  # type: ignore[misc]
    text = Path("recipes/kiln-a.yaml").read_text()
    assert "  # Limits with a margin around what was measured on " in text
    assert "First limits" not in text
    assert said["checks"]["size_mb"] < 0.05
    assert said["checks"]["map_drop"] > 0.02
    assert not Path("dist").exists()
    assert not Path("recipes/kiln-a.lock").exists()
    deployed = potter.run("deploy", "recipes/kiln-a.yaml")
    assert deployed.code == 0, deployed.err


def test_a_recipe_that_cannot_be_measured_keeps_its_first_limits(
    potter: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("oven"), "problem", lambda: None)
    found = potter.run("init", "model.clay", "--measure")
    assert found.code == 0, found.err
    assert "Limits with a margin" in Path("recipes/kiln-b.yaml").read_text()
    assert "First limits" in Path("recipes/oven-x.yaml").read_text()
    assert "oven-x" in found.error
