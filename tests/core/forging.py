"""What someone can do to a bundle who knows how it is made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yolodeploy.papers import write_json


def edit(bundle: Path, name: str, change: Callable[[Any], None]) -> None:
    """Change a document of a bundle."""
    raw = json.loads((bundle / name).read_text())
    change(raw)
    write_json(bundle / name, raw)


def mend(bundle: Path, *, papers: bool) -> None:
    """Make the manifest, and with `papers` the statement, fit the files: a forger without the key can."""
    from yolodeploy.manifest import identify
    from yolodeploy.papers import digests
    from yolodeploy.provenance import subjects

    plan, report = (json.loads((bundle / n).read_text()) for n in ("plan.json", "report.json"))
    id_ = identify(plan, report)
    if papers:
        edit(bundle, "provenance.json", lambda raw: raw.update(subject=subjects(digests(bundle))))
        edit(
            bundle,
            "provenance.json",
            lambda raw: raw["predicate"]["runDetails"]["metadata"].update(invocationId=id_),
        )
    edit(bundle, "manifest.json", lambda raw: raw.update(id=id_, files=digests(bundle)))
