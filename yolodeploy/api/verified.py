"""`verify`: whether bundles are, byte for byte, what was deployed. It reads the bundle alone: no toolchain, no store, no network."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from yolodeploy.api.batch import Results, answered
from yolodeploy.api.figures import checks_of, measure_of, measures_of
from yolodeploy.api.session import PathLike, paths_of
from yolodeploy.errors import VerificationFailed
from yolodeploy.report import evidence_text
from yolodeploy.system import shown

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

    from yolodeploy.measure import Check
    from yolodeploy.planning import Lock
    from yolodeploy.tasks import Measure

_ALLOWED = "a bundle that `yolodeploy deploy` wrote, such as dist/NAME, or a folder of bundles, such as dist"


@dataclass(frozen=True)
class Verified:
    """What a bundle is: `faults` are all differences from what was deployed, one sentence each.

    `recipe`, `device` and `id` are what it claims to be; `evidence` says where else it was measured. `why` says why it cannot be a bundle.
    """

    bundle: Path
    faults: tuple[str, ...]
    recipe: str | None
    device: str | None
    id: str | None
    evidence: tuple[Mapping[str, Any], ...]
    report: Mapping[str, Any] | None = field(default=None, repr=False)
    why: str | None = None

    @property
    def label(self) -> str:
        """What it is called."""
        return shown(self.bundle)

    @property
    def passed(self) -> bool:
        """Whether it is, byte for byte, what was deployed."""
        return not self.faults

    @property
    def error(self) -> VerificationFailed | None:
        """All faults as one error; None if there are none."""
        if not self.faults:
            return None
        listed = "\n  ".join(self.faults)
        return VerificationFailed(
            self.why or f"{shown(self.bundle)} is not what was deployed:\n  {listed}"
        )

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """What its report says was measured; empty if it is not intact."""
        return measures_of(self.report)

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """The checks that it passed; empty if it is not intact."""
        return checks_of(self.report)

    def measure(self, key: str, group: str = "") -> Measure:
        """The measure with this key, of a group if it has some; raises LookupError with the keys that there are."""
        return measure_of(self.measures, key, group)

    def plain(self) -> dict[str, Any]:
        """As plain data, as `yolodeploy verify --json` prints it."""
        return {
            "bundle": str(self.bundle),
            "ok": self.passed,
            "recipe": self.recipe,
            "device": self.device,
            "id": self.id,
            "evidence": [dict(each) for each in self.evidence],
            "faults": list(self.faults),
        }

    def __str__(self) -> str:
        if self.error:
            return f"error: {self.error}"
        recipe, device = (" ".join(str(word).split()) for word in (self.recipe, self.device))
        elsewhere = "".join(f"\n{evidence_text(place)}" for place in self.evidence)
        id_ = (self.id or "")[:12]
        return f"{self.bundle}: ok, {recipe} for {device}, bundle {id_}{elsewhere}"


@overload
def verify(  # type: ignore[overload-overlap] # a str is one path, not several
    bundle: PathLike,
    *,
    lock: PathLike | None = None,
    key: PathLike | None = None,
    raises: bool = True,
) -> Verified: ...


@overload
def verify(
    bundle: Sequence[PathLike],
    *,
    lock: PathLike | None = None,
    key: PathLike | None = None,
    raises: bool = True,
) -> Results[Verified]: ...


def verify(
    bundle: PathLike | Sequence[PathLike],
    *,
    lock: PathLike | None = None,
    key: PathLike | None = None,
    raises: bool = True,
) -> Verified | Results[Verified]:
    """Check whether a bundle, or each of several, is what `deploy` wrote, what `lock` names, and signed with the public `key` (PEM).

    In a list, a folder of bundles stands for everything in it except hidden names; anything there that is not a bundle has faults.

    Raises VerificationFailed with every difference, or Failures for several; `raises=False` returns them in `Verified.faults`.
    """
    from yolodeploy.bundle import bundles_in
    from yolodeploy.bundle.attest import read_public
    from yolodeploy.planning import read_lock

    alone = isinstance(bundle, str | os.PathLike)
    paths = paths_of(bundle)
    if not paths:
        raise ValueError("an empty list: name at least one bundle")
    locked = read_lock(Path(lock)) if lock else None
    public = read_public(Path(key)) if key else None
    folders = paths if alone else [each for path in paths for each in bundles_in(path) or [path]]
    found = Results(_verified(folder, locked, public) for folder in dict.fromkeys(folders))
    return answered(found, alone=alone, raises=raises)


def _verified(folder: Path, lock: Lock | None, key: SSlibKey | None) -> Verified:
    from yolodeploy.bundle import inspect_bundle, lock_problems, why_no_bundle

    found = inspect_bundle(folder, key)
    faults = (*found.problems, *(lock_problems(found, lock) if lock else ()))
    target = found.plan.get("target")
    device = target.get("device") if isinstance(target, dict) else None
    places = tuple(
        {"host": each.place.host, "on_device": each.place.on_device, "words": each.words()}
        for each in found.sets
    )
    report = None if faults else found.report
    why = why_no_bundle(folder, _ALLOWED)
    return Verified(folder, faults, found.report.get("name"), device, found.id, places, report, why)
