"""`deploy`: make, measure and check artifacts, and write their bundles and locks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from yolodeploy.api.batch import Results, answered, asked_for, make
from yolodeploy.api.figures import checks_of, described, measure_of, measures_of
from yolodeploy.api.session import PathLike, Session, chosen_host
from yolodeploy.errors import ChecksFailed, YolodeployError
from yolodeploy.system import shown

if TYPE_CHECKING:
    from rich.text import Text

    from yolodeploy.api.batch import Named
    from yolodeploy.deployment import Deployed
    from yolodeploy.jobs import Result as Made
    from yolodeploy.measure import Check
    from yolodeploy.tasks import Measure

DIST: Path = Path("dist")


@dataclass(frozen=True, repr=False)
class Result:
    """What became of the deployment of a recipe.

    `report` is what report.json has (None if nothing was measured), `bundle` the folder of the bundle (None if none was written, which is
    so whenever a check failed). `error` is what went wrong. `seconds` is how long the jobs that the recipe needed took, and finishing it.
    """

    recipe: Path
    name: str
    bundle: Path | None
    report: Mapping[str, Any] | None
    error: YolodeployError | None
    seconds: float

    @property
    def label(self) -> str:
        """What it is called."""
        return self.name

    @property
    def passed(self) -> bool:
        """Whether every check passed and the bundle was written."""
        return self.error is None

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """Everything that was measured; empty if nothing was."""
        return measures_of(self.report)

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """The checks of the recipe with their verdicts; empty if nothing was measured."""
        return checks_of(self.report)

    def measure(self, key: str, group: str = "") -> Measure:
        """The measure with this key, as `result.measure("map50_95")`, of a group if it has some.

        Raises LookupError with the keys that there are.
        """
        return measure_of(self.measures, key, group)

    def plain(self) -> dict[str, Any]:
        """As plain data, as `yolodeploy deploy --json` prints it for one of several recipes."""
        row = described(self.recipe, self.error, self.seconds)
        if self.error is None:
            return {**row, **(self.report or {}), "bundle": str(self.bundle)}
        return {**row, "report": self.report} if self.report is not None else row

    def __repr__(self) -> str:
        where = f", {shown(self.bundle)}" if self.bundle else ""
        return f"<Result {self.name}: {self._verdict}{where}>"

    @property
    def _verdict(self) -> str:
        return self.error.kind if self.error else "passed"

    def __str__(self) -> str:
        return "\n\n".join(self._parts())

    def _parts(self) -> Iterator[str]:
        from yolodeploy.report import report_table

        if self.report is not None:
            yield report_table(self.report)
        if self.bundle:
            yield f"bundle: {shown(self.bundle)}"
        if self.error:
            yield f"error: {self.error}"

    def __rich__(self) -> Text:
        from rich.text import Text

        return Text(str(self))

    def _repr_html_(self) -> str:
        from yolodeploy.api.notebook import head, table, text
        from yolodeploy.report import figures, verdicts

        where = f", {shown(self.bundle)}" if self.bundle else ", no bundle"
        parts = [head(self.name, self._verdict, where, good=self.passed)]
        if self.report is not None:
            figures_ = [
                (f"{each.title} {each.group}", each.source, each.artifact, each.change)
                for each in figures(self.report)
            ]
            parts.append(table(("", "source", "artifact", "change"), figures_))
            rows = verdicts(self.report)
            titles = "check", "verdict", "measured", "limit"
            parts += [table(titles, rows, left=(1,))] if rows else []
        elif self.error:
            parts.append(text(str(self.error)))
        return "".join(parts)


@overload
def deploy(  # type: ignore[overload-overlap] # a str is one path, not several
    what: Named,
    *,
    on: str | None = None,
    locked: bool = False,
    dist: PathLike = DIST,
    key: PathLike | None = None,
    undecided: Literal["refuse", "accept"] = "refuse",
    images: bool = True,
    raises: bool = True,
    session: Session | None = None,
) -> Result: ...


@overload
def deploy(
    what: Sequence[Named],
    *,
    on: str | None = None,
    locked: bool = False,
    dist: PathLike = DIST,
    key: PathLike | None = None,
    undecided: Literal["refuse", "accept"] = "refuse",
    images: bool = True,
    raises: bool = True,
    session: Session | None = None,
) -> Results[Result]: ...


def deploy(
    what: Named | Sequence[Named],
    *,
    on: str | None = None,
    locked: bool = False,
    dist: PathLike = DIST,
    key: PathLike | None = None,
    undecided: Literal["refuse", "accept"] = "refuse",
    images: bool = True,
    raises: bool = True,
    session: Session | None = None,
) -> Result | Results[Result]:
    """Make, measure and check the artifacts of recipes or plans; write bundle and lock of those whose checks all pass.

    `on` is a host of hosts.toml that measures, or a cluster that runs jobs; `locked` refuses whatever differs from the lock file; bundles
    go to `dist`; `key` is the Ed25519 private key (PEM) that signs them; `undecided="accept"` ships an artifact although noise could turn
    the verdict of a check over; `images` puts small copies of evaluation images, with what was found in them, into the bundle.

    Raises ChecksFailed, with `.report`, if a check fails, and the other errors of `yolodeploy.errors`; of several recipes all are worked
    on first, and then Failures has an error each. `raises=False` returns them in `Result.error` instead. What was
    measured is in the store, so another call costs nothing.
    """
    from yolodeploy.bundle.attest import read_private
    from yolodeploy.deployment import Request
    from yolodeploy.jobs import Goal

    if undecided not in ("refuse", "accept"):
        raise ValueError(f'undecided={undecided!r} must be "refuse" or "accept"')
    asked = asked_for(what, session)
    console = asked.session.console
    # The key comes first: a wrong one should not cost a build.
    signer = read_private(Path(key), console.warn) if key else None
    with chosen_host(on, [recipe.parent for recipe in asked.recipes]) as host:
        request = partial(
            Request, shared=asked.session.store, locked=locked, dist=Path(dist), signer=signer,
            accept_undecided=undecided == "accept", images=images, host=host,
        )  # fmt: skip
        made = make(asked, request, None if host.name else on, "deploy", Goal.DEPLOY)
    return answered(Results(map(_result, made)), alone=asked.alone, raises=raises)


def _result(made: Made) -> Result:
    error, deployed = made.error, cast("Deployed | None", made.made)
    failed = error.report if isinstance(error, ChecksFailed) else None
    return Result(
        recipe=made.recipe,
        name=made.name,
        bundle=deployed.bundle if deployed else None,
        report=deployed.report if deployed else failed,
        error=error,
        seconds=made.seconds,
    )
