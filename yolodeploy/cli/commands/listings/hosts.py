"""`yolodeploy hosts`: the machines that artifacts can be measured on, and what is installed there."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.cli.common import print_result
from yolodeploy.errors import HostProblem, RecipeError
from yolodeploy.system import WIDTH, Console, shown

if TYPE_CHECKING:
    from yolodeploy.backend import Worker
    from yolodeploy.hosts import Host, NamedHost, Survey

HELP = "list the machines to measure on, and check what is installed there"
_AT_A_TIME = 16
_NO_BREAK = "\u00a0"  # which textwrap takes for a letter


def add_options(command: argparse.ArgumentParser) -> None:
    """What to do, and whose hosts.toml to read."""
    command.add_argument(
        "action",
        nargs="?",
        choices=("list", "check"),
        default="list",
        help="list all hosts, or check one (default: list)",
    )
    command.add_argument("name", nargs="?", metavar="NAME", help="the host to check")
    where = "also read the hosts.toml beside this recipe (default: only your own)"
    command.add_argument("--recipe", type=Path, metavar="RECIPE", help=where)


def run(options: argparse.Namespace, console: Console) -> int:
    """List hosts, or say what one lacks."""
    if (options.action == "check") != (options.name is not None):
        raise RecipeError("name one host: yolodeploy hosts check NAME")
    return _check(options, console) if options.name else _list(options, console)


def _list(options: argparse.Namespace, console: Console) -> int:
    from yolodeploy.hosts import hosts_files, named_hosts

    folder = _folder(options)
    hosts = list(named_hosts(folder).values())
    wanted = sorted({name for worker in _workers().values() for name in worker.requires})
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        rows = list(pool.map(lambda host: _row(host, wanted), hosts))
    files = hosts_files(folder)[: 2 if options.recipe else 1]
    none = f"no hosts. Name them in {' or '.join(map(shown, files))} (docs/devices.md)"
    text = "\n".join(_lines(row) for row in rows)
    print_result(console, options, rows, text or none)
    return 0


def _folder(options: argparse.Namespace) -> Path:
    """Where to look besides the user's own file, which is read whatever it is."""
    from yolodeploy.hosts import own_file

    recipe: Path | None = options.recipe
    return recipe.parent if recipe else own_file().parent


def _workers() -> dict[str, Worker]:
    """What of each plugin runs on hosts."""
    from yolodeploy.backend import Portable, load_registry

    plugins = load_registry().backends
    return {name: each.WORKER for name, each in plugins.items() if isinstance(each, Portable)}


def _row(named: NamedHost, wanted: Sequence[str]) -> dict[str, Any]:
    """A host as plain data; `error` says why it could not be asked."""
    about = {"name": named.name, "kind": named.settings.kind, "device": named.settings.device}
    empty: dict[str, Any] = {
        "machine": None,
        "system": None,
        "arch": None,
        "python": None,
        "distributions": {},
        "not_device": None,
    }
    try:
        survey = _survey(named, wanted)
    except HostProblem as problem:
        return {**about, **empty, "error": str(problem)}
    return {**about, **_plain(named, survey), "error": None}


def _plain(named: NamedHost, survey: Survey) -> dict[str, Any]:
    """What a host says; `not_device` is why it is not the device that hosts.toml names, None if it is or none is named."""
    from yolodeploy.backend import load_registry, not_device

    about, device = survey.hardware, named.settings.device
    return {
        "machine": about.called,
        "system": f"{about.system} {about.release}",
        "arch": about.arch,
        "python": survey.python,
        "distributions": {name: found for name, found in survey.distributions.items() if found},
        "not_device": not_device(load_registry().devices()[device], about) or None
        if device
        else None,
    }


def _survey(named: NamedHost, wanted: Sequence[str]) -> Survey:
    from yolodeploy.hosts import Surveyable

    host = named.open()
    try:
        if not isinstance(host, Surveyable):
            raise HostProblem(
                f"host `{named.name}`: hosts of the kind {named.settings.kind} are not asked what they have"
            )
        return host.survey(wanted)
    finally:
        host.close()


def _lines(row: Mapping[str, Any]) -> str:
    """A host in lines of 80 columns."""
    head = f"{row['name']:<15} {row['kind']:<8} "
    if row["error"]:
        why = str(row["error"]).removeprefix(f"host `{row['name']}`: ").partition(". ")[0]
        see = _whole(f"See: yolodeploy hosts check {row['name']}")
        return _wrapped(head, f"{why.rstrip('.')}. {see}")
    runtimes = ", ".join(_whole(f"{name} {found}") for name, found in row["distributions"].items())
    lines = [
        _wrapped(head, f"{row['machine']}, {row['system']}, {row['arch']}"),
        _wrapped(" " * len(head), f"{_python(row['python'])}: {runtimes or 'no runtime'}"),
    ]
    if row["device"]:
        but = f", but {row['not_device']}" if row["not_device"] else ""
        lines.append(_wrapped(" " * len(head), f"device: {row['device']}{but}"))
    return "\n".join(lines)


def _whole(text: str) -> str:
    """Text that `_wrapped` keeps in one line."""
    return text.replace(" ", _NO_BREAK)


def _wrapped(head: str, text: str) -> str:
    filled = textwrap.fill(
        text,
        WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return filled.replace(_NO_BREAK, " ")


def _check(options: argparse.Namespace, console: Console) -> int:
    """Exit code 13 unless the host is the device that hosts.toml says, and can run its artifacts: any if no device is named."""
    from yolodeploy.hosts import find_host

    named = find_host(options.name, _folder(options))
    workers, host = _workers(), named.open()
    survey = _survey(named, sorted({name for each in workers.values() for name in each.requires}))
    rows = [_backend(name, each, survey, host) for name, each in workers.items()]
    plain, needed = _plain(named, survey), _needed(named)
    about = f"{named.name}: {plain['machine']}, {plain['system']}, {plain['arch']}, {_python(survey.python)}"
    lines = [
        textwrap.fill(about, WIDTH, subsequent_indent="  "),
        *(_finding(row, needed) for row in rows),
    ]
    fault = _fault(named, survey, rows)
    value = {"name": named.name, **plain, "ok": not fault, "backends": rows}
    print_result(console, options, value, "\n".join(lines))
    if fault:
        console.error(fault)
    return HostProblem.exit_code if fault else 0


def _fault(named: NamedHost, survey: Survey, rows: Sequence[Mapping[str, Any]]) -> str:
    """Why artifacts cannot be measured on a host; "" if they can."""
    from yolodeploy.measure import require_claim

    needed = _needed(named)
    try:
        if named.settings.device:
            require_claim(named.open(), survey.hardware)
    except HostProblem as problem:
        return str(problem)
    if any(row["ok"] for row in rows if needed in ("", row["backend"])):
        return ""
    mends = any(row["command"] for row in rows if needed in ("", row["backend"]))
    whom, what = (needed, "the command") if needed else ("any backend", "one of the commands")
    hint = f" Run {what} above." if mends else ""
    return f"host `{named.name}`: it cannot run artifacts of {whom} yet.{hint}"


def _needed(named: NamedHost) -> str:
    """The backend of the device that a host is; "" if hosts.toml does not say which."""
    from yolodeploy.backend import load_registry

    backend = load_registry().backend_of(named.settings.device or "")
    return backend.NAME if backend else ""


def _backend(name: str, worker: Worker, survey: Survey, host: Host) -> dict[str, Any]:
    """Whether artifacts of a backend can run on a host, as plain data; if not, the command that mends it."""
    from yolodeploy.hosts import Surveyable, requirements, wrong_system, wrong_versions

    if never := wrong_system(worker, survey.hardware.system):
        return {"backend": name, "ok": False, "finding": never, "command": None}
    wrong = wrong_versions(worker, survey.distributions)
    mend = host.install(requirements(worker)) if wrong and isinstance(host, Surveyable) else None
    if wrong and not survey.python:
        wrong = "its program is not built" if mend else "its artifacts need a Python there"
    there = worker.requires if survey.python else worker.pinned
    found = ", ".join(f"{each} {survey.distributions[each]}" for each in there)
    return {"backend": name, "ok": not wrong, "finding": wrong or found, "command": mend}


def _python(version: str) -> str:
    return f"Python {version}" if version else "no Python"


def _finding(row: Mapping[str, Any], needed: str) -> str:
    """What is there of a backend, and how to get the rest if it is `needed`; where none is, of all."""
    line = f"{'ok ' if row['ok'] else 'NO '} {row['backend']:<12} {row['finding']}"
    return (
        f"{line}\n    {row['command']}"
        if row["command"] and needed in ("", row["backend"])
        else line
    )
