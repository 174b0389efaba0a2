"""What every backend promises, as plain functions that test_contract.py calls.

Nothing here knows a backend: plugins come from the entry points, checkpoints are loaded by
whichever step accepts `.pt`. As a program it reads steps to run, a line of JSON each, and prints
the digests of their files, which is how two processes are compared.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from yolodeploy.backend import (
    NO_MODEL,
    Artifact,
    Backend,
    Context,
    Device,
    Examining,
    ModelInfo,
    Step,
    Target,
    Weighing,
)
from yolodeploy.backend.params import Params
from yolodeploy.data.dataset import Dataset
from yolodeploy.errors import PlanRefused
from yolodeploy.system import ImageShape

GROUP = "yolodeploy.backends"
WEIGHTS = ".pt"
IMGSZ = ImageShape(128, 160)  # a rectangle, so that height and width cannot be confused
THREADS = 1  # more would wait for each other on a busy machine
TOOLCHAINS = frozenset(
    {
        *("torch", "torchvision", "numpy", "cv2", "onnx", "onnxruntime", "coremltools"),
        *("openvino", "nncf", "ncnn", "pnnx", "tensorflow", "executorch", "safetensors"),
    }
)
NOWHERE = Device(name="none", title="no device: a step of a source", os="none")


@functools.cache
def plugins() -> Mapping[str, Backend]:
    """All registered backends by the name of their entry point."""
    entries = importlib.metadata.entry_points(group=GROUP)
    return {entry.name: entry.load() for entry in sorted(entries, key=lambda e: e.name)}


def modules() -> Mapping[str, str]:
    """The module of each backend, without importing it."""
    return {entry.name: entry.value for entry in importlib.metadata.entry_points(group=GROUP)}


def loader() -> tuple[str, Step]:
    """The backend and the step that reads a checkpoint."""
    steps = [(name, step) for name, plugin in plugins().items() for step in plugin.STEPS]
    found = [(name, s) for name, s in steps if s.accepts == WEIGHTS and not s.executes]
    if not found:
        raise LookupError("no registered backend has a step that accepts .pt")
    return found[0]


def starting() -> list[tuple[str, Backend]]:
    """The backends that start from the demo checkpoint, or from the loaded model: no loaders of other files."""
    name = loader()[0]
    return [(n, plugin) for n, plugin in plugins().items() if plugin.DEVICES or n == name]


def first_step(plugin: Backend) -> Step:
    """The step of a backend that starts from a checkpoint (a source) or from the loaded model."""
    accepts = loader()[1].produces if plugin.DEVICES else WEIGHTS
    return next(step for step in plugin.STEPS if step.accepts == accepts)


def reachable_formats(plugin: Backend) -> set[str]:
    """Every format that the steps of the sources and of this backend can make from files of weights."""
    sources = [p for p in plugins().values() if not p.DEVICES]
    steps = [step for p in (*sources, plugin) for step in p.STEPS]
    known = {step.accepts for step in steps if step.accepts.startswith(".")}
    for _ in steps:
        known |= {step.produces for step in steps if step.accepts in known}
    return known


def check_inspection(plugin: Backend, artifact: Artifact, macs: int) -> None:
    """What a plugin says of the files of an artifact is what it describes to an app, and costs what the source does."""
    if not isinstance(plugin, Examining) or not plugin.DEVICES:
        return
    found, described = plugin.inspect(artifact.path), plugin.describe(artifact)
    assert found is not None
    assert (found.format, found.imgsz) == (artifact.format, IMGSZ)
    forms = sum((Counter(part.forms) for part in found.parts), Counter())
    assert forms == Counter(described.layers.values())
    assert sum(part.layers for part in found.parts) == len(described.layers)
    assert found.parameters == sum(part.parameters or 0 for part in found.parts)
    assert found.macs in (None, macs)
    largest = sum(file.stat().st_size for file in artifact.path.rglob("*") if file.is_file())
    assert 0 < sum(found.stored.values()) < largest
    _check_bytes(plugin, artifact, described.layers, sum(found.stored.values()), largest)


def _check_bytes(
    plugin: Backend, artifact: Artifact, forms: Mapping[str, str], stored: int, largest: int
) -> None:
    """Every layer takes some bytes, and together they are nearly all that is stored."""
    if not isinstance(plugin, Weighing):
        return
    rows = plugin.layer_bytes(artifact)
    assert {row.layer: row.form for row in rows} == dict(forms)
    assert min(row.bytes for row in rows) > 0
    assert 0.9 * stored < sum(row.bytes for row in rows) < largest


def variants(step: Step) -> list[Params]:
    """The step's default parameters, once for every precision that it offers."""
    field = step.params.model_fields.get("precision")
    if field is None:
        return [step.params()]
    return [step.params.model_validate({"precision": p}) for p in get_args(field.annotation)]


def target(plugin: Backend) -> Target:
    """A device of the backend, with no wish for an OS version."""
    return Target(plugin.DEVICES[0] if plugin.DEVICES else NOWHERE)


def later_steps(plugin: Backend) -> list[Step]:
    """The steps that go on from what the first step of a backend makes."""
    if not plugin.DEVICES:
        return []
    made = first_step(plugin).produces
    return [step for step in plugin.STEPS if step.accepts == made]


def target_for(plugin: Backend, step: Step) -> Target:
    """The first device and OS version on which the backend takes a step with its defaults."""
    for device in plugin.DEVICES:
        for version in (device.os_default, device.os_min, device.os_max):
            wanted = Target(device, version)
            if plugin.refuse(step, step.params(), wanted) is None:
                return wanted
    raise LookupError(f"no device of {plugin.NAME} takes `{step.name}` with its defaults")


@dataclass(frozen=True)
class Job:
    """One step to run: everything as text, so that another process can do the same."""

    plugin: str
    step: str
    params: Mapping[str, Any]
    format: str
    source: str
    names: tuple[str, ...]
    work: str
    device: str | None = None
    os_version: str | None = None
    images: tuple[str, ...] = ()

    def run(self) -> Artifact:
        """Run the step in its work folder, which must not exist yet."""
        plugin, work = plugins()[self.plugin], Path(self.work)
        step = next(step for step in plugin.STEPS if step.name == self.step)
        work.mkdir(parents=True)
        params, context = step.params.model_validate(self.params), self.context()
        folder = step.run(Artifact(self.format, Path(self.source), ""), params, context)
        if not folder.resolve().is_relative_to(work.resolve()):
            raise AssertionError(f"{self.step} returned {folder}, which is not below {work}")
        return Artifact(step.produces, folder, "")

    def context(self) -> Context:
        """What the step gets to run with; the images are its calibration view."""
        plugin, names = plugins()[self.plugin], tuple(self.names)
        devices = {device.name: device for device in plugin.DEVICES}
        wanted = Target(devices[self.device], self.os_version) if self.device else target(plugin)
        view = Dataset(Path("data.yaml"), names, tuple(map(Path, self.images)))
        model = replace(NO_MODEL, names=names)
        work, data = Path(self.work), {"calibration": view}
        return Context(work, 0, IMGSZ, THREADS, wanted, model, data, lambda *_: None)


@dataclass(frozen=True)
class Built:
    """What a backend's first step made of the demo model with one set of parameters."""

    name: str
    plugin: Backend
    params: Params
    job: Job
    artifact: Artifact


@dataclass(frozen=True)
class Compressed:
    """What a later step made of the demo model's export with its default parameters."""

    plugin: Backend
    step: Step
    job: Job
    artifact: Artifact

    @property
    def target(self) -> Target:
        """The device and OS version that it was made for."""
        return self.job.context().target

    @property
    def input(self) -> Artifact:
        """The export that it was made from."""
        return Artifact(self.job.format, Path(self.job.source), "")


def load(checkpoint: Path, work: Path) -> Artifact:
    """Load a checkpoint through the step that accepts it."""
    name, step = loader()
    return Job(name, step.name, {}, WEIGHTS, str(checkpoint), (), str(work)).run()


def job(name: str, params: Params, checkpoint: Path, loaded: Artifact, work: Path) -> Job:
    """The backend's first step on the demo model."""
    plugin = plugins()[name]
    step = first_step(plugin)
    source = Artifact(WEIGHTS, checkpoint, "") if step.accepts == WEIGHTS else loaded
    names = ModelInfo.read(loaded.path).names
    values = params.model_dump(exclude_unset=True)
    return Job(name, step.name, values, source.format, str(source.path), names, str(work))


def later_job(name: str, step: Step, source: Artifact, first: Job, images: list[Path]) -> Job:
    """A step with its defaults on what the first step made, with images to calibrate on."""
    wanted = target_for(plugins()[name], step)
    return Job(
        plugin=name,
        step=step.name,
        params={},
        format=source.format,
        source=str(source.path),
        names=first.names,
        work=f"{first.work}-{step.name}",
        device=wanted.device.name,
        os_version=wanted.os_version,
        images=tuple(map(str, images)),
    )


def run_on_first_fit(make: Callable[[Params], Job], tries: list[Params]) -> tuple[Job, Artifact]:
    """Run a later step on the first precision of the export that it takes."""
    for number, params in enumerate(tries):
        task = make(params)
        try:
            return task, task.run()
        except PlanRefused:
            if number == len(tries) - 1:
                raise
    raise LookupError("the export offers no precision")


def files(folder: Path) -> Iterator[Path]:
    """All files below a folder, in a fixed order."""
    return iter(sorted(path for path in folder.rglob("*") if not path.is_dir()))


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of every file below a folder, by relative path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files(folder)
    }


MADE = "made: "  # before what another process answers; tools may print, too
ELSEWHERE = {
    "PYTHONHASHSEED": "4711",
    "TZ": "Asia/Tokyo",
    "LC_ALL": "C",
    "COLUMNS": "40",
}


class Elsewhere:
    """Another process, with another environment, umask and working folder; it runs one job after the other.

    Toolchains take seconds to import, so one process serves all tests of a file.
    """

    def __init__(self, cwd: Path) -> None:
        self._log = cwd / "stderr.txt"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve())],
                cwd=cwd,
                env=_environment(ELSEWHERE),
                umask=0o077,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def digests(self, task: Job) -> dict[str, str]:
        """The digests of what a job makes there; raises AssertionError if the process ends instead."""
        given, said = self._process.stdin, self._process.stdout
        assert given is not None
        assert said is not None
        given.write(json.dumps(asdict(task)) + "\n")
        given.flush()
        for line in said:
            if line.startswith(MADE):
                return dict(json.loads(line.removeprefix(MADE)))
        code = self._process.wait()
        raise AssertionError(f"{task.step} ended with code {code}:\n{self._log.read_text()}")

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


IMPORT_PROBE = """
import importlib, json, sys, time
from yolodeploy.backend import Backend, Params
start = time.process_time()
plugin = importlib.import_module(sys.argv[1])
seconds = time.process_time() - start
plugin.versions()
plugin.problem()
print(json.dumps([seconds, sorted({name.split(".")[0] for name in sys.modules})]))
"""


def import_cost(module: str, cwd: Path) -> tuple[float, frozenset[str]]:
    """CPU seconds that importing a plugin takes beyond the core, and all modules loaded then.

    `versions()` and `problem()` are called before the modules are listed, because planning
    calls them too.
    """
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_PROBE, module],
        cwd=cwd,
        env=_environment({}),
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise AssertionError(f"importing {module} ended with {done.returncode}:\n{done.stderr}")
    seconds, names = json.loads(done.stdout.splitlines()[-1])
    return seconds, frozenset(names)


def _environment(changes: Mapping[str, str]) -> dict[str, str]:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, "PYTHONPATH": path, **changes}


def is_sentence(text: object) -> bool:
    """Whether a message is one line of several words, as a user gets to read it."""
    return isinstance(text, str) and "\n" not in text and len(text.split()) >= 4


def main() -> None:
    """Run every job that is read as a line of JSON, and print the digests of what it made."""
    for line in sys.stdin:
        made = digests(Job(**json.loads(line)).run().path)
        print(f"\n{MADE}{json.dumps(made)}", flush=True)


if __name__ == "__main__":
    main()
