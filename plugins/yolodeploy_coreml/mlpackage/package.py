"""Reading and writing .mlpackage folders, byte for byte.

An .mlpackage holds `Manifest.json` (which item is the model), the protobuf message
`CoreML.Specification.Model` and the folder of weights that it points into. The messages are
those that coremltools ships; the manifest is as coremltools 9 writes it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import shutil
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from yolodeploy.errors import EnvironmentProblem, StepFailed

PACKAGE = "model.mlpackage"
_AUTHOR = "com.apple.CoreML"
_MODEL = f"{_AUTHOR}/model.mlmodel"
_WEIGHTS = f"{_AUTHOR}/weights"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://yolodeploy/mlpackage")
_ALIAS = "yolodeploy_coreml_proto"
_UNSTABLE = ("com.github.apple.coremltools.conversion_date", "com.github.apple.coremltools.source")
# What absent, odd or endless values in a damaged program make its reader raise.
_ODD_VALUES = (ArithmeticError, AttributeError, LookupError, SyntaxError, TypeError, ValueError)


@contextlib.contextmanager
def report_damage(what: str) -> Iterator[None]:
    """Raise StepFailed for errors that reading a damaged file causes; also a decorator."""
    try:
        yield
    except (*_ODD_VALUES, AssertionError, MemoryError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise StepFailed(
            f"{what} is damaged ({type(error).__name__}: {reason}). Export again."
        ) from error


@dataclass(frozen=True)
class Package:
    """A parsed package: the `Model` message and the folder with its weight files."""

    spec: Any
    weights: Path


@cache
def messages() -> Any:
    """Return coremltools' generated module `Model_pb2`, without importing coremltools.

    `import coremltools` takes seconds (it brings the converters); its `proto` folder only
    needs protobuf. The folder is imported under a name of our own. Both copies may live in
    one process: protobuf keeps one descriptor, and one class, per message.
    """
    found = importlib.util.find_spec("coremltools")
    if found is None or found.origin is None:
        raise EnvironmentProblem(
            "coremltools is not installed. Run: pip install 'yolodeploy[coreml]'"
        )
    folder = Path(found.origin).parent / "proto"
    spec = importlib.util.spec_from_file_location(
        _ALIAS, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None or not folder.is_dir():
        raise EnvironmentProblem(
            f"{folder} is missing: coremltools is damaged. Reinstall it with pip."
        )
    package = importlib.util.module_from_spec(spec)
    sys.modules[_ALIAS] = package
    spec.loader.exec_module(package)
    return importlib.import_module(f"{_ALIAS}.Model_pb2")


def data_types() -> dict[int, str]:
    """Names of MIL's tensor data types by number, such as {10: "FLOAT16"}."""
    return {number: name for name, number in messages().MIL__pb2.DataType.items()}


def read_package(path: Path) -> Package:
    """Parse `path` (an .mlpackage folder); StepFailed if it is not one."""
    manifest = path / "Manifest.json"
    try:
        raw = json.loads(manifest.read_text(encoding="utf-8"))
        item = raw["itemInfoEntries"][raw["rootModelIdentifier"]]["path"]
        if Path(item).is_absolute() or ".." in Path(item).parts:
            raise ValueError(f"its model lies outside: {item}")  # noqa: TRY301
        data = (path / "Data" / item).read_bytes()
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        reason = f"{error!r:.120}"
        raise StepFailed(f"{path} is not a readable .mlpackage ({reason}). Export again.") from None
    spec = messages().Model()
    try:
        spec.ParseFromString(data)
    except importlib.import_module("google.protobuf.message").DecodeError as error:
        raise StepFailed(f"{path}: damaged model specification ({error}). Export again.") from None
    return Package(spec, (path / "Data" / item).parent / "weights")


def write_package(path: Path, spec: Any, weights: Path) -> None:
    """Write `spec` (a `Model` message, changed in place) and its weights as an .mlpackage.

    The bytes depend on the message and the weights alone: no dates, no random identifiers,
    no local build of a tool, sorted maps, fixed file modes.
    """
    for model in (spec, *stages(spec)):
        _drop_unstable(model)
    data = path / "Data"
    (data / _WEIGHTS).mkdir(parents=True)
    for source in sorted(weights.iterdir()):
        shutil.copyfile(source, data / _WEIGHTS / source.name)
    (data / _MODEL).write_bytes(spec.SerializeToString(deterministic=True))
    text = json.dumps(_manifest(), indent=4, sort_keys=True)
    (path / "Manifest.json").write_text(text + "\n", encoding="utf-8")
    for entry in (path, *path.rglob("*")):
        entry.chmod(0o755 if entry.is_dir() else 0o644)


def stages(spec: Any) -> list[Any]:
    """Return the models inside a pipeline; none for a plain model."""
    return list(spec.pipeline.models) if spec.WhichOneof("Type") == "pipeline" else []


def inner(spec: Any) -> Any:
    """Return the model that holds the program: `spec` itself, or a pipeline's first such stage."""
    for model in stages(spec) or [spec]:
        if model.WhichOneof("Type") == "mlProgram":
            return model
    raise StepFailed(f"no ML program in a {spec.WhichOneof('Type')} model. Export again.")


def _manifest() -> dict[str, Any]:
    items = {
        str(uuid.uuid5(_NAMESPACE, item)): {
            "author": _AUTHOR,
            "description": f"CoreML Model {kind}",
            "name": Path(item).name,
            "path": item,
        }
        for item, kind in ((_MODEL, "Specification"), (_WEIGHTS, "Weights"))
    }
    return {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": items,
        "rootModelIdentifier": str(uuid.uuid5(_NAMESPACE, _MODEL)),
    }


def _drop_unstable(model: Any) -> None:
    for key in _UNSTABLE:
        model.description.metadata.userDefined.pop(key, None)
    if model.WhichOneof("Type") != "mlProgram":
        return
    # buildInfo names torch's local build ("2.14.1+cpu"), which differs between machines whose
    # release, and with it whose program, is the same.
    for entry in model.mlProgram.attributes["buildInfo"].immediateValue.dictionary.values:
        values = entry.value.immediateValue.tensor.strings.values
        values[:] = [text.split("+")[0] for text in values]
