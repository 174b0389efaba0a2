"""Everything that reads a file: which seed it starts from, how that is damaged, and how it is read.

A reader gets a folder with all good files, one of them damaged. It may return, or raise a
YolodeployError; anything else is a fault. Heavy imports live inside the functions.
"""

from __future__ import annotations

import functools
import importlib
import json
import multiprocessing
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from mutate import (
    BLIND,
    JSON,
    SEALED,
    TEXT,
    Mutator,
    protobuf,
    safetensors_header,
    tar_headers,
    zip_entries,
)

from yolodeploy.backend import NO_MODEL, Artifact, Context, Device, ModelInfo, Target
from yolodeploy.system import ImageShape

MLMODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
PACKAGE = "coreml/model.mlpackage"
BUNDLE = ("manifest.json", "provenance.json", "provenance.dsse.json", "plan.json", "report.json")
SET = "evidence/pi5.json"


@dataclass(frozen=True)
class Parser:
    """`read` gets the folder; `files` are damaged in turns by `mutators`, or by those of `special`."""

    files: Sequence[str]
    read: Callable[[Path], object]
    mutators: Sequence[Mutator] = BLIND
    special: Callable[[], Sequence[Mutator]] = tuple
    native: bool = False  # what reads it is the runtime's own code
    backend: str = ""  # whose export it reads


def _recipe(folder: Path) -> object:
    from yolodeploy.planning.planner import plan_recipe

    return plan_recipe(folder / "recipe.yaml", folder / "store")


@functools.cache
def _plan(folder: Path) -> Any:
    return _recipe(folder)


def _lock(folder: Path) -> object:
    from yolodeploy.planning import LockFile

    return LockFile.beside(_plan(folder)).require_inputs(_plan(folder))


def _data(folder: Path) -> object:
    from yolodeploy.data.dataset import load_view
    from yolodeploy.recipe.allowed_paths import allowed_paths
    from yolodeploy.recipe.fields import View

    view = load_view(folder / "data.yaml", View(), 0, allowed_paths(folder / "recipe.yaml", ()))
    return [view.boxes(image) for image in view.images]


def _images(folder: Path) -> object:
    from yolodeploy.data.images import letterboxed_file
    from yolodeploy.system import ImageShape

    for path in sorted((folder / "images/val").iterdir()):
        letterboxed_file(path, ImageShape.square(64))
    return None


def _checkpoint(folder: Path) -> object:
    from yolodeploy_torch.checkpoint.load import read_checkpoint_model

    return read_checkpoint_model(folder / "tiny.pt")


def _yolo(folder: Path) -> object:
    from yolodeploy_torch.model import artifact as yolo

    ModelInfo.read(folder / "yolo")
    return yolo.read(folder / "yolo")


def _state(folder: Path) -> object:
    from fuzz_seeds import progress

    from yolodeploy_torch.training.state import read_state

    return read_state(folder, progress())


def _ncnn(folder: Path) -> object:
    import yolodeploy_ncnn
    from yolodeploy_ncnn import model

    artifact = Artifact("ncnn", folder / "ncnn", "")
    read = model.read(artifact)
    for block in read.blocks:
        block.floats(read.data)
    return yolodeploy_ncnn.describe(artifact)


def _runner(folder: Path) -> object:
    """As outputs come back; the checksum is mended, which else would hide everything from the damage."""
    return _told(folder / "results.bin", "predict")


def _times(folder: Path) -> object:
    return _told(folder / "times.bin", "time")


def _told(file: Path, mode: Literal["predict", "time"]) -> object:
    from fuzz_seeds import runner_job

    from yolodeploy.errors import StepFailed
    from yolodeploy_ncnn.runner.native import read_results

    data = file.read_bytes()
    mended = data[:-4] + zlib.crc32(data[:-20]).to_bytes(4, "little")
    try:
        return read_results(runner_job(mode), mended)
    except ValueError as fault:
        raise StepFailed(str(fault)) from None


def _phone(folder: Path) -> object:
    from yolodeploy.hosts.adb.phone import climate, facts

    said = (folder / "phone.txt").read_text(encoding="utf-8", errors="replace")
    device: Any = SimpleNamespace(shell=lambda _: said)
    return facts(device).fastest(2), climate(device)


def _ncnn_native(folder: Path) -> object:
    from yolodeploy_ncnn.runtime import NcnnPredictor

    return NcnnPredictor(folder / "ncnn", 1)(np.zeros((1, 3, 32, 32), np.float32))


def _openvino_native(folder: Path) -> object:
    from yolodeploy_openvino import runtime

    return runtime.describe(folder / "openvino")


def _coreml(folder: Path) -> object:
    from yolodeploy_coreml.mlpackage.interface import read_interface
    from yolodeploy_coreml.runtime.predictors import ExecutorPredictor

    read_interface(folder / "coreml")
    predictor = ExecutorPredictor(folder / PACKAGE, 1)
    return predictor(np.zeros((1, 3, 32, 32), np.float32))


def _coreml_weights(folder: Path) -> object:
    from yolodeploy_coreml.mlpackage.editor import Editor
    from yolodeploy_coreml.mlpackage.package import read_package

    editor = Editor(read_package(folder / PACKAGE))
    return [(editor.weight(layer), editor.bias(layer)) for layer in editor.layers.values()]


def _onnx(folder: Path) -> object:
    """As the step `load` reads it, but the child that looks at the file is forked: starting Python takes longer."""
    import yolodeploy_onnx

    examine: Any = importlib.import_module("yolodeploy_onnx.examination.examine")
    load = next(step for step in yolodeploy_onnx.STEPS if step.name == "load")
    if examine.subprocess.run is subprocess.run:
        examine.subprocess = SimpleNamespace(run=_forked, TimeoutExpired=subprocess.TimeoutExpired)
    target = Target(Device("any", "Any device", "linux"))
    with tempfile.TemporaryDirectory() as work:
        shape = ImageShape.square(32)
        context = Context(Path(work), 0, shape, 1, target, NO_MODEL, {}, lambda *_: None)
        return load.run(Artifact(".onnx", folder / "small.onnx", ""), load.params(), context)


def _forked(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[bytes]:
    process = _server().Process(target=_examine, args=(command[-2:],))
    process.start()
    process.join()
    return subprocess.CompletedProcess(command, process.exitcode or 0, b"", b"")


@functools.cache
def _server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["onnx_child", "fuzz_parsers"])
    return context


def _examine(arguments: Sequence[str]) -> None:
    import onnx_child

    onnx_child.examine(arguments)


def _onnx_messages() -> Any:
    from onnx import ModelProto

    return ModelProto


def _bundle(folder: Path) -> object:
    """As `verify` with a lock and a key reads it, and as `deploy --key` does."""
    from yolodeploy.bundle.bundle import signers
    from yolodeploy.bundle.integrity import inspect_bundle, lock_problems
    from yolodeploy.errors import VerificationFailed
    from yolodeploy.planning.lock import read_lock

    home, signer = folder / "bundle", bundle_signer()
    found = inspect_bundle(home, signer.public_key)
    problems = [*found.problems, *lock_problems(found, read_lock(home.with_suffix(".lock")))]
    assert problems or signers(home) == [signer.public_key.keyid]
    if problems:
        raise VerificationFailed(problems[0])
    return home


def _evidence_set(folder: Path) -> object:
    """As `verify`, `inspect` and the page read the evidence of a bundle."""
    from yolodeploy.bundle.claims import _claim
    from yolodeploy.bundle.evidence_sets import read_sets
    from yolodeploy.errors import VerificationFailed
    from yolodeploy.report.page.elsewhere import elsewhere
    from yolodeploy.tasks import Key

    sets, problems = read_sets(folder / "sets", {SET: ""}, "a" * 64, "n100")
    if problems:
        raise VerificationFailed(problems[0])
    found = sets[0]
    return found.place.words(), _claim(found, ["map50_95"]), elsewhere(found, Key.MAP50_95)


def _pictures(folder: Path) -> object:
    """As `verify`, `compare` and the page read the pictures of a bundle; what is accepted can be written again."""
    from yolodeploy.errors import VerificationFailed
    from yolodeploy.tasks import parse_pictures, read_pictures

    try:
        pictures = read_pictures(folder / "pictures.json")
    except (OSError, ValueError) as fault:
        raise VerificationFailed(f"pictures.json cannot be read: {fault}") from None
    assert parse_pictures(pictures.encoded()) == pictures
    return pictures


def bundle_signer() -> Any:
    """A signer that is the same in every process."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from securesystemslib.signer import CryptoSigner

    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(bytes(32)))


def _store(folder: Path) -> object:
    from yolodeploy.store.store import Store

    store = Store(folder / "store", print)
    for _home, meta in store.entries():
        str(meta)
    found = store._examine("ab" * 32, None, "")
    return None if isinstance(found, str) else found


def _archive(folder: Path) -> object:
    """As the store reads what a shared one gave it."""
    from yolodeploy.errors import StoreProblem
    from yolodeploy.store.remote.tarball import BadArchive, unpack

    with tempfile.TemporaryDirectory() as out, (folder / "object.tar").open("rb") as file:
        try:
            return unpack(file, Path(out))
        except BadArchive as fault:
            raise StoreProblem(str(fault)) from None


def _digests(folder: Path) -> object:
    from yolodeploy.system.digest import StatCache

    cache = StatCache(folder / "store/digests.json")
    return cache.digest(folder / "data.yaml")


def _facts(folder: Path) -> object:
    from yolodeploy.planning.facts import WeightsFacts
    from yolodeploy.system import Memo

    memo = Memo(folder / "store/facts.json")
    return [WeightsFacts(memo)._remembered(key) for key in memo._known]


def _info(folder: Path) -> object:
    return ModelInfo.read(folder / "yolo")


def _hosts(folder: Path) -> object:
    from yolodeploy.hosts import named_hosts

    return named_hosts(folder)


def _frames(folder: Path) -> object:
    """As a session reads what a host sends."""
    from yolodeploy.errors import HostProblem
    from yolodeploy.worker.frames import FrameError, read_frame

    with (folder / "frames.bin").open("rb") as stream:
        try:
            return [read_frame(stream, 1 << 20) for _ in range(3)]
        except (EOFError, FrameError) as error:
            raise HostProblem(f"host `liar`: it sent {error}") from None


def _answers(folder: Path) -> object:
    from yolodeploy.errors import HostProblem
    from yolodeploy.hosts.answers import Machine, Opened, Output, timing_of, typed

    try:
        told = json.loads((folder / "answers.json").read_bytes())
    except (ValueError, RecursionError):
        raise HostProblem("host `liar`: it sent a line that is not JSON") from None
    told = typed(dict[str, Any], told, "liar")
    typed(Machine, told.get("machine"), "liar")
    typed(Opened, told.get("opened"), "liar")
    typed(dict[str, list[Output]], told.get("predicted"), "liar")
    return timing_of(told.get("timing"), "liar", others=["float"], threads=1, serving=4)


def _messages() -> Any:
    from yolodeploy_coreml.mlpackage.package import messages

    return messages().Model


OBJECT = f"store/objects/ab/{'ab' * 32}"
PARSERS = {
    "recipe": Parser(["recipe.yaml"], _recipe, TEXT),
    "lock": Parser(["recipe.lock"], _lock, JSON),
    "data.yaml": Parser(["data.yaml"], _data, TEXT),
    "list of images": Parser(["more.txt"], _data, TEXT),
    "labels": Parser(["labels/val/0.txt"], _data, TEXT),
    "images": Parser(
        [f"images/val/{n}" for n in ("0.png", "1.jpg", "2.bmp", "3.webp", "4.tif")], _images
    ),
    "checkpoint": Parser(["tiny.pt"], _checkpoint, (zip_entries, zip_entries, zip_entries, *BLIND)),
    "yolo: graph.json, info.json": Parser(["yolo/graph.json", "yolo/info.json"], _yolo, JSON),
    "yolo: safetensors": Parser(["yolo/model.safetensors"], _yolo, (safetensors_header, *BLIND)),
    "ONNX": Parser(["small.onnx"], _onnx, BLIND, lambda: [protobuf(_onnx_messages())] * 6),
    "training state": Parser(["state.pt"], _state, (zip_entries, *BLIND)),
    "bundle": Parser([f"bundle/{name}" for name in BUNDLE], _bundle, JSON),
    "pictures": Parser(["pictures.json"], _pictures, JSON),
    "evidence set": Parser([f"sets/{SET}"], _evidence_set, JSON),
    "store: meta, data": Parser(
        [f"{OBJECT}/meta.json", f"{OBJECT}/data/data.json"], _store, SEALED
    ),
    "archive of a result": Parser(["object.tar"], _archive, (tar_headers, tar_headers, *BLIND)),
    "hosts.toml": Parser(["hosts.toml"], _hosts, TEXT),
    "host: frames": Parser(["frames.bin"], _frames, TEXT),
    "host: answers": Parser(["answers.json"], _answers, JSON),
    "digests.json": Parser(["store/digests.json"], _digests, SEALED),
    "facts.json": Parser(["store/facts.json"], _facts, SEALED),
    "ncnn: .param": Parser(["ncnn/model.ncnn.param"], _ncnn, TEXT, backend="ncnn"),
    "ncnn: .bin": Parser(["ncnn/model.ncnn.bin"], _ncnn, backend="ncnn"),
    "results of the runner": Parser(["results.bin"], _runner, backend="ncnn"),
    "times of the runner": Parser(["times.bin"], _times, backend="ncnn"),
    "what a phone says": Parser(["phone.txt"], _phone, TEXT),
    "mlpackage: manifest": Parser([f"{PACKAGE}/Manifest.json"], _coreml, JSON, backend="coreml"),
    "mlpackage: mlmodel": Parser(
        [f"{PACKAGE}/{MLMODEL}"],
        _coreml,
        BLIND,
        lambda: [protobuf(_messages())] * 6,
        backend="coreml",
    ),
    "mlpackage: weights": Parser([f"{PACKAGE}/{WEIGHTS}"], _coreml, backend="coreml"),
    "mlpackage: editor": Parser(
        [f"{PACKAGE}/{MLMODEL}"],
        _coreml_weights,
        BLIND,
        lambda: [protobuf(_messages())] * 6,
        backend="coreml",
    ),
    "OpenVINO IR, its reader": Parser(
        ["openvino/model.xml", "openvino/model.bin"],
        _openvino_native,
        TEXT,
        native=True,
        backend="openvino",
    ),
    "ncnn, its reader": Parser(
        ["ncnn/model.ncnn.param", "ncnn/model.ncnn.bin"],
        _ncnn_native,
        TEXT,
        native=True,
        backend="ncnn",
    ),
}
