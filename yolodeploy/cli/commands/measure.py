"""`yolodeploy measure`: evidence for an artifact that was built, from this machine or another; nothing is built."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.cli.commands.deploy import DIST
from yolodeploy.cli.common import (
    add_host,
    add_recipe,
    chosen_host,
    open_store,
    print_result,
    require_own,
)
from yolodeploy.errors import ChecksFailed
from yolodeploy.system import Console, shown

if TYPE_CHECKING:
    from yolodeploy.prove import Proved

HELP = "measure an artifact that was built, here or on another machine, and add that to its bundle"


def add_options(command: argparse.ArgumentParser) -> None:
    """A recipe or a bundle, where it is measured, and who signs the bundle."""
    add_recipe(command)
    add_host(command)
    command.add_argument(
        "--dist", type=Path, default=DIST, metavar="DIR", help="where bundles are (default: dist)"
    )
    command.add_argument(
        "--key", type=Path, metavar="FILE", help="the Ed25519 private key (PEM) to sign with"
    )
    shared = "a team's store that may have the artifact (default: YOLODEPLOY_STORE)"
    command.add_argument("--store", metavar="URL", help=shared)


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure; a failed check still shows the table."""
    from yolodeploy.backend import MANIFEST
    from yolodeploy.bundle.attest import read_private
    from yolodeploy.deployment import Request
    from yolodeploy.prove import prove_bundle, prove_recipe
    from yolodeploy.report import report_table, set_table

    require_own(options.dist, DIST, "--dist")
    signer = read_private(options.key, console.warn) if options.key else None
    store, path = open_store(options, console), options.recipe
    alone = (path / MANIFEST).is_file()
    with chosen_host(options, [Path() if alone else path.parent]) as host:
        if alone:
            proved = prove_bundle(path, host, signer, store, console)
            print_result(console, options, _value(proved), _text(set_table(proved.value), proved))
            return 0
        request = Request(
            path,
            options.allow,
            options.store,
            dist=options.dist,
            signer=signer,
            trusted=options.trusted,
            host=host,
        )
        try:
            proved = prove_recipe(request, store, console)
        except ChecksFailed as failed:
            if not options.json:
                console.result(report_table(failed.report))
            raise
    assert proved.report is not None  # noqa: S101 - a recipe has one
    print_result(console, options, _value(proved), _text(report_table(proved.report), proved))
    return 0


def _value(proved: Proved) -> dict[str, Any]:
    return {**proved.value, "file": str(proved.file) if proved.file else None}


def _text(table: str, proved: Proved) -> str:
    if proved.file is None:
        return f"{table}\n\nno bundle, so the evidence is only in the store"
    return f"{table}\n\nevidence: {shown(proved.file)}"
