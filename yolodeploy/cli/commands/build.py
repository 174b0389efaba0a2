"""`yolodeploy build`: make the artifact, without measuring it."""

from __future__ import annotations

import argparse

from yolodeploy.cli.common import add_building, open_store, print_result
from yolodeploy.system import Console

HELP = "make the artifact, without measuring it"
add_options = add_building


def run(options: argparse.Namespace, console: Console) -> int:
    """Make the artifact and say where it is."""
    from yolodeploy.deploy import Request, build

    store = open_store(options, console)
    request = Request(
        options.recipe,
        options.allow,
        options.store,
        locked=options.locked,
        trusted=options.trusted,
    )
    built = build(request, store, console)
    value = {
        "format": built.meta.format,
        "path": str(built.path),
        "digest": built.meta.digest,
        "bytes": built.meta.bytes,
        "cached": built.cached,
    }
    size = f"{built.meta.bytes / 1e6:.2f} MB"
    text = f"{built.path}\n{built.meta.format}, {size}, sha256 {built.meta.digest}"
    print_result(console, options, value, text)
    return 0
