"""Read hosts.toml: which machines a command may measure on, by name.

There are two files. The user's own is in the folder of their configuration; another may lie beside a recipe, for a
team. That one may come from a stranger, so it says which machine is meant, never what runs on it (`PERSONAL` of a
kind's settings), and a host of the user's own file goes before one of the same name. Only a command line names
hosts, a recipe never does.
"""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import platformdirs
from pydantic import ValidationError

from yolodeploy.errors import RecipeError
from yolodeploy.hosts.settings import KINDS, HostSettings, KindModule
from yolodeploy.recipe import Document, Position, describe_errors, suggestion
from yolodeploy.system import quotable, read_plain, shown

if TYPE_CHECKING:
    from yolodeploy.hosts.host import Host

FILE = "hosts.toml"
_CLUSTERS = ("auto", "ray")  # what else `--on` names
_MAX_BYTES, _MOST = 1 << 16, 100
_NAME = re.compile("[a-z0-9][a-z0-9._-]{0,62}")
_KEY = re.compile(r"""\s*["']?([A-Za-z0-9._-]+)["']?\s*=""")
_HEADER = re.compile(r"""\s*\[\s*["']?([^"'\]]+?)["']?\s*\]""")


@dataclass(frozen=True)
class NamedHost:
    """A table of a hosts.toml: `own` says that it is in the user's own file."""

    name: str
    settings: HostSettings
    file: Path
    own: bool

    def open(self) -> Host:
        """The host; nothing is connected yet."""
        return _module(self.settings.kind).make(self.name, self.settings)


def own_file() -> Path:
    """The user's own hosts.toml, whether it exists or not."""
    return Path(platformdirs.user_config_dir("yolodeploy")) / FILE


def hosts_files(folder: Path) -> tuple[Path, Path]:
    """The user's own file, then the one in the folder of a recipe."""
    return own_file(), folder / FILE


def named_hosts(folder: Path) -> dict[str, NamedHost]:
    """All hosts that a recipe in this folder can be measured on, by name; RecipeError if a file is wrong."""
    own, beside = hosts_files(folder)
    mine = _read(own, own=True)
    return mine if _same(own, beside) else {**_read(beside, own=False), **mine}


def find_host(name: str, folder: Path) -> NamedHost:
    """The host of that name; RecipeError names those that there are, and the files that were read."""
    hosts = named_hosts(folder)
    if name in hosts:
        return hosts[name]
    files = dict.fromkeys(hosts_files(folder))
    there = [shown(file) for file in files if file.is_file()]
    if there:
        said = suggestion(name, sorted(hosts)) or " No host is named there."
        looked = f"in {' or '.join(there)}.{said}"
    else:
        looked = f"because there is no {' and no '.join(map(shown, files))}. Write one, see docs/devices.md."
    raise RecipeError(f"there is no host `{quotable(name)}` {looked}")


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _read(file: Path, *, own: bool) -> dict[str, NamedHost]:
    """The hosts of one file, none if it does not exist."""
    text = _text(file)
    if text is None:
        return {}
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RecipeError(f"{shown(file)}: is not valid TOML: {error}.") from None
    if len(tables) > _MOST:
        raise RecipeError(f"{shown(file)}: names {len(tables)} hosts; at most {_MOST} are allowed.")
    document = Document(file, tables, dict(_positions(file, text)))
    return {name: _host(document, name, table, own=own) for name, table in tables.items()}


def _text(file: Path) -> str | None:
    try:
        return read_plain(file, _MAX_BYTES).decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RecipeError(f"{shown(file)}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{shown(file)}: is not a text file; it must be in UTF-8.") from None


def _host(document: Document, name: str, table: object, *, own: bool) -> NamedHost:
    at = document.where((name,))
    if not _NAME.fullmatch(name):
        raise RecipeError(
            f"{at}: `{quotable(name)}` is not a name of a host: it must have at most 63 lower-case letters, digits, "
            "`.`, `_` or `-`, and begin with a letter or digit."
        )
    if name in _CLUSTERS:
        raise RecipeError(
            f"{at}: `{name}` means a cluster, see `--on`. Give the host another name."
        )
    if not isinstance(table, dict):
        raise RecipeError(f"{at}: `{name}` must be a table: [{name}], and its keys below.")
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        found = f"`kind: {quotable(kind)}` is unknown" if "kind" in table else "`kind` is missing"
        raise RecipeError(
            f"{document.where((name, 'kind'))}: host `{name}`: {found}.{suggestion(str(kind), KINDS)}"
        )
    model = _module(kind).Settings
    for key, value in table.items():
        if not all(map(str.isprintable, _texts(value))):
            raise RecipeError(
                f"{document.where((name, key))}: host `{name}`: `{quotable(key)}` has a character that cannot be printed. Remove it."
            )
    if not own:
        _refuse_personal(document, name, table, model)
    try:
        settings = model.model_validate(table)
    except ValidationError as error:
        raise RecipeError(describe_errors(error, document, model, (name,))) from None
    _refuse_unknown_device(document, name, settings)
    return NamedHost(name, settings, document.file, own)


def _texts(value: object) -> Iterator[str]:
    """All texts in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _refuse_personal(
    document: Document, name: str, table: Mapping[str, Any], model: type[HostSettings]
) -> None:
    """Refuse what a file that comes with a project must not decide."""
    if found := sorted(model.PERSONAL & set(table)):
        raise RecipeError(
            f"{document.where((name, found[0]))}: host `{name}`: `{found[0]}` decides what runs or where it writes, so only "
            f"your own file may say it, not one that comes with a project. Write the host to {own_file()}."
        )


def _refuse_unknown_device(document: Document, name: str, settings: HostSettings) -> None:
    from yolodeploy.backend import load_registry

    if settings.device is not None and settings.device not in (known := load_registry().devices()):
        raise RecipeError(
            f"{document.where((name, 'device'))}: host `{name}`: `device: {quotable(settings.device)}` is unknown."
            f"{suggestion(settings.device, known)}"
        )


def _module(kind: str) -> KindModule[Any]:
    return cast("KindModule[Any]", importlib.import_module(KINDS[kind]))


def _positions(file: Path, text: str) -> Iterator[tuple[tuple[str, ...], Position]]:
    """Where tables and their keys are written, as far as that can be told from single lines."""
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = (header[1],)
            yield table, Position(file, number, header.start(1) + 1)
        elif key := _KEY.match(line):
            yield (*table, key[1]), Position(file, number, key.start(1) + 1)
