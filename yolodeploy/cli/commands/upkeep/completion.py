"""`yolodeploy completion`: the script with which a shell completes commands, options, recipes, devices and hosts."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from typing import Any

from yolodeploy.system import Console

HELP = "print the script with which bash, zsh or fish completes commands, options and names"
SHELLS = ("bash", "zsh", "fish")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # nothing that a shell would expand


def add_options(command: argparse.ArgumentParser) -> None:
    """The shell."""
    command.add_argument("shell", choices=SHELLS, help="the shell that the script is for")


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the script. Names of devices and hosts are those that are known now, so that completing starts no Python."""
    import shtab

    top: argparse.ArgumentParser = options.top
    kinds = _kinds()
    for action in _actions(top):
        if action.metavar in kinds and not action.choices:
            action.complete = kinds[str(action.metavar)]  # type: ignore[attr-defined]
    console.result(shtab.complete(top, options.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001 - argparse offers no other way, and shtab takes it too
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for command in action.choices.values():
                yield from _actions(command)


def _kinds() -> dict[str, Any]:
    """How the values of options and arguments are completed, by the word that stands for them in the help."""
    import shtab

    hosts, clusters = _hosts(), ("ray", "auto")
    return {
        "RECIPE": shtab.glob("*.yaml", "*.yml"),
        "WEIGHTS": shtab.glob("*.pt", "*.onnx"),
        "BUNDLE": shtab.DIRECTORY,
        "DIR": shtab.DIRECTORY,
        "FILE": shtab.FILE,
        "PATH": shtab.FILE,
        "DEVICE": _words(_devices()),
        "HOST": _words((*hosts, *clusters)),
        "CLUSTER": _words(clusters),
    }


def _words(names: Iterable[str]) -> Any:
    import shtab

    safe = " ".join(sorted({name for name in names if _NAME.fullmatch(name)}))
    return {**shtab.cmd(f"echo {safe}"), "zsh": f"({safe})", "fish": safe}


def _devices() -> list[str]:
    from yolodeploy.backend import load_registry

    plugins = load_registry().backends.values()
    return [device.name for plugin in plugins for device in plugin.DEVICES]


def _hosts() -> list[str]:
    """The hosts of the user's own hosts.toml; a broken file completes nothing."""
    from yolodeploy.errors import RecipeError
    from yolodeploy.hosts import named_hosts, own_file

    try:
        return list(named_hosts(own_file().parent))
    except RecipeError:
        return []
