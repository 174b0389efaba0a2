"""The lock file beside a recipe: what a build was made from and which bytes came out.

`deploy` writes it; it is committed with the recipe, and holds nothing that differs from run to run or from
machine to machine.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.errors import EnvironmentProblem, LockMismatch
from yolodeploy.system import quotable, read_json, replace_file, shown, shown_json

if TYPE_CHECKING:
    from yolodeploy.planning.plan import Plan

FORMAT = 1
_OTHER_INPUTS = "Restore what changed, or deploy without --locked and commit the new lock."
_OTHER_BYTES = (
    "The same inputs gave different bytes: this machine differs from the one that wrote the lock, or a "
    "step is not reproducible. `yolodeploy reproduce` tells which."
)
_MOST_DIFFERENCES = 20


@dataclass(frozen=True)
class Lock:
    """The content of a lock file. `steps` are mappings with name, params, id, output, and perhaps varies.

    `bundle` are the digests of the files that an app reads beside the artifact; None if an earlier release
    wrote the lock. The values of a lock that was read are compared, not trusted: they may be anything, except
    that `steps` holds mappings.
    """

    recipe: Any
    target: Any
    model: Any
    imgsz: Any
    seed: Any
    data: Any
    versions: Any
    steps: Sequence[Mapping[str, Any]]
    bundle: Mapping[str, Any] | None = None

    @cached_property
    def outputs(self) -> dict[str, str]:
        """Output digests by step id, as far as the lock names them."""
        pairs = ((step.get("id"), step.get("output")) for step in self.steps)
        return {i: out for i, out in pairs if isinstance(i, str) and isinstance(out, str) and out}

    def plain(self) -> dict[str, Any]:
        """The lock as plain data, in the order in which it is written."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.bundle is None:
            del values["bundle"]
        return {"lock": FORMAT, **values}


def lock_of(
    plan: Plan, outputs: Mapping[str, str], bundle: Mapping[str, str] | None = None
) -> Lock:
    """The lock of a plan, from output digests by step id (as far as known) and those of the app's files by name."""
    from yolodeploy.planning.plan import (
        named_target,  # late: `verify` reads locks, and needs no plan
    )

    return Lock(
        recipe=plan.file.recipe.name,
        target=named_target(plan.target),
        model=plan.weights_digest,
        imgsz=plan.imgsz.plain,
        seed=plan.file.recipe.seed,
        data=dict(plan.view_digests),
        versions=plan.versions(),
        steps=tuple(
            {
                "name": planned.step.name,
                "params": planned.params.model_dump(mode="json"),
                "id": planned.id,
                "output": outputs.get(planned.id),
                **({"varies": reason} if (reason := planned.varies) else {}),
            }
            for planned in plan.steps
        ),
        bundle=None if bundle is None else dict(bundle),
    )


def read_lock(path: Path) -> Lock:
    """Read a lock file; raises LockMismatch if it is missing or not a lock file."""
    try:
        raw = read_json(path, links=True)
    except FileNotFoundError:
        raise LockMismatch(
            f"{shown(path)}: the lock file does not exist. Deploy once without --locked."
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise LockMismatch(
            f"{shown(path)}: cannot be read as a lock file: {reason}. Restore it, or remove it and deploy "
            "without --locked."
        ) from None
    steps, bundle = raw.get("steps"), raw.get("bundle")
    valid = isinstance(steps, list) and all(isinstance(step, dict) for step in steps)
    if raw.get("lock") != FORMAT or not valid or not isinstance(bundle, dict | None):
        raise LockMismatch(
            f"{shown(path)}: not a lock file of format {FORMAT}. Deploy once without --locked."
        )
    values: dict[str, Any] = {field.name: raw.get(field.name) for field in fields(Lock)}
    return Lock(**values)


@dataclass(frozen=True)
class LockFile:
    """The lock file of a plan, read once: the lock, or the problem with it."""

    path: Path
    lock: Lock | None
    problem: str = ""

    @classmethod
    def beside(cls, plan: Plan) -> LockFile:
        """The file for a plan; raises PlanRefused if it is a link that leads out of the project."""
        path = lock_path(plan.file.path)
        plan.file.allowed.require(path, plan.file.where(), "the lock file")
        try:
            return cls(path, read_lock(path))
        except LockMismatch as problem:
            return cls(path, None, str(problem))

    @property
    def outputs(self) -> Mapping[str, str]:
        """Output digests by step id; none without a lock."""
        return self.lock.outputs if self.lock else {}

    def required(self) -> Lock:
        """The lock; raises LockMismatch with the problem if there is none."""
        if self.lock is None:
            raise LockMismatch(self.problem)
        return self.lock

    def require_complete(self) -> None:
        """Refuse a lock that does not name the app's files, before anything is built."""
        if self.required().bundle is None:
            raise LockMismatch(
                f"{shown(self.path)}: was written by an earlier yolodeploy and does not name `labels.txt` "
                "and `contract.json`. Deploy without --locked and commit the new lock."
            )

    def require_replaceable(self) -> None:
        """Refuse to overwrite a file that is not one of our locks, such as `uv.lock`."""
        if self.lock or not os.path.lexists(self.path):
            return
        try:
            ours = "lock" in read_json(self.path, links=True)
        except (OSError, ValueError):
            ours = False
        if not ours:
            raise EnvironmentProblem(
                f"{shown(self.path)}: deploy writes its lock file here, but this is another file. "
                "Rename the recipe, or remove the file."
            )

    def require_inputs(self, plan: Plan) -> None:
        """Refuse a plan that differs from the lock, before anything is built."""
        known = self.required().plain()
        known["steps"] = [{**step, "output": None} for step in known["steps"]]
        known.pop("bundle", None)
        self._require_same(known, lock_of(plan, {}).plain())

    def require_outputs(self, built: Lock) -> None:
        """Refuse a build that differs from the lock; the app's files are compared if `built` names them."""
        known = self.required().plain()
        known["bundle"] = known.get("bundle", {})
        if built.bundle is None:
            del known["bundle"]
        self._require_same(known, built.plain())

    def _require_same(self, known: dict[str, Any], current: dict[str, Any]) -> None:
        lines = differences(known, current)
        if lines:
            listed = "\n".join(f"  {line}" for line in lines)
            other_bytes = any(".output: " in line for line in lines)
            remedy = _OTHER_BYTES if other_bytes else _OTHER_INPUTS
            raise LockMismatch(
                f"{shown(self.path)} does not describe this build:\n{listed}\n{remedy}"
            )

    def replace(self, built: Lock, warn: Callable[[str], None]) -> None:
        """Write the lock of a build, unless it is there already; warn of other bytes for equal ids."""
        for step in built.steps:
            before, now = self.outputs.get(step["id"]), step["output"]
            if before not in (None, now) and "varies" not in step:
                warn(
                    f"{shown(self.path)}: the result of `{step['name']}` was {before[:12]} and now is "
                    f"{now[:12]}, although no input changed: this machine differs from the one that wrote the "
                    "lock, or the step is not reproducible. `yolodeploy reproduce` tells which."
                )
        try:
            replace_file(self.path, (shown_json(built.plain()) + "\n").encode())
        except OSError as error:
            raise EnvironmentProblem(
                f"{shown(self.path)}: the lock file cannot be written: {error.strerror}"
            ) from None


def lock_path(recipe: Path) -> Path:
    """`recipes/ios.yaml` -> `recipes/ios.lock`."""
    return recipe.with_suffix(".lock")


def differences(known: Any, current: Any) -> list[str]:
    """What differs between two locks, one line each; ids, which follow from the rest, only if nothing else does."""
    lines = list(_differences(known, current, ""))
    lines = [line for line in lines if ".id: " not in line] or lines
    lines = [quotable(line, 300) for line in lines]
    more = len(lines) - _MOST_DIFFERENCES
    return [*lines[:_MOST_DIFFERENCES], f"and {more} more"] if more > 0 else lines


def _differences(known: Any, current: Any, where: str) -> Iterator[str]:
    if isinstance(known, Mapping) and isinstance(current, Mapping):
        for key in sorted({*known, *current}):
            yield from _differences(known.get(key), current.get(key), f"{where}.{key}".lstrip("."))
    elif isinstance(known, list | tuple) and isinstance(current, list | tuple):
        if len(known) != len(current):
            yield f"{where}: locked {_names(known)}, now {_names(current)}"
            return
        for index, (old, new) in enumerate(zip(known, current, strict=True)):
            name = new.get("name", index) if isinstance(new, dict) else index
            yield from _differences(old, new, f"{where}.{name}")
    elif known != current:
        yield f"{where}: locked {_short(known)}, now {_short(current)}"


def _names(steps: Sequence[Any]) -> str:
    return " > ".join(_short(s.get("name") if isinstance(s, dict) else s) for s in steps[:20])


def _short(value: object) -> str:
    text = str(value) if isinstance(value, str | int | float | None) else reprlib.repr(value)
    return text if len(text) <= 24 else f"{text[:20]}..."
