"""The Core ML export on a real checkpoint: bytes, figures and what the file says of itself."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import yolodeploy_coreml as plugin
from yolodeploy.backend import NO_MODEL, Artifact, Context, ModelInfo, Target
from yolodeploy.system import ImageShape
from yolodeploy_coreml.mlpackage.package import PACKAGE, read_package
from yolodeploy_coreml.params import CoreMLExport

SIDE = 160
PHONES = {device.name: device for device in plugin.DEVICES}


def context(
    work: Path, names: tuple[str, ...] = (), os_version: str | None = "16", side: int = SIDE
) -> Context:
    work.mkdir(parents=True)
    target = Target(PHONES["iphone-13"], os_version)
    return Context(
        work,
        0,
        ImageShape.square(side),
        1,
        target,
        replace(NO_MODEL, names=names),
        {},
        lambda _done, _text: None,
    )


def load(checkpoint: Path, work: Path) -> Artifact:
    import yolodeploy_torch

    (step,) = (step for step in yolodeploy_torch.STEPS if step.name == "load")
    folder = step.run(Artifact(".pt", checkpoint, ""), step.params(), context(work))
    return Artifact("yolo", folder, "")


def export(
    source: Artifact, work: Path, os_version: str | None = "16", side: int = SIDE, **wanted: object
) -> Artifact:
    names = ModelInfo.read(source.path).names
    params = CoreMLExport.model_validate(wanted)
    folder = plugin.STEPS[0].run(source, params, context(work, names, os_version, side))
    return Artifact("mlpackage", folder, "")


def head(artifact: Artifact, images: np.ndarray) -> np.ndarray:
    return plugin.open(artifact, Target(PHONES["iphone-13"]), 1)(images)


def reference(source: Artifact, images: np.ndarray) -> np.ndarray:
    import yolodeploy_torch

    return yolodeploy_torch.open(source, Target(PHONES["iphone-13"]), 1)(images)


@pytest.fixture(scope="module")
def source(demo: Any, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return load(demo.weights, tmp_path_factory.mktemp("source") / "load")


@pytest.fixture(scope="module")
def plain(source: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return export(source, tmp_path_factory.mktemp("plain") / "w", precision="fp32")


@pytest.fixture(scope="module")
def objects(source: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return export(
        source, tmp_path_factory.mktemp("objects") / "w", precision="fp32", nms=True, iou=0.5
    )


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Two smooth 8-bit pictures with hard-edged boxes in them."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    waves = [np.sin(x / (7 + c)) * np.cos(y / (11 - c)) for c in range(3)]
    first = np.stack(waves) * 100 + 127
    second = first[:, ::-1].copy()
    first[:, 30:90, 40:80] = [[[250]], [[20]], [[20]]]
    second[:, 70:130, 60:150] = [[[10]], [[200]], [[120]]]
    return np.stack([first, second]).round().astype(np.float32) / 255


def test_fp32_equals_the_source(source: Artifact, plain: Artifact, images: np.ndarray) -> None:
    difference = np.abs(head(plain, images) - reference(source, images))
    assert difference[:, :4].max() < 0.005
    assert difference[:, 4:].max() < 1e-5


@pytest.mark.parametrize(
    ("os_version", "version"), [("15", 6), (None, 7), ("17.4", 8), ("18", 9), ("26", 10)]
)
def test_fp16_is_close_and_half_the_size(
    source: Artifact,
    plain: Artifact,
    images: np.ndarray,
    tmp_path: Path,
    os_version: str | None,
    version: int,
) -> None:
    half = export(source, tmp_path / "w", os_version)
    assert read_package(half.path / PACKAGE).spec.specificationVersion == version
    oldest = (os_version or "16").split(".")[0]
    assert plugin.describe(half).note.startswith(f"Needs iOS {oldest} or newer.")
    difference = np.abs(head(half, images) - reference(source, images))
    assert 0 < difference[:, :4].mean() < 0.05
    assert difference[:, 4:].max() < 0.01
    assert weights_size(half) / weights_size(plain) == pytest.approx(0.5, abs=0.01)


def weights_size(artifact: Artifact) -> int:
    return (artifact.path / PACKAGE / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size


def test_the_suppression_stage_leaves_the_head_as_it_is(
    plain: Artifact, objects: Artifact, images: np.ndarray
) -> None:
    np.testing.assert_allclose(head(objects, images), head(plain, images), rtol=0, atol=1e-4)


def test_the_pipeline_is_what_vision_reads(source: Artifact, objects: Artifact) -> None:
    spec = read_package(objects.path / PACKAGE).spec
    network, suppression = spec.pipeline.models
    nms = suppression.nonMaximumSuppression
    names = ModelInfo.read(source.path).names
    scores, boxes = network.description.output
    columns = scores.type.multiArrayType.shape[-1]
    assert columns % 80 == 0
    assert columns - len(names) < 80
    assert list(nms.stringClassLabels.vector[: len(names)]) == list(names)
    assert len(set(nms.stringClassLabels.vector)) == columns
    assert (nms.confidenceInputFeatureName, nms.coordinatesInputFeatureName) == (
        scores.name,
        boxes.name,
    )
    assert (nms.iouThreshold, nms.confidenceThreshold, nms.pickTop.perClass) == (0.5, 0.25, True)
    optional = [(feature.name, feature.type.isOptional) for feature in spec.description.input]
    assert optional == [("image", False), ("iouThreshold", True), ("confidenceThreshold", True)]
    assert [feature.name for feature in spec.description.output] == ["confidence", "coordinates"]
    for feature in (scores, boxes):  # Core ML's suppression takes no fp16
        assert feature.type.multiArrayType.dataType == feature.type.multiArrayType.FLOAT32


def test_the_package_says_what_it_is(source: Artifact, plain: Artifact) -> None:
    spec = read_package(plain.path / PACKAGE).spec
    info = ModelInfo.read(source.path)
    said = dict(spec.description.metadata.userDefined)
    assert said["classes"] == ",".join(info.names)
    assert (said["task"], said["stride"], said["imgsz"]) == ("detect", "32", f"[{SIDE}, {SIDE}]")
    assert not [key for key in said if "date" in key or key.endswith(".source")]
    image = spec.description.input[0].type.imageType
    assert (image.width, image.height, image.ColorSpace.Name(image.colorSpace)) == (
        SIDE,
        SIDE,
        "RGB",
    )


def test_the_interface_names_every_tensor(
    source: Artifact, plain: Artifact, objects: Artifact
) -> None:
    channels = 4 + len(ModelInfo.read(source.path).names)
    told = plugin.describe(plain)
    assert (told.entry, told.scale) == ("model.mlpackage", 1.0)
    assert [(t.name, t.shape, t.dtype) for t in told.inputs] == [
        ("image", (1, 3, SIDE, SIDE), "uint8")
    ]
    assert [(t.name, t.shape) for t in told.outputs] == [("output0", (1, channels, 525))]
    assert (told.confidence, told.iou) == (None, None)
    assert told.note.startswith("Needs iOS 16 or newer.")
    told = plugin.describe(objects)
    assert (told.confidence, told.iou) == (0.25, 0.5)
    assert [t.name for t in told.inputs] == ["image", "iouThreshold", "confidenceThreshold"]
    assert [(t.name, t.shape[0]) for t in told.outputs] == [("confidence", -1), ("coordinates", -1)]


def test_evidence_off_a_mac_says_what_was_not_run(plain: Artifact, objects: Artifact) -> None:
    target = Target(PHONES["iphone-13"])
    said = [plugin.open(artifact, target, 1).runtime for artifact in (plain, objects)]
    if sys.platform == "darwin":
        pytest.skip("on a Mac, Core ML itself runs the package")
    assert [runtime.timing for runtime in said] == [False, False]
    assert ["suppression stage was not run" in runtime.note for runtime in said] == [False, True]


def test_a_phone_without_an_os_gets_one_that_shows() -> None:
    """The newest of iOS 16 and the phone's first up to 18: written into plan, lock and report."""
    given = {name: phone.os_default for name, phone in PHONES.items()}
    assert given["iphone-8"] == given["iphone-13"] == "16"
    assert (given["iphone-15-pro"], given["iphone-16"]) == ("17", "18")
    assert given["ios"] == given["iphone-17"] == given["iphone-18-pro"] == "16"


@pytest.mark.parametrize("version", ["15", "16", "17", "18", "26", "26.1"])
def test_coremltools_can_write_every_format(version: str) -> None:
    from yolodeploy_coreml.devices import NEWEST, ios_format
    from yolodeploy_coreml.toolchain import coremltools

    ct = coremltools()
    target = Target(PHONES["ios"], version)
    assert plugin.refuse(plugin.STEPS[0], CoreMLExport(), target) is None
    assert f"iOS{ios_format(target)}" in {known.name for known in ct.target}
    assert f"iOS{NEWEST}" == list(ct.target)[-1].name


def test_coremltools_reads_the_packages_back(plain: Artifact, objects: Artifact) -> None:
    from yolodeploy_coreml.toolchain import coremltools

    ct = coremltools()
    for artifact in (plain, objects):
        model = ct.models.MLModel(str(artifact.path / PACKAGE), skip_model_load=True)
        saved = read_package(artifact.path / PACKAGE).spec
        assert model.get_spec().SerializeToString(deterministic=True) == saved.SerializeToString(
            deterministic=True
        )


SCRIPT = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import test_coreml_export as t
os.umask(0o077)
source = t.load(Path(sys.argv[1]), Path(sys.argv[2]) / "load")
work = Path(sys.argv[2]) / "nms"
made = t.export(source, work, precision="fp32", nms=True, iou=0.5)
print("\\n".join(t.listing(made.path)))
"""


def listing(folder: Path) -> list[str]:
    """Names, modes and digests of everything below a folder."""
    found = []
    for path in sorted(folder.rglob("*")):
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found.append(f"{path.relative_to(folder).as_posix()} {path.stat().st_mode:o} {content}")
    return found


@pytest.mark.slow
def test_bytes_and_modes_of_a_pipeline_depend_on_nothing_but_the_inputs(
    demo: Any, objects: Artifact, tmp_path: Path
) -> None:
    """The contract suite says so of the plain form."""
    work = tmp_path / f"folder-{'x' * 20}"
    extra = {"PYTHONHASHSEED": "42", "TZ": "Asia/Tokyo", "OMP_NUM_THREADS": "2"}
    extra["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    here = str(Path(__file__).parent)
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(demo.weights), str(work), here]
    env = {**os.environ, **extra}
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == listing(objects.path)


@pytest.mark.parametrize(
    ("phone", "os_version", "said"),
    [
        ("iphone-13", None, None),
        ("iphone-13", "15", None),
        ("iphone-13", "18.2", None),
        ("iphone-16", None, None),
        ("iphone-8", "16", None),
        ("iphone-13", "14", "Ask for iOS 15 or newer."),
        ("iphone-17", "26", None),
        ("iphone-18-pro", "27", "Ask for 26: newer systems run it."),
        ("iphone-13", "19", "there is no iOS 19: 26 followed 18. Write 18 or 26."),
        ("iphone-13", "seventeen", "is not an iOS version"),
    ],
)
def test_refusals(phone: str, os_version: str | None, said: str | None) -> None:
    refusal = plugin.refuse(plugin.STEPS[0], CoreMLExport(), Target(PHONES[phone], os_version))
    assert refusal is None if said is None else said in str(refusal)


def test_thresholds_without_suppression_are_refused() -> None:
    with pytest.raises(ValidationError, match="Add `nms: true`"):
        CoreMLExport(iou=0.5)
    assert plugin.STEPS[0].reference is not None
    assert plugin.STEPS[0].reference(CoreMLExport(nms=True)) == CoreMLExport(precision="fp32")


def test_opening_needs_no_converter_and_planning_no_framework(plain: Artifact) -> None:
    code = f"""
import sys, yolodeploy_coreml as p
from pathlib import Path
from yolodeploy.backend import Artifact, Target
p.versions(), p.problem(), p.refuse(p.STEPS[0], p.CoreMLExport(), Target(p.DEVICES[0]))
assert not {{"torch", "numpy", "coremltools"}} & set(sys.modules)
artifact = Artifact("mlpackage", Path({str(plain.path)!r}), "")
p.describe(artifact), p.open(artifact, Target(p.DEVICES[0]), 1)
assert "torch" in sys.modules and "coremltools" not in sys.modules
"""
    path = os.pathsep.join(path for path in sys.path if path)
    subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        check=True,
    )


@pytest.mark.coco
def test_fp32_equals_the_source_on_coco(coco: Any, tmp_path: Path) -> None:
    import cv2

    source = load(coco.weights, tmp_path / "load")
    artifact = export(source, tmp_path / "export", side=coco.imgsz, precision="fp32")
    for picture in sorted((coco.data.parent / "images").rglob("*.jpg"))[:8]:
        pixels = cv2.resize(cv2.imread(str(picture)), (coco.imgsz, coco.imgsz))[:, :, ::-1]
        image = pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255
        difference = np.abs(head(artifact, image) - reference(source, image))
        assert difference[:, :4].max() < 0.005
        # PyTorch's own fp32 scores are up to 1.1e-5 from those computed in float64.
        assert difference[:, 4:].max() < 5e-5  # sums in another order on another processor
