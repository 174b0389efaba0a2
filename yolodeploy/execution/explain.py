"""Why each step of a plan is reused or runs, in one line each: what -v says."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from yolodeploy.planning import LockFile, Plan, PlannedStep, differences, lock_of
from yolodeploy.store import Store
from yolodeploy.system import shown

_MOST = 3  # reasons in one line


def explain(plan: Plan, store: Store, lock: LockFile) -> Iterator[str]:
    """A line for each step: where its result is, or what is not as the lock says, which was written when it was last deployed."""
    known = _relevant(plan, lock.lock.plain() if lock.lock else None)
    now = _relevant(plan, lock_of(plan, {}).plain())
    final = store.peek(plan.final.id)
    for index, planned in enumerate(plan.steps):
        name = f"{planned.step.name} {planned.id[:12]}"
        meta = store.meta(planned.id)
        if meta:
            yield f"{name}: reused, {_origin(meta.origin, meta.created, meta.seconds)}"
        elif final:
            yield f"{name}: not in the store, and not needed: the last result is there"
        else:
            why = _why(planned, known, now, index, shown(lock.path))
            yield f"{name}: not in the store{why and f'; {why}'}"


def _origin(origin: str, created: float, seconds: float) -> str:
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(created))
    if origin:
        return f"fetched from {origin} on {day}"
    return f"made here on {day}, in {seconds:.1f} s"


def _relevant(plan: Plan, lock: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    """For each step of a lock, what its id depends on beside the step before; none without a lock."""
    if lock is None:
        return ()
    found = []
    for planned, step in zip(plan.steps, lock["steps"], strict=False):
        data, versions = (_mapping(lock[key]) for key in ("data", "versions"))
        backend = planned.backend
        found.append(
            {
                "step": step.get("name"),
                "id": step.get("id"),
                "params": step.get("params"),
                "weights": lock["model"] if planned.loads_weights else None,
                "imgsz": lock["imgsz"],
                "seed": lock["seed"],
                "target": lock["target"] if backend.DEVICES else None,
                "data": {name: data.get(name) for name in planned.data},
                "versions": versions.get(backend.NAME),
            }
        )
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _why(
    planned: PlannedStep,
    known: Sequence[Mapping[str, Any]],
    now: Sequence[Mapping[str, Any]],
    index: int,
    lock: str,
) -> str:
    """What changed since the lock was written; "" if there is none."""
    if not known:
        return ""
    if index >= len(known):
        return f"{lock} has no step in its place"
    if known[index]["id"] == planned.id:
        return f"{lock} names it, so it was made elsewhere, or removed since"
    changed = [
        line for line in differences(known[index], now[index]) if not line.startswith("id: ")
    ]
    if not changed:
        return "the step before gives it another input"
    more = f", and {len(changed) - _MOST} more" if len(changed) > _MOST else ""
    return f"other than in {lock}: {', '.join(changed[:_MOST])}{more}"
