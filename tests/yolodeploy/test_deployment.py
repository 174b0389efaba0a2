"""Evidence, checks, bundle and lock of a whole deployment."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from world import World, copy_world

from yolodeploy.data.images import letterboxed_file, to_tensor
from yolodeploy.measure.checks import run_checks
from yolodeploy.recipe.fields import Checks
from yolodeploy.system import ImageShape
from yolodeploy.system.distributions import installed
from yolodeploy.tasks import Key, Measure
from yolodeploy.tasks.detection.postprocess import detect
from yolodeploy.tasks.thresholds import Rules

DAMAGE = {"fp16": {"shift": 3.0, "miss": ["red"], "noise": 0.125}}
LIMITS = "checks: {size_mb: 0.001, map_drop: 0.01, class_ap_drop: 0.02, latency_ratio: 0.001, output_diff: 0.5}\n"
REPORT_KEYS = [
    "name",
    "target",
    "backend",
    "artifact.format",
    "artifact.digest",
    "artifact.bytes",
    "versions",
    "checks",
    "evidence.map50_95.source",
    "evidence.map50_95.artifact",
    "evidence.map50_95.drop",
    "evidence.map50.source",
    "evidence.map50.artifact",
    "evidence.map50.drop",
    "evidence.per_class",
    "evidence.output_diff.max",
    "evidence.output_diff.mean",
    "evidence.latency_ms.median",
    "evidence.latency_ms.p90",
    "evidence.latency_ratio",
    "evidence.runtime.name",
    "evidence.runtime.version",
    "evidence.runtime.note",
    "evidence.images",
]


def _at(value: Any, path: str) -> Any:
    for key in path.split("."):
        value = value[key]
    return value


def test_report_has_every_key(deployed: World) -> None:
    report = json.loads((deployed.bundle / "report.json").read_text())
    for path in REPORT_KEYS:
        assert _at(report, path) is not None, path
    assert [step["name"] for step in report["steps"]] == ["load", "export", "press"]
    for step in report["steps"]:
        assert {"name", "id", "seconds", "cached"} <= step.keys()
    assert report["evidence"]["images"] == 6
    assert report["evidence"]["map50"] == {"source": 1.0, "artifact": 1.0, "drop": 0.0}
    assert report["evidence"]["output_diff"]["max"] == 0.0
    assert report["versions"].keys() == {"yolodeploy", "clay", "kiln"}
    assert [row["objects"] for row in report["evidence"]["per_class"]] == [6, 6, 6]


def test_measured_drops_and_differences(world: World) -> None:
    world.weights(damage=DAMAGE)
    report = world.good("--json").json
    evidence = report["evidence"]
    red = evidence["per_class"][0]
    assert (red["name"], red["artifact"], red["drop"]) == ("red", 0.0, red["source"])
    assert evidence["map50"] == {"source": 1.0, "artifact": 0.666667, "drop": 0.333333}
    assert evidence["output_diff"]["scores"]["max"] == 0.875  # a red score that is gone
    assert evidence["output_diff"]["boxes_px"]["max"] == evidence["output_diff"]["max"] > 3
    drops = [row["drop"] for row in evidence["per_class"]]
    assert evidence["map50_95"]["drop"] == pytest.approx(sum(drops) / 3, abs=2e-6)
    assert 0 < drops[1] < 1


def test_checks_fail_with_figures_and_remedies_and_the_old_bundle_stays(deployed: World) -> None:
    before = deployed.state()
    deployed.weights(damage=DAMAGE)
    deployed.recipe(extra=LIMITS)
    result = deployed.deploy()
    assert result.code == 1
    lines = result.error.splitlines()
    assert lines[0] == "pot.yaml: no bundle was written."
    patterns = (
        r"  size_mb: 0.01\d* is 0.0\d+ over the limit of 0.001. Store weights in fp16, or compress further; or raise the limit.",
        r"  map_drop: 0.\d+ is 0.\d+ over the limit of 0.01. Compress less, .*; or allow a larger drop.",
        r"  class_ap_drop (class `red`): .* over the limit of 0.02. Compress less, .*",
        r"  latency_ratio (on .*): .* over the limit of 0.001. This form is not faster on this processor: .*",
        r"  output_diff: .* is .* over the limit of 0.5. Export with `precision: fp32`, or allow a larger difference.",
    )
    assert len(lines) == 6
    for line, pattern in zip(lines[1:], patterns, strict=True):
        import re

        assert re.fullmatch(pattern.replace("(", r"\(").replace(")", r"\)"), line), line
    assert before.items() <= deployed.state().items()
    assert not deployed.leftovers()
    assert result.out.count("FAILED") == 5
    failed = deployed.deploy("--json")
    assert failed.json["error"]["exit_code"] == 1
    assert [check["ok"] for check in failed.json["report"]["checks"]] == [False] * 5
    assert deployed.log.count("press") != 2  # the second run measured nothing anew


@pytest.mark.parametrize(
    "name", ["size_mb", "map_drop", "class_ap_drop", "latency_ratio", "output_diff"]
)
def test_each_check_passes_with_room(deployed: World, name: str) -> None:
    limit = 50 if name in ("size_mb", "latency_ratio", "output_diff") else 0
    deployed.recipe(extra=f"checks: {{{name}: {limit}}}\n")
    result = deployed.good("--json")
    assert [(c["name"], c["ok"]) for c in result.json["checks"]] == [(name, True)]
    assert deployed.log == []


@pytest.mark.parametrize("limit", [".inf", ".nan"])
def test_a_limit_must_be_finite(world: World, limit: str) -> None:
    world.recipe(extra=f"checks: {{size_mb: {limit}}}\n")
    result = world.deploy()
    assert result.code == 2
    assert "must be a finite number" in result.error


def test_without_labels_accuracy_is_null_with_a_reason(world: World) -> None:
    shutil.rmtree(world.root / "data/labels")
    report = world.good("--json").json
    nothing = {
        "source": None, "artifact": None, "drop": None,
        "reason": "the evaluation images have no labels",
    }  # fmt: skip
    assert report["evidence"]["map50_95"] == report["evidence"]["map50"] == nothing
    assert report["evidence"]["per_class"] == []
    assert "not measured: the evaluation images have no labels" in world.good().out
    assert "no labels" in (world.bundle / "report.html").read_text()
    assert report["evidence"]["fidelity"] == {
        "value": 1.0,
        "objects": report["evidence"]["images"] * 3,
    }
    world.recipe(extra="checks: {fidelity: 0.99}\n")
    assert "fidelity 1 (at least 0.99)" in world.good().out
    world.recipe(extra="checks: {map_drop: 0.1, class_ap_drop: 0.1}\n")
    result = world.deploy()
    assert (result.code, result.error.splitlines()[1:]) == (
        1,
        [
            (
                "  map_drop: not measured (the evaluation images have no labels), so the check cannot "
                "pass. Remove it or provide the data."
            ),
            (
                "  class_ap_drop: not measured (no class has labels), so the check cannot pass. "
                "Remove it or provide the data."
            ),
        ],
    )


def test_classes_without_labels_are_null_with_a_reason(world: World) -> None:
    for label in (world.root / "data/labels/val").iterdir():
        label.write_text(label.read_text().splitlines()[0] + "\n")
    evidence = world.good("--json").json["evidence"]
    assert evidence["per_class"][0]["source"] is not None
    for row in evidence["per_class"][1:]:
        assert (row["source"], row["drop"], row["objects"]) == (None, None, 0)
        assert row["reason"] == "no evaluation image shows this class"


def test_only_empty_label_files(world: World) -> None:
    for label in (world.root / "data/labels/val").iterdir():
        label.write_text("")
    evidence = world.good("--json").json["evidence"]
    assert evidence["map50_95"]["drop"] is None
    assert evidence["map50_95"]["reason"] == "no evaluation image shows an object"


def test_a_model_that_finds_nothing(world: World) -> None:
    world.weights(damage={"fp16": {"miss": ["red", "green", "blue"]}})
    evidence = world.good("--json").json["evidence"]
    assert evidence["map50"] == {"source": 1.0, "artifact": 0.0, "drop": 1.0}
    golden = json.loads((world.bundle / "golden/detections.json").read_text())
    assert golden["detections"] == []


def _evidence(source: float) -> Any:
    """What the checks read of evidence."""
    reason = "the speed of X says nothing about the device"
    measures = (
        Measure(Key("map50_95"), source, 0.0),
        Measure(Key("class_ap50_95"), source, 0.0, group="red", count=3),
        Measure(Key("latency_ratio"), None, None, higher_is_better=False, reason=reason),
        Measure(Key("speedup"), None, None, reason=reason),
        Measure(Key("output_diff"), None, 0.0, higher_is_better=False),
        Measure(Key("fidelity"), None, 0.9),
    )
    cpu = SimpleNamespace(cpu="a CPU")
    return SimpleNamespace(measures=measures, primary=measures[0], timing=cpu)


def test_fidelity_has_a_smallest_value() -> None:
    (passed,) = run_checks(Checks(fidelity=0.9), _evidence(0.5), [])
    (missed,) = run_checks(Checks(fidelity=0.91), _evidence(0.5), [])
    assert (passed.ok, missed.ok) == (True, False)
    assert "0.9 is 0.01 below the limit of 0.91" in missed.failure()


def test_a_source_that_finds_nothing_proves_nothing() -> None:
    wanted = Checks(map_drop=0.5, class_ap_drop=0.5, latency_ratio=2.0)
    map_drop, class_drop, latency = run_checks(wanted, _evidence(0.0), [])
    assert [check.ok for check in (map_drop, class_drop, latency)] == [False] * 3
    assert "finds none of the labelled objects" in map_drop.failure()
    assert "finds none of the labelled objects" in class_drop.failure()
    assert "says nothing about the device" in latency.failure()
    assert [c.ok for c in run_checks(wanted, _evidence(0.4), [])] == [True, True, False]


def test_a_recipe_that_changed_without_changing_bytes_renews_the_bundle(deployed: World) -> None:
    """plan.json in the bundle must not contradict the lock."""
    digest = deployed.plan().weights_digest
    deployed.recipe(("imgsz: 64", f"imgsz: 64\n  sha256: {digest}"))
    deployed.good()
    plan = json.loads((deployed.bundle / "plan.json").read_text())
    assert plan["recipe"]["model"]["sha256"] == digest


def test_a_drop_too_small_to_show_is_no_loss() -> None:
    from yolodeploy.report.table import worst_classes

    pairs = (("a", 0.49996), ("b", None), ("c", 0.4))
    measures = [
        Measure(Key("class_ap50_95"), 0.5, artifact, group=name) for name, artifact in pairs
    ]
    assert [measure.group for measure in worst_classes(measures, 3)] == ["c"]


def test_a_tiny_gain_has_no_sign(deployed: World) -> None:
    from yolodeploy.report.table import report_table

    report = json.loads((deployed.bundle / "report.json").read_text())
    (row,) = (row for row in report["measures"] if row["key"] == "map50")
    row["artifact"] = row["source"] + 0.00001
    assert "-0.0000" not in report_table(report)


def test_bundle_contents_and_manifest(deployed: World) -> None:
    files = {
        path.relative_to(deployed.bundle).as_posix(): path
        for path in deployed.bundle.rglob("*")
        if path.is_file()
    }
    assert sorted(files) == sorted(
        [
            "brick.json",
            "weights.bin",
            "labels.txt",
            "contract.json",
            "plan.json",
            "pictures.json",
            "report.json",
            "report.html",
            "manifest.json",
            "provenance.json",
            "bom.cdx.json",
            "golden/image.png",
            "golden/input.npy",
            "golden/output.npy",
            "golden/detections.json",
        ]
    )
    manifest = json.loads(files.pop("manifest.json").read_text())
    assert manifest["files"] == {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()
    }
    assert files["labels.txt"].read_text() == "red\ngreen\nblue\n"
    contract = json.loads(files["contract.json"].read_text())
    assert contract["input_size"] == [64, 64]
    assert (contract["colour_order"], contract["classes"]) == ("RGB", 3)
    assert contract["thresholds"] == {
        "confidence": 0.25, "iou": 0.7, "limit": 300, "multi_label": False,
    }  # fmt: skip
    assert contract["letterbox"]["fill"] == [114, 114, 114]
    plan = json.loads(files["plan.json"].read_text())
    assert plan["steps"][2]["params"] == {"strength": 0.25, "method": "flat"}
    assert str(deployed.root) not in files["plan.json"].read_text()


def test_a_rectangle_goes_through_to_the_bundle_and_back(world: World) -> None:
    world.recipe(("imgsz: 64", "imgsz: [64, 96]"))
    assert world.run("deploy", "pot.yaml").code == 0
    contract = json.loads((world.bundle / "contract.json").read_text())
    assert contract["input_size"] == [64, 96]
    assert "[H, W]; s = min(W / width, H / height)" in contract["letterbox"]["rule"]
    folder = world.bundle / "golden"
    text = json.loads((folder / "detections.json").read_text())
    box = letterboxed_file(folder / text["image"], ImageShape(64, 96))
    # 64 x 48 px: scaled by 64 / 48, and centred between 5 and 6 columns of grey
    assert text["letterbox"] == {
        "scale": 64 / 48, "left": 5, "top": 0, "width": 64, "height": 48,
    }  # fmt: skip
    tensor = np.load(folder / "input.npy")
    assert tensor.shape == (1, 3, 64, 96)
    assert np.array_equal(tensor, to_tensor(box.pixels))
    found = detect(np.load(folder / "output.npy"), Rules(**text["rules"]), box, text["layout"])
    assert len(found) == len(text["detections"]) == 3
    report = json.loads((world.bundle / "report.json").read_text())
    assert report["imgsz"] == json.loads(world.lock.read_text())["imgsz"] == [64, 96]
    assert report["evidence"]["map50_95"]["source"] > 0.85  # enlarged edges are blurred
    assert world.run("verify", "dist/pot", "--lock", "pot.lock").code == 0
    assert world.run("deploy", "--locked", "pot.yaml").code == 0


def test_golden_vectors_are_consistent(deployed: World) -> None:
    folder = deployed.bundle / "golden"
    text = json.loads((folder / "detections.json").read_text())
    box = letterboxed_file(folder / text["image"], ImageShape.square(64))
    placed = {k: getattr(box, k) for k in text["letterbox"]}
    assert placed | {"scale": box.scale[0]} == text["letterbox"]
    tensor = np.load(folder / "input.npy")
    assert (tensor.shape, tensor.dtype) == ((1, 3, 64, 64), np.float32)
    assert np.array_equal(tensor, to_tensor(box.pixels))
    found = detect(np.load(folder / "output.npy"), Rules(**text["rules"]), box, text["layout"])
    assert len(found) == len(text["detections"]) == 3
    for row, cls, score, corners in zip(
        text["detections"], found.classes, found.scores, found.boxes, strict=True
    ):
        assert row["class"] == cls
        assert row["score"] == pytest.approx(score, abs=1e-6)
        assert row["box"] == pytest.approx(corners.tolist(), abs=1e-3)


def test_a_second_deploy_rewrites_nothing(deployed: World) -> None:
    before = deployed.state()
    result = deployed.good()
    assert deployed.state() == before
    assert deployed.log == []
    assert "measure" not in result.err


@pytest.mark.parametrize("spoil", ["changed", "missing", "added", "manifest", "gone"])
def test_a_spoilt_bundle_is_written_again(deployed: World, spoil: str) -> None:
    before = {p: p.read_bytes() for p in deployed.bundle.rglob("*") if p.is_file()}
    match spoil:
        case "changed":
            (deployed.bundle / "labels.txt").write_text("x")
        case "missing":
            (deployed.bundle / "labels.txt").unlink()
        case "added":
            (deployed.bundle / "x").write_text("x")
        case "manifest":
            (deployed.bundle / "manifest.json").write_text("[]")
        case "gone":
            shutil.rmtree(deployed.bundle)
    deployed.good()
    after = {p: p.read_bytes() for p in deployed.bundle.rglob("*") if p.is_file()}
    volatile = {
        "report.json",
        "report.html",
        "provenance.json",
        "manifest.json",
    }  # say what was cached
    assert {p: b for p, b in after.items() if p.name not in volatile} == {
        p: b for p, b in before.items() if p.name not in volatile
    }


def test_a_folder_that_is_no_bundle_is_not_replaced(deployed: World) -> None:
    shutil.rmtree(deployed.bundle)
    deployed.write("dist/pot/thesis.txt", "years of work")
    result = deployed.deploy()
    assert (result.code, result.error) == (
        4,
        (
            "dist/pot: exists and is not a bundle that yolodeploy wrote. "
            "Move it away, or choose another folder with --dist."
        ),
    )
    assert (deployed.bundle / "thesis.txt").read_text() == "years of work"


def test_recipes_with_alike_names_do_not_touch_each_other(deployed: World) -> None:
    work = deployed.root / "dist" / ".pot.v2~abc"
    work.mkdir()
    shutil.rmtree(deployed.bundle)
    deployed.good()
    assert work.exists()
    deployed.recipe(name="pot.v2.yaml")
    assert deployed.run("deploy", "pot.v2.yaml").code == 0
    assert not work.exists()


def test_a_run_killed_between_two_renames_is_mended(deployed: World) -> None:
    before = {p.name: p.read_bytes() for p in deployed.bundle.rglob("*") if p.is_file()}
    work = deployed.root / "dist" / ".pot~abc"
    work.mkdir()
    deployed.bundle.rename(work / "pot.old")
    deployed.recipe(extra="checks: {size_mb: 0.0001}\n")
    deployed.deploy()
    deployed.recipe()
    deployed.good()
    after = {p.name: p.read_bytes() for p in deployed.bundle.rglob("*") if p.is_file()}
    assert after["weights.bin"] == before["weights.bin"]
    assert not deployed.leftovers()


def test_without_an_atomic_exchange(deployed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolodeploy.system.files._exchange", lambda *_: False)
    (deployed.bundle / "labels.txt").write_text("x")
    deployed.good()
    assert (deployed.bundle / "labels.txt").read_text() == "red\ngreen\nblue\n"
    assert not deployed.leftovers()


def test_lock_contents_are_the_same_from_run_to_run_and_folder_to_folder(
    deployed: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = deployed.lock.read_bytes()
    lock = json.loads(first)
    assert lock["model"] == hashlib.sha256((deployed.root / "model.clay").read_bytes()).hexdigest()
    readers = installed("numpy", "opencv-python-headless")  # of the calibration images
    assert lock["versions"] == {"clay": {"clay": "1.0"}, "kiln": {"kiln": "2.0", **readers}}
    assert [step["name"] for step in lock["steps"]] == ["load", "export", "press"]
    assert all(len(step["output"]) == 64 for step in lock["steps"])
    copy_world(deployed.root, tmp_path / "elsewhere")
    (tmp_path / "elsewhere/pot.lock").unlink()
    monkeypatch.chdir("/")
    monkeypatch.setenv("YOLODEPLOY_CACHE", str(tmp_path / "empty"))
    recipe = str(tmp_path / "elsewhere/pot.yaml")
    assert deployed.run("deploy", recipe, "--dist", str(tmp_path / "d")).code == 0
    assert (tmp_path / "elsewhere/pot.lock").read_bytes() == first


LOCKED = {
    "weights": (lambda w: w.weights(padding=8), ["model: locked "]),
    "evaluation data": (
        lambda w: w.write("data/labels/val/val000.txt", ""),
        ["data.evaluation: locked "],
    ),
    "calibration data": (
        lambda w: w.write("data/labels/train/train000.txt", ""),
        ["data.calibration: locked "],
    ),
    "parameter": (
        lambda w: w.recipe(("0.25", "0.5")),
        ["steps.press.params.strength: locked 0.25, now 0.5"],
    ),
    "imgsz": (lambda w: w.recipe(("imgsz: 64", "imgsz: 96")), ["imgsz: locked 64, now 96"]),
    "seed": (lambda w: w.recipe(extra="seed: 7\n"), ["seed: locked 0, now 7"]),
    "device": (
        lambda w: w.recipe(("kiln-a", "kiln-b")),
        ["target.device: locked kiln-a, now kiln-b"],
    ),
    "a step less": (
        lambda w: w.recipe(("\n  - press: {strength: 0.25}", "")),
        [
            "steps: locked load > export > press, now load > export",
            *(
                f"versions.kiln.{name}: locked {version}, now None"
                for name, version in installed("numpy", "opencv-python-headless").items()
            ),
        ],
    ),
    "tool version": (None, ["versions.kiln.kiln: locked 2.0, now 2.1"]),
}


@pytest.mark.parametrize("what", LOCKED)
def test_locked_refuses_and_names_what_differs(
    deployed: World, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, expected = LOCKED[what]
    assert deployed.deploy("--locked").code == 0
    if change:
        change(deployed)
    else:
        monkeypatch.setenv("KILN_VERSION", "2.1")
    before = deployed.state()
    for command in ("deploy", "build"):
        result = deployed.run(command, "pot.yaml", "--locked")
        lines = result.error.splitlines()
        assert result.code == 8
        assert lines[0] == "pot.lock does not describe this build:"
        assert lines[-1] == (
            "Restore what changed, or deploy without --locked and commit the new lock."
        )
        assert len(lines) == len(expected) + 2
        for line, start in zip(lines[1:-1], expected, strict=True):
            assert line.startswith("  " + start)
    assert deployed.state() == before
    assert deployed.log == []


def test_locked_output_digest(deployed: World) -> None:
    lock = json.loads(deployed.lock.read_text())
    lock["steps"][1]["output"] = "0" * 64
    deployed.lock.write_text(json.dumps(lock))
    result = deployed.deploy("--locked")
    assert result.code == 8
    assert "  steps.export.output: locked 00000000000000000000..., now " in result.error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "pot.lock: the lock file does not exist. Deploy once without --locked."),
        ('{"lock": 1}', "pot.lock: not a lock file of format 1. Deploy once without --locked."),
        (
            '{"lock": 1, "steps": [1]}',
            "pot.lock: not a lock file of format 1. Deploy once without --locked.",
        ),
        ('{"lock": 0}', "pot.lock: not a lock file of format 1. Deploy once without --locked."),
    ],
)
def test_no_usable_lock(deployed: World, text: str | None, message: str) -> None:
    deployed.lock.unlink()
    if text is not None:
        deployed.lock.write_text(text)
    result = deployed.deploy("--locked")
    assert (result.code, result.error) == (8, message)
    deployed.good()
    assert deployed.deploy("--locked").code == 0


FOREIGN = (
    "pot.lock: deploy writes its lock file here, but this is another file. Rename the recipe, "
    "or remove the file."
)


@pytest.mark.parametrize(
    "text", ["[]", "{}", "", 'version = 1\n[[package]]\nname = "x"\n', "[" * 10_000]
)
def test_the_lock_of_another_tool_is_not_replaced(world: World, text: str) -> None:
    """`uv.yaml` would be locked in `uv.lock`."""
    world.lock.write_text(text)
    result = world.deploy()
    assert (result.code, result.error) == (4, FOREIGN)
    assert (world.log, world.lock.read_text()) == ([], text)
    assert world.deploy("--locked").code == 8


def test_the_lock_cannot_be_read(deployed: World) -> None:
    deployed.lock.unlink()
    deployed.lock.mkdir()
    result = deployed.deploy()
    assert (result.code, result.error) == (
        4,
        FOREIGN,
    )
    assert not list(deployed.root.glob(".pot.lock*"))


def test_a_moved_artifact_of_other_bytes_is_not_reported(deployed: World) -> None:
    """The bundle's report is about the bytes beside it."""
    report = json.loads((deployed.bundle / "report.json").read_text())
    brick = hashlib.sha256((deployed.bundle / "weights.bin").read_bytes()).hexdigest()
    lock = json.loads(deployed.lock.read_text())
    assert report["artifact"]["digest"] == lock["steps"][-1]["output"]
    assert report["artifact"]["bytes"] == sum(
        (deployed.bundle / name).stat().st_size for name in ("brick.json", "weights.bin")
    )
    assert (
        brick == json.loads((deployed.bundle / "manifest.json").read_text())["files"]["weights.bin"]
    )
