"""The page of all commands, from the parser that runs them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from reference.text import code, sentence, table
from yolodeploy.cli.common import common_options
from yolodeploy.cli.main import parser

INTRODUCTION = """\
# Commands

Generated from the parser: what `yolodeploy COMMAND --help` prints. Exit codes are on a page of [their own](../errors.md).
"""


def commands_page() -> str:
    """Every command with every option."""
    top = parser()
    action = next(each for each in top._actions if isinstance(each, argparse._SubParsersAction))
    helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
    rows = [(f"[`{name}`](#{name})", sentence(helps[name])) for name in action.choices]
    parts = [INTRODUCTION, table(("command", "what it does"), rows)]
    shared = common_options()
    parts += ["## Options of every command", _options(shared)]
    hidden = {each.dest for each in shared._actions} | {"help"}
    for name, command in action.choices.items():
        parts += [f"## `{name}` {{#{name}}}", sentence(helps[name]), *_command(command, hidden)]
    return "\n\n".join(parts) + "\n"


def _command(command: argparse.ArgumentParser, hidden: set[str]) -> Iterator[str]:
    """Usage and options of a command, then those of its own commands if it has some."""
    own = [each for each in command._actions if each.dest not in hidden]
    nested = [each for each in own if isinstance(each, argparse._SubParsersAction)]
    yield f"```text\n{_usage(command.prog, own)}\n```"
    plain = [each for each in own if each not in nested]
    if plain:
        yield table(("option", "meaning"), map(_option, plain))
    for group in nested:
        for name, inner in group.choices.items():
            yield f"### `{command.prog.split()[-1]} {name}`"
            yield from _command(inner, hidden)


def _usage(prog: str, actions: list[argparse.Action]) -> str:
    """The usage without what every command takes, one line where it fits 90 columns."""
    bare = argparse.ArgumentParser(prog, add_help=False)
    for action in actions:
        bare._add_action(action)
    formatter = argparse.HelpFormatter(prog, width=90)
    formatter.add_usage(None, bare._actions, bare._mutually_exclusive_groups)
    return re.sub(r"(?m)^( {7}|usage: )", "", formatter.format_help().strip())


def _options(command: argparse.ArgumentParser) -> str:
    return table(("option", "meaning"), map(_option, command._actions))


def _option(action: argparse.Action) -> tuple[str, str]:
    value = _value(action)
    names = action.option_strings or [""]
    shown = ", ".join(code(f"{name} {value}".strip()) for name in names)
    text = sentence(action.help or "")
    if action.choices:
        text = f"{text} One of {', '.join(map(code, action.choices))}."
    if not action.option_strings and action.default is not None:
        text = f"{text} Default: {code(action.default)}."
    return shown, text.strip()


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    name = action.metavar or "|".join(action.choices or ()) or action.dest.upper()
    return name if isinstance(name, str) else " ".join(name)
