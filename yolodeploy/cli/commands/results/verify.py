"""`yolodeploy verify`: whether bundles are, byte for byte, what `deploy` wrote and a lock names.

It reads the bundle alone: no toolchain, no store, no network.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from yolodeploy.cli.common import print_result
from yolodeploy.cli.several import exit_code
from yolodeploy.system import Console

HELP = "check whether bundles are, byte for byte, what was deployed"


def add_options(command: argparse.ArgumentParser) -> None:
    """The bundles, and what to compare them with."""
    what = "bundles (dist/NAME), or folders of bundles (dist), of which every entry is checked"
    command.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE", help=what)
    command.add_argument(
        "--lock", type=Path, metavar="FILE", help="the recipe's lock file to compare with"
    )
    command.add_argument(
        "--key", type=Path, metavar="FILE", help="the signer's Ed25519 public key (PEM)"
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Check every bundle; return the exit code of the first error."""
    from yolodeploy.api import verify
    from yolodeploy.report import verified_table

    found = verify(options.bundles, lock=options.lock, key=options.key, raises=False)
    for each in found:
        if each.error:
            console.error(str(each.error))
    if len(found) > 1:
        text = verified_table([each.plain() for each in found])
    else:
        text = "\n".join(str(each) for each in found if each.passed)
    if text or options.json:
        print_result(console, options, [each.plain() for each in found], text)
    return exit_code(found)
