"""`init`: from a checkpoint to recipes that can be deployed as they are."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.api.session import PathLike, Session
from yolodeploy.system import WIDTH, shown

if TYPE_CHECKING:
    from yolodeploy.proposal import Proposal, Written

RECIPES: Path = Path("recipes")


@dataclass(frozen=True, repr=False)
class Proposed:
    """The recipes that were written for a model: `recipes` for `deploy`, `allow` for the `Session` that deploys them."""

    proposal: Proposal

    @property
    def recipes(self) -> tuple[Path, ...]:
        """The recipes, one for each device."""
        return tuple(written.path for written in self.proposal.recipes)

    @property
    def allow(self) -> tuple[Path, ...]:
        """Folders outside of the recipes' project that they read."""
        return tuple(self.proposal.allow)

    def plain(self) -> dict[str, Any]:
        """As plain data, as `yolodeploy init --json` prints it."""
        proposal, images = self.proposal, self.proposal.images
        return {
            "weights": str(proposal.model.path),
            "model": str(proposal.model),
            "data": shown(proposal.source.path),
            "data_found": proposal.source.how,
            "evaluation_images": images.evaluated,
            "calibration_images": images.calibrated,
            "labelled": images.labelled,
            "recipes": [_row(written) for written in proposal.recipes],
            "left_out": proposal.left_out,
            "allow": [str(folder) for folder in proposal.allow],
            "next": proposal.command,
        }

    def __repr__(self) -> str:
        return f"<Proposed {', '.join(map(shown, self.recipes))}>"

    def __str__(self) -> str:
        return _text(self.proposal)

    def _repr_html_(self) -> str:
        from yolodeploy.api.notebook import text

        return text(str(self))


def init(
    weights: PathLike,
    *,
    data: PathLike | None = None,
    devices: str | Sequence[str] = (),
    output: PathLike = RECIPES,
    measure: bool = False,
    ask: Callable[[str], str] | None = None,
    choose: Callable[[Sequence[str]], Sequence[str]] | None = None,
    session: Session | None = None,
) -> Proposed:
    """Write recipes for a checkpoint or ONNX file into the folder `output`, one for each device, with what its backend advises.

    `data` is the data.yaml, or for classification the folder (None: the one that the weights name, or one beside them); `devices` are names as
    `yolodeploy devices` lists them (none: one of every installed backend). `measure` builds and measures every recipe, and sets its checks by
    what was measured. `ask` answers a question about the data set, and `choose` picks from suggested devices; None if nobody is there.

    Never overwrites a file. Raises EnvironmentProblem, ModelError, DataError, PlanRefused or RecipeError.
    """
    from yolodeploy.proposal import Wish, propose

    session = session or Session()
    named = (devices,) if isinstance(devices, str) else devices
    wish = Wish(Path(weights), Path(data) if data else None, named, Path(output), ask, choose)
    proposal = propose(wish, session.open_store().root)
    for warning in (text for written in proposal.recipes for text in written.warnings):
        session.console.warn(warning)
    return Proposed(_measured(proposal, session) if measure else proposal)


def _measured(proposal: Proposal, session: Session) -> Proposal:
    """The recipes with checks around what is measured of each; one that cannot be measured keeps those it has."""
    from yolodeploy.deployment import Request
    from yolodeploy.jobs import Goal, make_recipes
    from yolodeploy.measure import Evidence
    from yolodeploy.proposal import with_limits

    paths = [written.path for written in proposal.recipes]
    requests = [Request(path, (*proposal.allow, *session.allowed)) for path in paths]
    store, run = session.open_store(), session.run_of("init", paths)
    executor = session.executor(None, run, store)
    results = make_recipes(requests, store, session.console, executor, run, goal=Goal.TIME)
    if len(results) == 1 and results[0].error:
        raise results[0].error
    made = {result.recipe: result.made for result in results}
    found = {path: each for path, each in made.items() if isinstance(each, Evidence)}
    return with_limits(proposal, found, session.console.warn)


def _row(written: Written) -> dict[str, Any]:
    return {
        "recipe": str(written.path),
        "device": written.advised.device.name,
        "steps": written.steps,
        "checks": {limit.key: limit.value for limit in written.limits},
    }


def _text(proposal: Proposal) -> str:
    images = proposal.images
    calibrated = f", {images.calibrated} to calibrate with" if images.calibration else ""
    source = f"{shown(proposal.source.path)}, {proposal.source.how}"
    lines = [
        _row_of("model", f"{shown(proposal.model.path)}: {proposal.model}"),
        _row_of("data", f"{source}: {images.evaluated:,} images to measure on{calibrated}"),
        "",
    ]
    width = max(len(shown(written.path)) for written in proposal.recipes)
    lines += [f"{shown(each.path):<{width}}  {', '.join(each.steps)}" for each in proposal.recipes]
    lines += [
        _wrapped(f"no recipe for {name}: {reason}") for name, reason in proposal.left_out.items()
    ]
    lines.append("")
    if proposal.allow:
        why = (
            "Recipes read only files of their project: the nearest folder above them with .git or pyproject.toml, else their own. "
            f"Here that is {_folder(proposal.project)}; --allow names what else they may read."
        )
        lines.append(_wrapped(why))
    return "\n".join([*lines, f"Next: {proposal.command}"])


def _folder(path: Path) -> str:
    return "this folder" if path == Path.cwd() else shown(path)


def _row_of(label: str, text: str) -> str:
    return _wrapped(f"{label:<7}{text}", " " * 7)


def _wrapped(text: str, indent: str = "  ") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
