"""`yolodeploy init`: from a checkpoint to recipes that can be deployed as they are."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.cli.common import open_store, print_result
from yolodeploy.system import WIDTH, Console, shown

if TYPE_CHECKING:
    from yolodeploy.proposal import Proposal, Written
    from yolodeploy.store import Store

HELP = "write recipes for a checkpoint, one for each device, which can be deployed as they are"


def add_options(command: argparse.ArgumentParser) -> None:
    """The weights, the data set, the devices, and where the recipes go."""
    command.add_argument(
        "weights", type=Path, metavar="WEIGHTS", help="a checkpoint (best.pt) or an ONNX file"
    )
    command.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="the data.yaml, or for classification the folder (default: the one that the weights name, or one beside them)",
    )
    command.add_argument(
        "--device",
        action="extend",
        nargs="+",
        default=[],
        metavar="DEVICE",
        help="the devices to ship to, see `yolodeploy devices` (default: one of every installed backend)",
    )
    command.add_argument(
        "--measure",
        action="store_true",
        help="build and measure every recipe, and set its checks by what was measured; takes minutes",
    )
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("recipes"),
        metavar="DIR",
        help="where the recipes go (default: recipes)",
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Write the recipes, and print the command that deploys them."""
    from yolodeploy.proposal import Wish, propose

    there = sys.stdin.isatty() and sys.stderr.isatty() and not options.json
    wish = Wish(
        options.weights,
        options.data,
        options.device,
        options.output,
        ask=_ask if there else None,
        choose=_choose if there else None,
    )
    store = open_store(options, console)
    proposal = propose(wish, store.root)
    for warning in (text for written in proposal.recipes for text in written.warnings):
        console.warn(warning)
    if options.measure:
        proposal = _measured(proposal, options, store, console)
    print_result(console, options, _value(proposal), _text(proposal))
    return 0


def _measured(
    proposal: Proposal, options: argparse.Namespace, store: Store, console: Console
) -> Proposal:
    """The recipes with checks around what is measured of each; one that cannot be measured keeps those it has."""
    from yolodeploy.api import Session
    from yolodeploy.deployment import Request
    from yolodeploy.jobs import Goal, make_recipes
    from yolodeploy.measure import Evidence
    from yolodeploy.proposal import with_limits

    apart = Session(in_process=not options.apart, printer=console, command=options.described)
    requests = [Request(written.path, proposal.allow) for written in proposal.recipes]
    executor = apart.executor(None, options.described, store)
    results = make_recipes(requests, store, console, executor, options.described, goal=Goal.TIME)
    if len(results) == 1 and results[0].error:
        raise results[0].error
    made = {result.recipe: result.made for result in results}
    found = {path: each for path, each in made.items() if isinstance(each, Evidence)}
    return with_limits(proposal, found, console.warn)


def _ask(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()


def _choose(suggested: Sequence[str]) -> Sequence[str]:
    """The devices that are wanted: the suggested ones if nothing is answered."""
    names = " ".join(suggested)
    return (
        _ask(f"Devices, see `yolodeploy devices` [{names}]: ").replace(",", " ").split()
        or suggested
    )


def _value(proposal: Proposal) -> dict[str, Any]:
    images = proposal.images
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
        why = f"Weights or data lie outside of the recipes' project, {shown(proposal.project)}, so --allow names where."
        lines.append(_wrapped(why))
    return "\n".join([*lines, f"Next: {proposal.command}"])


def _row_of(label: str, text: str) -> str:
    return _wrapped(f"{label:<7}{text}", " " * 7)


def _wrapped(text: str, indent: str = "  ") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
