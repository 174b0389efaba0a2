"""`yolodeploy inspect`: what a weights file, an artifact or a bundle is, and what can be done with it.

It reads, and runs nothing of the file.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.cli.common import print_result
from yolodeploy.errors import YolodeployError
from yolodeploy.system import Console, is_file, shown, tree_bytes

if TYPE_CHECKING:
    from yolodeploy.backend import Registry

HELP = "say what a weights file, an artifact or a bundle is, and what can be done with it"


def add_options(command: argparse.ArgumentParser) -> None:
    """The file or folder."""
    command.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="a weights file, an artifact or a bundle (dist/NAME)",
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Print what the file says of its model."""
    from yolodeploy.backend import MANIFEST, load_registry

    path: Path = options.file
    registry = load_registry()
    look = _bundle if is_file(path / MANIFEST) else _model
    value, text = look(path, registry)
    print_result(console, options, value, text)
    return 0


def _model(path: Path, registry: Registry) -> tuple[dict[str, Any], str]:
    """A weights file or an artifact, and what recipes can do with it."""
    from yolodeploy.backend import inspect_file
    from yolodeploy.planning import possibilities
    from yolodeploy.report import described, inspection_table, possible

    found = inspect_file(path, registry)
    targets = possibilities(registry, found.format, found.info)
    value = {"path": shown(path), "bytes": _size(path), **described(found)}
    return {**value, "targets": possible(targets)}, inspection_table(value, targets)


def _bundle(folder: Path, registry: Registry) -> tuple[dict[str, Any], str]:
    """A bundle: what its report claims, whether it is intact, and what its artifact is."""
    from yolodeploy.backend import Inspected, inspect_file
    from yolodeploy.bundle import bundle_claims
    from yolodeploy.report import bundle_rows, described, inspection_table

    claims = bundle_claims(folder)
    try:
        found = inspect_file(folder, registry)
    except YolodeployError as error:
        found = Inspected("", claims["format"], notes=(f"The artifact was not read: {error}",))
    value = {"path": shown(folder), "bytes": tree_bytes(folder), **described(found)}
    value |= {"kind": f"bundle with {found.kind or found.format}", "bundle": claims}
    return value, inspection_table(value, (), bundle_rows(claims))


def _size(path: Path) -> int:
    return tree_bytes(path) if path.is_dir() else path.stat().st_size
