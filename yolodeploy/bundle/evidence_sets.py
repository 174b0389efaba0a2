"""Sets of evidence in a bundle: `evidence/<host>.json`, what was measured of its artifact somewhere else, or later.

They are files of the bundle, listed in its manifest and covered by its provenance, but not part of its id: what ships stays
the same, however often it is measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from yolodeploy.backend import Place
from yolodeploy.bundle.manifest import SETS, set_names
from yolodeploy.system import read_plain
from yolodeploy.tasks import Key

_ALONE = ".golden"  # after it, where only the golden vectors were measured
_HERE = "this-machine"  # instead of the name of a host
MAX_SETS = 64
_MAX_BYTES = 8 << 20  # as of every JSON file of a bundle

_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_MOST_TEXT = 2000
_Text = Annotated[str, Field(max_length=_MOST_TEXT)]
_Interval = tuple[float, float] | None


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class SetMeasure(_Strict):
    """A `tasks.Measure` and its loss."""

    key: Key
    source: float | None
    artifact: float | None
    higher_is_better: bool
    interval: _Interval
    confidence: float
    group: _Text
    count: int | None
    reason: _Text
    loss: float | None


class SetCheck(_Strict):
    """A check of the recipe, as `measure.Check` has it."""

    name: _Text
    limit: float
    value: float | None
    verdict: Literal["ok", "FAILED", "UNDECIDED"]
    note: _Text
    least: bool
    interval: _Interval
    doubt: _Text
    ok: bool


class EvidenceSet(_Strict):
    """What was measured in one place: of which artifact, for which device, by which recipe and plan, with what result.

    `plan` is the digest of the plan, None where a bundle was measured without its recipe. `missing` says what was not measured and why, a sentence each.
    """

    artifact: _Sha256
    device: _Text
    recipe: _Text
    plan: _Sha256 | None
    place: Place
    measures: list[SetMeasure] = Field(max_length=100_000)
    conditions: dict[str, JsonValue] = Field(max_length=50)
    checks: list[SetCheck] = Field(max_length=100)
    missing: list[_Text] = Field(max_length=100)

    def words(self) -> str:
        """Where it was measured, as in "evidence from ..."."""
        return f"{self.place.words()}{'' if self.plan else ' (golden vectors only)'}"


def set_file(host: str, *, alone: bool) -> str:
    """The name of a host's set in a bundle; the host "" is this machine. What is measured `alone`, without a recipe, replaces none that has more."""
    return f"{SETS}/{host or _HERE}{_ALONE * alone}.json"


def read_set(file: Path) -> EvidenceSet:
    """Read a set of unknown origin; raises OSError, or ValueError with the reason if it is not one."""
    data = read_plain(file, _MAX_BYTES)
    try:
        raw = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _require_finite(raw)
    try:
        found = EvidenceSet.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise ValueError(f"{where}: {first['msg']}") from None
    if max(len(str(value)) for value in asdict(found.place).values()) > _MOST_TEXT:
        raise ValueError(f"place: a text of it has more than {_MOST_TEXT} characters")
    if found.place.on_device == bool(found.place.reason):
        raise ValueError("place: it must either be the target device or say why it is not")
    if f"{SETS}/{file.name}" != set_file(found.place.host, alone=found.plan is None):
        raise ValueError("place.host: the file has the name of another host")
    return found


def _require_finite(value: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("it has a number that is not finite")
    for each in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        _require_finite(each)


def read_sets(
    folder: Path, names: Mapping[str, str], artifact: object, device: object
) -> tuple[list[EvidenceSet], list[str]]:
    """The sets of a bundle, and what is wrong with others: one sentence each.

    `names` are the bundle's files, `artifact` is the digest of its artifact and `device` the one that it is for.
    """
    sets, problems = [], []
    found = set_names(names)
    if len(found) > MAX_SETS:
        return [], [f"{SETS} has more than {MAX_SETS} sets"]
    for name in found:
        try:
            each = read_set(folder / name)
        except (OSError, ValueError, RecursionError) as error:
            problems.append(f"{name} is not a set of evidence: {_reason(error)}")
            continue
        if each.artifact != artifact:
            problems.append(f"{name} is of another artifact: {each.artifact[:12]}")
        elif each.device != device:
            problems.append(f"{name} is for another device: {each.device}")
        else:
            sets.append(each)
    return sets, problems


def _reason(error: Exception) -> str:
    strerror = error.strerror if isinstance(error, OSError) else None
    return strerror or str(error)


def plain_set(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """A set as it is written, checked as if it were read: what this release writes, it must accept."""
    return EvidenceSet.model_validate_json(json.dumps(value)).model_dump(mode="json")
