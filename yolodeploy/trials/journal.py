"""The journal of a search: Optuna's study in a file, so that a search that was stopped goes on where it was.

One process writes to it at a time. A line that was being written when the process was killed is cut off.
"""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

import yolodeploy
from yolodeploy.backend import load_registry
from yolodeploy.errors import EnvironmentProblem, StoreProblem
from yolodeploy.planning import Plan
from yolodeploy.recipe import Search, SearchStep
from yolodeploy.system import digest_of, installed, missing, read_plain, shown
from yolodeploy.trials.space import Space

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import JournalStorage
    from optuna.trial import FrozenTrial

FORMAT = 1
_MAX_BYTES = 1 << 30  # ten thousand trials take some megabytes
_NAME, _ABOUT, _SECONDS = "search", "about", "seconds"
_READABLE = {
    "recipe": "recipe",
    "steps": "steps",
    "space": "search space",
    "objectives": "objectives",
    "weights": "weights",
    "data": "data",
    "versions": "versions of tools",
    "seed": "seed",
    "sampler": "sampler",
    "format": "yolodeploy",
}


class Journal:
    """A study and the file that it is kept in. Use `open_journal`."""

    def __init__(self, path: Path, storage: JournalStorage, study: Study) -> None:
        self.path, self.study = path, study
        self._storage = storage
        self._id = storage.get_study_id_from_name(_NAME)

    @property
    def seconds(self) -> float:
        """How long was searched until now, in all runs together."""
        return float(self.study.user_attrs.get(_SECONDS, 0.0))

    def spent(self, seconds: float) -> None:
        """Add to the time that was searched."""
        self.study.set_user_attr(_SECONDS, round(self.seconds + seconds, 1))

    def trials(self) -> Sequence[FrozenTrial]:
        """All trials, in the order in which they were proposed."""
        return self.study.get_trials(deepcopy=False)

    def note(self, trial: int, name: str, value: Any) -> None:
        """Set an attribute of a trial that is not finished."""
        id_ = self._storage.get_trial_id_from_study_id_trial_number(self._id, trial)
        self._storage.set_trial_user_attr(id_, name, value)


@contextlib.contextmanager
def open_journal(
    path: Path, about: Mapping[str, Any], objectives: int, locks: Path
) -> Iterator[Journal]:
    """The journal of the search that `about` describes, new or continued; `locks` is a folder for locks.

    Raises StoreProblem for that of another search or for a damaged one, EnvironmentProblem if another process is writing to it or
    Optuna is not installed.
    """
    if problem := missing("search", "optuna"):
        raise EnvironmentProblem(f"`yolodeploy search` cannot run here: {problem}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"search-{digest_of(str(path.absolute()))[:16]}.lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise EnvironmentProblem(
            f"{shown(path)}: another process is searching with this journal. Wait for it, or write elsewhere with -o."
        ) from None
    except OSError as error:
        raise EnvironmentProblem(f"{shown(path)}: cannot be written: {error.strerror}") from None
    try:
        yield _opened(path, dict(about), objectives)
    finally:
        lock.release()


def _opened(path: Path, about: dict[str, Any], objectives: int) -> Journal:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        _require_own(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            storage = JournalStorage(JournalFileBackend(str(path), _held()))
            study = optuna.create_study(
                storage=storage,
                study_name=_NAME,
                directions=["minimize"] * objectives,
                load_if_exists=True,
            )
    except OSError as error:
        raise EnvironmentProblem(
            f"{shown(path)}: cannot be read: {error.strerror or error}"
        ) from None
    except Exception as error:
        raise StoreProblem(
            f"{shown(path)}: cannot be read as the journal of a search: {str(error)[:200] or type(error).__name__}. Remove it to "
            "search from the beginning."
        ) from error
    known = study.user_attrs.get(_ABOUT)
    if known is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(_ABOUT, about)
    elif known != about:
        known = known if isinstance(known, dict) else {}
        others = [name for key, name in _READABLE.items() if known.get(key) != about.get(key)]
        raise StoreProblem(
            f"{shown(path)} is the journal of another search (other {', '.join(others)}): remove it to search from the beginning, or "
            "write elsewhere with -o."
        )
    return Journal(path, storage, study)


def _held() -> Any:
    """A lock for Optuna that does nothing: one process has the whole file, and a killed one leaves no lock behind."""
    from optuna.storages.journal import JournalFileOpenLock

    class Held(JournalFileOpenLock):
        def acquire(self) -> bool:
            return True

        def release(self) -> None:
            """Nothing to release."""

    return Held("")


def _require_own(path: Path) -> None:
    """Raise ValueError for a file that no search began, before anything is written to it; remove a last line without an end."""
    try:
        raw = read_plain(path, _MAX_BYTES)
    except FileNotFoundError:
        return
    whole = raw.rfind(b"\n") + 1
    first = json.loads(raw[: raw.index(b"\n")]) if whole else None
    named = isinstance(first, dict) and first.get("study_name") == _NAME
    if raw and not (named if whole else raw.startswith(b'{"')):
        raise ValueError("it does not begin as one")
    if whole < len(raw):
        os.truncate(path, whole)


def about_search(plan: Plan, search: Search, space: Space, seed: int, kind: str) -> dict[str, Any]:
    """What a search is about, part by part: with another, its journal is of no use."""
    recipe = plan.file.recipe
    own = recipe.model_dump(mode="json", exclude={"name", "checks", "search", "steps"})
    own["model"].pop("weights")
    own["data"].pop("path")
    steps = recipe.model_dump(mode="json", include={"steps"})
    parts = {
        "recipe": own,
        "steps": steps,
        "space": search.model_dump(mode="json", include={"steps", "data", "target"}),
        "objectives": search.objectives.model_dump(mode="json", exclude_unset=True),
        "weights": plan.weights_digest,
        "data": dict(plan.view_digests),
        "versions": [_versions(plan, space), installed("optuna"), yolodeploy.__version__],
        "sampler": kind,
        "seed": seed,
    }
    return {"format": FORMAT, **{name: digest_of(part)[:16] for name, part in parts.items()}}


def _versions(plan: Plan, space: Space) -> Mapping[str, Any]:
    """Versions of the tools of all steps that the space names."""
    names = {name for entry in space.steps for name in _names(entry)}
    registry = load_registry()
    found = {
        f"{owner.NAME}.{step.name}": dict(step.versions(owner))
        for owner, step in registry.offered(plan.backend)
        if step.name in names
    }
    return {**found, **plan.versions()}


def _names(entry: SearchStep) -> Iterator[str]:
    if entry.one_of is None:
        yield entry.name
    for inner in (inner for way in entry.one_of or () for inner in way):
        yield from _names(inner)
