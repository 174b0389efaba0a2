"""`remeasure`: evidence for an artifact that was built, from this machine or another; nothing is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.api.deployed import DIST
from yolodeploy.api.figures import checks_of, measure_of, measures_of
from yolodeploy.api.session import PathLike, Session, chosen_host
from yolodeploy.errors import VerificationFailed
from yolodeploy.system import is_file, shown

if TYPE_CHECKING:
    from yolodeploy.measure import Check
    from yolodeploy.prove import Proved
    from yolodeploy.tasks import Measure

_RECIPES = (".yaml", ".yml")


@dataclass(frozen=True, repr=False)
class Proof:
    """What was measured of an artifact somewhere: `evidence` as plain data, and the file in the bundle that has it now (None: no bundle).

    `report` is there for a recipe; for a bundle alone it is None, and nothing that needs images was measured.
    """

    evidence: Mapping[str, Any]
    file: Path | None
    report: Mapping[str, Any] | None = None

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """Everything that was measured."""
        return measures_of(self.evidence)

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """The checks of the recipe with their verdicts there; empty for a bundle alone."""
        return checks_of(self.report)

    def measure(self, key: str, group: str = "") -> Measure:
        """The measure with this key, of a group if it has some; raises LookupError with the keys that there are."""
        return measure_of(self.measures, key, group)

    def plain(self) -> dict[str, Any]:
        """As plain data, as `yolodeploy measure --json` prints it."""
        return {**self.evidence, "file": str(self.file) if self.file else None}

    def __repr__(self) -> str:
        kept = f", {self.file}" if self.file else ""
        return f"<Proof {self.evidence['recipe']}: {len(self.measures)} measures{kept}>"

    def __str__(self) -> str:
        from yolodeploy.report import report_table, set_table

        table = report_table(self.report) if self.report else set_table(self.evidence)
        if self.file is None:
            return f"{table}\n\nno bundle, so the evidence is only in the store"
        return f"{table}\n\nevidence: {shown(self.file)}"


def remeasure(
    what: PathLike,
    *,
    on: str | None = None,
    dist: PathLike = DIST,
    key: PathLike | None = None,
    session: Session | None = None,
) -> Proof:
    """Measure the artifact of a recipe or of a bundle again, here or on the host `on`, and add that to the bundle.

    The artifact comes from the recipe's bundle in `dist`, or from the store; nothing is built. `key` is the Ed25519 private key (PEM) that
    the bundle is signed with. It is opened in this process, unless `on` names a host. Raises ChecksFailed, with `.report`, if a check of
    the recipe does not pass there; the evidence is kept all the same.
    """
    from yolodeploy.backend import MANIFEST
    from yolodeploy.bundle.attest import read_private
    from yolodeploy.deployment import Request
    from yolodeploy.prove import prove_bundle, prove_recipe

    path, session = Path(what), session or Session()
    console = session.console
    _require_either(path)
    signer = read_private(Path(key), console.warn) if key else None
    store, alone = session.open_store(), is_file(path / MANIFEST)
    with chosen_host(on, [Path() if alone else path.parent]) as host:
        if alone:
            return _proof(prove_bundle(path, host, signer, store, console))
        request = Request(
            path,
            session.allowed,
            session.store,
            dist=Path(dist),
            signer=signer,
            trusted=session.trusted,
            host=host,
        )
        return _proof(prove_recipe(request, store, console))


def _require_either(path: Path) -> None:
    """Refuse a folder that is not a bundle, and a path that does not exist and could only be one; recipes are refused when they are read."""
    from yolodeploy.bundle import why_no_bundle

    recipe = path.suffix in _RECIPES or is_file(path) or is_file(Path(f"{path}.yaml"))
    allowed = "a recipe such as recipes/NAME.yaml, or a bundle such as dist/NAME"
    if not recipe and (why := why_no_bundle(path, allowed)):
        raise VerificationFailed(why)


def _proof(proved: Proved) -> Proof:
    return Proof(proved.value, proved.file, proved.report)
