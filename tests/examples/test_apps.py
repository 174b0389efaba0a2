"""The programs of `examples/apps`, built, on bundles of the demo models: right, and with every kind of damage."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import native_builds
import numpy as np
import pytest
from real_model import DEMO, ROOT
from torch_support import context, load

import yolodeploy_ncnn
import yolodeploy_openvino
from yolodeploy.backend import Artifact, Target, layout_of
from yolodeploy.bundle.app_contract import app_files
from yolodeploy.data.images import letterboxed_file, to_tensor
from yolodeploy.system import ImageShape
from yolodeploy.tasks import Golden, Seen, app_rules, evaluation_rules, task_of
from yolodeploy_torch.model import info, read_graph

APPS = ROOT / "examples" / "apps"
IMAGE = ROOT / "examples/shapes/data/images/val/00001.jpg"
SIZE = ImageShape.square(160)
PLUGINS = {"ncnn": yolodeploy_ncnn, "openvino": yolodeploy_openvino}
MODELS = {"yolov8n": DEMO, "yolo26": DEMO.with_name("shapes-yolo26.pt")}

pytestmark = [
    pytest.mark.slow,
    *(
        pytest.mark.skipif(plugin.problem() is not None, reason=plugin.problem() or "installed")
        for plugin in PLUGINS.values()
    ),
]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The program of a runtime, built as the README says when it is first asked for."""

    @functools.cache
    def program(runtime: str) -> Path:
        if not Path("/usr/include/nlohmann/json.hpp").is_file():
            pytest.skip("nlohmann/json.hpp not found. Run: apt-get install nlohmann-json3-dev")
        options: dict[str, str | Path] = {"PYTHON": sys.executable, "CMAKE_CXX_FLAGS": "-Werror"}
        if runtime == "ncnn":
            options |= {"ncnn_DIR": native_builds.ncnn_library("native") / "lib/cmake/ncnn"}
        work = tmp_path_factory.mktemp(runtime)
        return native_builds.build(APPS / runtime, work, f"golden-{runtime}", **options)

    return program


def write_bundle(folder: Path, plugin: ModuleType, source: Artifact) -> None:
    """What `yolodeploy deploy` writes for an app, of an fp16 export."""
    step = plugin.STEPS[0]
    work = folder.with_name(f"{folder.name}-work")
    exported = step.run(source, step.params(precision="fp16"), context(work))
    artifact = Artifact(plugin.NAME, exported, "")
    shutil.copytree(exported, folder)
    model, target = info(read_graph(source.path)), Target(plugin.DEVICES[0])
    predictor = plugin.open(artifact, target, 1)
    box = letterboxed_file(IMAGE, model.images(SIZE))
    tensor = to_tensor(box.pixels)
    outputs, layout = {"output": predictor(tensor)[0]}, layout_of(predictor)
    (folder / "golden").mkdir()
    golden = Golden(folder / "golden", app_rules(model.task).for_head(model.head))
    rules, task = evaluation_rules(model.task), task_of(model)
    golden.offer(Seen(0, IMAGE, box, tensor, None, (outputs,), (layout,), task, rules))
    golden.finish()
    plan: Any = SimpleNamespace(facts=None, imgsz=SIZE, target=target)
    for name, data in app_files(plan, model, plugin.describe(artifact), layout).items():
        (folder / name).write_bytes(data)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """The bundle of a runtime and a model, written when it is first asked for."""
    folder = tmp_path_factory.mktemp("bundles")

    @functools.cache
    def source(name: str) -> Artifact:
        return load(MODELS[name], folder / name)

    @functools.cache
    def bundle(runtime: str, name: str) -> Path:
        path = folder / f"{runtime}-{name}"
        write_bundle(path, PLUGINS[runtime], source(name))
        return path

    return bundle


def prove(program: Path, bundle: Path) -> tuple[int, str]:
    done = subprocess.run([program, bundle], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("runtime", PLUGINS)
def test_golden_vectors_are_reproduced(
    runtime: str, model: str, programs: Callable[[str], Path], bundles: Callable[[str, str], Path]
) -> None:
    program, bundle = programs(runtime), bundles(runtime, model)
    layout = json.loads((bundle / "contract.json").read_text())["postprocess"]["layout"]
    assert layout == ("rows" if (runtime, model) == ("openvino", "yolo26") else "anchors")
    assert json.loads((bundle / "golden/detections.json").read_text())["detections"]
    code, text = prove(program, bundle)
    assert code == 0, text
    assert [line.split()[:2] for line in text.splitlines()] == [
        ["decoding", "ok"],
        ["output", "ok"],
        ["detections", "ok"],
    ]


def weights_of(bundle: Path) -> Path:
    return next(bundle.glob("model*.bin"))


def spoil(file: Path, change: Callable[[bytes], bytes]) -> None:
    file.write_bytes(change(file.read_bytes()))


def change_array(file: Path, change: Callable[[np.ndarray], object]) -> None:
    array = np.load(file)
    change(array)
    np.save(file, array)


def change_json(file: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def put(where: Any, value: float) -> Callable[[np.ndarray], object]:
    return lambda array: array.__setitem__(where, value)


def best(array: np.ndarray) -> int:
    """The anchor with the highest score."""
    return int(array[4:].max(0).argmax())


GOLDEN, OUTPUT = "golden/detections.json", "golden/output.npy"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights zeroed": (
        lambda b: spoil(weights_of(b), lambda d: d[:20000] + bytes(2000) + d[22000:]),
        "output     FAILED",
    ),
    "weights of fp16 as NaN": (
        lambda b: spoil(weights_of(b), lambda d: d[:20000] + b"\xff\x7f" * 8 + d[20016:]),
        "inf",
    ),
    "weights cut off": (lambda b: spoil(weights_of(b), lambda d: d[:-1000]), "FAILED"),
    "a golden box moved": (
        lambda b: change_json(b / GOLDEN, lambda g: g["detections"][0].update(box=[1, 2, 3, 4])),
        "decoding   FAILED",
    ),
    "a golden detection gone": (
        lambda b: change_json(b / GOLDEN, lambda g: g["detections"].pop()),
        "was found that is not golden",
    ),
    "another golden class": (
        lambda b: change_json(b / GOLDEN, lambda g: g["detections"][0].update({"class": 4})),
        "decoding   FAILED",
    ),
    "no golden class": (
        lambda b: change_json(b / GOLDEN, lambda g: g["detections"][0].update({"class": 99})),
        "FAILED",
    ),
    "golden results cut off": (lambda b: spoil(b / GOLDEN, lambda d: d[:-30]), "FAILED"),
    "golden output changed": (
        lambda b: change_array(b / OUTPUT, lambda a: put((0, best(a)), 30.0)(a)),
        "decoding   FAILED",
    ),
    "golden output changed where nothing is": (
        lambda b: change_array(
            b / OUTPUT, lambda a: put((0, int(a[4:].max(0).argmin())), 500.0)(a)
        ),
        "output     FAILED",
    ),
    "golden output with NaN": (
        lambda b: change_array(b / OUTPUT, put((0, 0), np.nan)),
        "golden/output.npy is damaged: it has NaN",
    ),
    "golden output cut off": (lambda b: spoil(b / OUTPUT, lambda d: d[:-4]), "it was cut off"),
    "golden output too long": (lambda b: spoil(b / OUTPUT, lambda d: d + bytes(4)), "has too much"),
    "golden output without an end of its head": (
        lambda b: spoil(b / OUTPUT, lambda d: d[:40]),
        "is damaged",
    ),
    "golden input with NaN": (
        lambda b: change_array(b / "golden/input.npy", put((0, 0, 80, 80), np.nan)),
        "golden/input.npy is damaged: it has NaN",
    ),
    "golden input of another size": (
        lambda b: np.save(b / "golden/input.npy", np.zeros((1, 3, 32, 32), np.float32)),
        "golden/input.npy does not have the contract's shape",
    ),
    "a label too many": (
        lambda b: spoil(b / "labels.txt", lambda d: d + b"more\n"),
        "labels.txt does not have a line for each class",
    ),
    "another task": (
        lambda b: change_json(b / "contract.json", lambda c: c.update(task="pose")),
        'this example decodes boxes; for the task "pose" port examples/decode',
    ),
    "another layout": (
        lambda b: change_json(
            b / "contract.json", lambda c: c["postprocess"].update(nms="artifact")
        ),
        "this example cannot decode the layout anchors with nms artifact",
    ),
    "no contract": (lambda b: (b / "contract.json").unlink(), "cannot open"),
    "no artifact": (lambda b: weights_of(b).unlink(), "FAILED"),
}


ARTIFACTS = ("weights zeroed", "weights of fp16 as NaN", "weights cut off", "no artifact")


@pytest.mark.parametrize(
    ("runtime", "damage"),
    [*(("ncnn", damage) for damage in DAMAGES), *(("openvino", damage) for damage in ARTIFACTS)],
)
def test_damage_is_told(
    runtime: str,
    damage: str,
    programs: Callable[[str], Path],
    bundles: Callable[[str, str], Path],
    tmp_path: Path,
) -> None:
    program, spoiled, message = programs(runtime), *DAMAGES[damage]
    bundle = shutil.copytree(bundles(runtime, "yolov8n"), tmp_path / "bundle")
    spoiled(bundle)
    code, text = prove(program, bundle)
    assert code == 1, text
    assert message in text


def test_a_bundle_for_a_gpu_has_golden_vectors_of_one(
    programs: Callable[[str], Path], bundles: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """In fp16, so that a CPU gives others, above all where nothing is."""
    bundle = shutil.copytree(bundles("ncnn", "yolov8n"), tmp_path / "with spaces")
    output = bundle / "golden/output.npy"
    change_array(output, lambda a: put((0, int(a[4:].max(0).argmin())), 500.0)(a))
    code, text = prove(programs("ncnn"), bundle)
    assert (code, "output     FAILED" in text) == (1, True)
    change_json(bundle / "contract.json", lambda contract: contract.update(gpu="vulkan"))
    code, text = prove(programs("ncnn"), bundle)
    assert code == 0, text
    assert "finite     ok" in text


@pytest.mark.parametrize(("runtime", "other"), [("ncnn", "openvino"), ("openvino", "ncnn")])
def test_a_bundle_for_another_runtime(
    runtime: str, other: str, programs: Callable[[str], Path], bundles: Callable[[str, str], Path]
) -> None:
    code, text = prove(programs(runtime), bundles(other, "yolov8n"))
    assert code == 1
    assert text.startswith("FAILED: this bundle is for another runtime")


@pytest.fixture(scope="module")
def in_swift(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`Golden.swift`, compiled against stand-ins for Apple's frameworks."""
    native_builds.require("swiftc", package="swiftlang (Debian 13), or Swift from swift.org")
    work = tmp_path_factory.mktemp("swift")
    made = ["-emit-module", "-emit-library", "-static", "-parse-as-library"]
    modules = ("CoreVideo", "CoreML", "Vision")
    for name in modules:
        source = Path(__file__).parent / f"apple/{name}.swift"
        place = ["-emit-module-path", f"{work}/{name}.swiftmodule", "-o", f"{work}/lib{name}.a"]
        native_builds.run(
            ["swiftc", *made, "-module-name", name, "-I", str(work), *place, str(source)]
        )
    found = ["-I", str(work), "-L", str(work), *(f"-l{name}" for name in reversed(modules))]
    source = APPS / "coreml/Golden.swift"
    native_builds.run(["swiftc", "-parse-as-library", str(source), *found, "-o", f"{work}/golden"])
    return work / "golden"


def as_apples(bundle: Path, folder: Path) -> Path:
    """A bundle whose artifact is a folder that the stand-ins answer from."""
    shutil.copytree(bundle, folder)
    change_json(folder / "contract.json", lambda found: found.update(entry="model.mlpackage"))
    pixels = np.rint(np.load(folder / "golden/input.npy")[0] * 255).astype(np.uint8)
    bgra = np.pad(pixels[::-1].transpose(1, 2, 0), ((0, 0), (0, 0), (0, 1)), constant_values=255)
    output = np.load(folder / OUTPUT)[None]
    package = folder / "model.mlpackage"
    package.mkdir()
    (package / "pixels").write_bytes(bgra.tobytes())
    (package / "values").write_bytes(output.astype("<f4").tobytes())
    (package / "shape").write_text(json.dumps(output.shape))
    return folder


def in_package(where: int, value: float) -> Callable[[Path], object]:
    """A number that the artifact returns."""
    data = np.float32(value).tobytes()
    file = "model.mlpackage/values"
    return lambda b: spoil(b / file, lambda d: d[: 4 * where] + data + d[4 * where + 4 :])


SWIFT_DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda _: None, "detections ok"),
    "NaN": (in_package(0, np.nan), "output FAILED"),
    "an object that is not golden": (in_package(5 * 525, 1.0), "is not golden"),
    "other pixels": (
        lambda b: spoil(b / "model.mlpackage/pixels", lambda d: b"\x01" + d[1:]),
        "FAILED: OtherPixels",
    ),
    "golden NaN": (DAMAGES["golden output with NaN"][0], "output.npy: has NaN or infinite"),
    "a golden output cut off": (DAMAGES["golden output cut off"][0], "output.npy: cut off"),
    "a golden box of three numbers": (
        lambda b: change_json(b / GOLDEN, lambda g: g["detections"][0]["box"].pop()),
        "each box must have four numbers",
    ),
}


@pytest.mark.parametrize("model", MODELS)
def test_golden_swift_against_stand_ins(
    model: str, in_swift: Path, bundles: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """It compiles, gives the artifact the right pixels, decodes as the contract says, and notices damage."""
    for number, (spoiled, message) in enumerate(SWIFT_DAMAGES.values()):
        bundle = as_apples(bundles("ncnn", model), tmp_path / str(number))
        spoiled(bundle)
        code, text = prove(in_swift, bundle)
        assert code == int(number > 0), text
        assert message in text


def code_lines(file: Path) -> int:
    lines = (line.strip() for line in file.read_text().splitlines())
    return sum(bool(line) and not line.startswith("//") for line in lines)


def test_each_program_is_short() -> None:
    """Under 200 lines with what they share, but for the runner's own `network.hpp`."""
    shared = code_lines(APPS / "golden.hpp")
    for runtime in PLUGINS:
        assert shared + code_lines(APPS / runtime / "main.cpp") < 200
    assert code_lines(APPS / "coreml/Golden.swift") < 200
