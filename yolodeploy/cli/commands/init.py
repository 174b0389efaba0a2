"""`yolodeploy init`: from a checkpoint to recipes that can be deployed as they are."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from yolodeploy.cli.common import print_result, session_of
from yolodeploy.errors import RecipeError
from yolodeploy.system import Console

HELP = "write recipes for a checkpoint, one for each device, which can be deployed as they are"


def add_options(command: argparse.ArgumentParser) -> None:
    """The weights, the data set, the devices, and where the recipes go."""
    weights = command.add_argument(
        "weights", type=Path, metavar="WEIGHTS", help="a checkpoint (best.pt) or an ONNX file"
    )
    weights.required = False  # `--device pixel-8 best.pt`: argparse takes all words for devices
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
        help="devices to ship to, as `yolodeploy devices` lists them (default: one of every installed backend)",
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
    from yolodeploy.api import init

    there = sys.stdin.isatty() and sys.stderr.isatty() and not options.json
    weights, words = _told_apart(options.weights, options.device)
    found = init(
        weights,
        data=options.data,
        devices=[name for word in words for name in word.split(",") if name],
        output=options.output,
        measure=options.measure,
        ask=_ask if there else None,
        choose=_choose if there else None,
        session=session_of(options, console),
    )
    print_result(console, options, found.plain(), str(found))
    return 0


def _told_apart(weights: Path | None, words: Sequence[str]) -> tuple[Path, Sequence[str]]:
    """The weights and the devices: weights that follow `--device` are the first word with a suffix or folder, which no device has."""
    if weights is not None:
        return weights, words
    for index, word in enumerate(words):
        path = Path(word)
        if path.suffix or len(path.parts) > 1:
            return path, [*words[:index], *words[index + 1 :]]
    raise RecipeError(
        "the following arguments are required: WEIGHTS. See `yolodeploy init --help`."
    )


def _ask(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()


def _choose(suggested: Sequence[str]) -> Sequence[str]:
    """The devices that are wanted: the suggested ones if nothing is answered."""
    names = " ".join(suggested)
    print(
        f"Devices to ship to, as `yolodeploy devices` lists them, or Enter for\n  {names}",
        file=sys.stderr,
    )
    return _ask("Devices: ").replace(",", " ").split() or suggested
