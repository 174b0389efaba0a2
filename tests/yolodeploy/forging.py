"""What a forger who knows how bundles are made can do to one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yolodeploy.system.json_files import write_json


def edit(bundle: Path, name: str, change: Callable[[Any], None]) -> None:
    """Change a document of a bundle."""
    raw = json.loads((bundle / name).read_text())
    change(raw)
    write_json(bundle / name, raw)


def mend(bundle: Path, *, statement: bool) -> None:
    """Make the manifest, and with `statement` the statement, match the files: that needs no key."""
    from yolodeploy.bundle.attest.provenance import subjects
    from yolodeploy.bundle.bundle import digests
    from yolodeploy.bundle.manifest import identify

    plan, report = (json.loads((bundle / n).read_text()) for n in ("plan.json", "report.json"))
    id_ = identify(plan, report)
    if statement:
        edit(bundle, "provenance.json", lambda raw: raw.update(subject=subjects(digests(bundle))))
        edit(
            bundle,
            "provenance.json",
            lambda raw: raw["predicate"]["runDetails"]["metadata"].update(invocationId=id_),
        )
    edit(bundle, "manifest.json", lambda raw: raw.update(id=id_, files=digests(bundle)))
