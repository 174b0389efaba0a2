"""What each command does: call the core, print the answer as text or JSON."""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.backend import Backend
from yolodeploy.console import WIDTH, Console, answer
from yolodeploy.errors import EnvironmentProblem, YolodeployError
from yolodeploy.plan import Plan
from yolodeploy.registry import load_registry, problem_of
from yolodeploy.store import Store, default_root
from yolodeploy.trust import DIST, SENSITIVITY, require_own
from yolodeploy.yamlfile import shown

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner


def check(options: argparse.Namespace, console: Console) -> int:
    """Plan every recipe and say of each what is wrong; the exit code is the first fault's."""
    from yolodeploy.deploy import plan_file

    store, code = store_of(options), 0
    rows: list[dict[str, Any]] = []
    for recipe in options.recipes:
        row: dict[str, Any] = {"recipe": str(recipe), "ok": True}
        try:
            plan_ = plan_file(recipe, store, options.allow)
            row.update(name=plan_.file.recipe.name, problem=_problem(plan_))
        except YolodeployError as fault:
            row.update(ok=False, error=str(fault))
            code = code or fault.exit_code
            console.error(str(fault))
        rows.append(row)
    good = "\n".join(_checked(row) for row in rows if row["ok"])
    if good or options.json:
        answer(console, options, rows, good)
    return code


def _checked(row: dict[str, Any]) -> str:
    return f"{row['recipe']}: ok" + (f", but not here: {row['problem']}" if row["problem"] else "")


def plan(options: argparse.Namespace, console: Console) -> int:
    """Show the steps in order."""
    from yolodeploy.deploy import plan_file
    from yolodeploy.evidence import evidence_id

    store = store_of(options)
    plan_ = plan_file(options.recipe, store, options.allow)
    measured = store.peek(evidence_id(plan_))
    steps = [
        {
            "name": planned.step.name,
            "backend": planned.backend.NAME,
            "makes": planned.step.produces,
            "params": planned.params.model_dump(mode="json"),
            "id": planned.id,
            "cached": store.peek(planned.id),
        }
        for planned in plan_.steps
    ]
    value = {
        "name": plan_.file.recipe.name,
        "device": plan_.target.device.name,
        "backend": plan_.backend.NAME,
        "steps": steps,
        "measured": measured,
        "problem": _problem(plan_),
    }
    answer(console, options, value, _plan_text(plan_, value))
    return 0


def _problem(plan_: Plan) -> str | None:
    backends = {planned.backend.NAME: planned.backend for planned in plan_.steps}
    return next((text for text in map(problem_of, backends.values()) if text), None)


def _plan_text(plan_: Plan, value: dict[str, Any]) -> str:
    data = plan_.views["evaluation"]
    lines = [
        f"{value['name']}: {shown(plan_.file.recipe.model.weights)} -> {plan_.target.device.title}"
    ]
    for step in value["steps"]:
        params = " ".join(f"{key}={_plain(item)}" for key, item in step["params"].items())
        state = "cached  " if step["cached"] else "will run"
        line = f"  {state}  {step['id'][:12]}  {step['name']:<10} -> {step['makes']:<10}"
        fits = len(line) + 1 + len(params) <= WIDTH
        lines += [f"{line} {params}".rstrip()] if fits else [line.rstrip(), *_indented(params)]
    state = "cached  " if value["measured"] else "will run"
    lines.append(f"  {state}  {'':<12}  measure    {len(data)} images of {shown(data.file)}")
    if value["problem"]:
        lines.append(f"  cannot run here: {value['problem']}")
    return "\n".join(lines)


def _indented(text: str) -> list[str]:
    indent = " " * 26
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)


def _plain(item: object) -> str:
    return json.dumps(item) if not isinstance(item, str) else item


def build(options: argparse.Namespace, console: Console) -> int:
    """Make the artifact and say where it is."""
    from yolodeploy import deploy as path

    store = store_of(options)
    runner = path.runner(
        path.plan_file(options.recipe, store, options.allow), store, console, options.store
    )
    made = path.build(runner, locked=options.locked)
    value = {
        "format": made.meta.format,
        "path": str(made.path),
        "digest": made.meta.digest,
        "bytes": made.meta.bytes,
        "cached": made.cached,
    }
    answer(
        console,
        options,
        value,
        f"{made.path}\n{made.meta.format}, {made.meta.bytes / 1e6:.2f} MB, sha256 {made.meta.digest}",
    )
    return 0


def deploy(options: argparse.Namespace, console: Console) -> int:
    """Deploy a recipe; a failed check still shows the table."""
    from yolodeploy import deploy as path
    from yolodeploy.errors import ChecksFailed
    from yolodeploy.report import table

    require_own(options.dist, DIST, "--dist")
    store, signer = store_of(options), _signer(options, console)
    runner = path.runner(
        path.plan_file(options.recipe, store, options.allow), store, console, options.store
    )
    try:
        done = path.deploy(runner, path.Options(options.dist, options.locked, signer))
    except ChecksFailed as failed:
        if not options.json:
            console.result(table(failed.report))
        raise
    text = table(done.report) + f"\n\nbundle: {shown(done.bundle)}"
    answer(console, options, {**done.report, "bundle": str(done.bundle)}, text)
    return 0


def _signer(options: argparse.Namespace, console: Console) -> CryptoSigner | None:
    """The key is read before anything is built, so that a wrong one costs nothing."""
    if options.key is None:
        return None
    from yolodeploy.signing import read_private

    return read_private(options.key, console.warn)


def sensitivity(options: argparse.Namespace, console: Console) -> int:
    """Measure single layers, and write the table and the plot."""
    from yolodeploy import layers
    from yolodeploy.deploy import plan_file
    from yolodeploy.run import Runner
    from yolodeploy.survey import survey

    require_own(options.output, SENSITIVITY, "-o")
    store = store_of(options)
    runner = Runner(plan_file(options.recipe, store, options.allow), store, console)
    name = runner.plan.file.recipe.name
    tables = survey(runner, options.images, by_map=options.map)
    page = options.output / f"{name}.html"
    value = {"name": name, "images": tables[0]["images"], "steps": tables, "page": str(page)}
    _make_folder(options.output)
    _write_new(page, layers.page(name, tables))
    _write_new(page.with_suffix(".json"), json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    answer(console, options, value, f"{layers.text(name, tables)}\n\nplot: {shown(page)}")
    return 0


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise EnvironmentProblem(f"{path}: cannot be made: {reason.strerror}") from None


def _write_new(file: Path, text: str) -> None:
    """Write a file that takes the place of a link, rather than following it."""
    if file.is_symlink():
        file.unlink()
    _write(file, text)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as reason:
        raise EnvironmentProblem(f"{file}: cannot be written: {reason.strerror}") from None


def backends(options: argparse.Namespace, console: Console) -> int:
    """List plugins; exit code 0 even where one is broken, for that is the answer."""
    registry = load_registry()
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "problem": problem_of(plugin),
            "steps": [f"{step.name}: {step.accepts} -> {step.produces}" for step in plugin.STEPS],
            "devices": [device.name for device in plugin.DEVICES],
            "versions": _versions(plugin),
        }
        for name, plugin in registry.backends.items()
    ]
    broken = [{"name": name, "problem": reason} for name, reason in registry.broken.items()]
    lines = []
    for row in rows:
        lines.append(f"{row['name']:<12} {row['problem'] or 'ready'}")
        lines += [f"{'':<12} {step}" for step in row["steps"]]
    lines += [f"{row['name']:<12} BROKEN: {row['problem']}" for row in broken]
    answer(console, options, {"backends": rows, "broken": broken}, "\n".join(lines))
    return 0


def _versions(plugin: Backend) -> dict[str, str]:
    try:
        return dict(plugin.versions())
    except Exception:  # noqa: BLE001 - `problem` tells
        return {}


def devices(options: argparse.Namespace, console: Console) -> int:
    """List devices with the OS versions they run."""
    registry = load_registry()
    rows = [
        {
            "name": device.name,
            "title": device.title,
            "backend": name,
            "os": device.os,
            "os_min": device.os_min,
            "os_max": device.os_max,
            "features": sorted(device.features),
        }
        for name, plugin in registry.backends.items()
        for device in plugin.DEVICES
    ]
    answer(console, options, rows, "\n".join(map(_device_text, rows)))
    return 0


def _device_text(row: dict[str, Any]) -> str:
    head = f"{row['name']:<22} {row['backend']:<9} {_os(row):<14} "
    return textwrap.fill(
        row["title"], WIDTH, initial_indent=head, subsequent_indent=" " * len(head)
    )


def _os(row: dict[str, Any]) -> str:
    if not row["os_min"]:
        return str(row["os"])
    return f"{row['os']} {row['os_min']}{'-' + row['os_max'] if row['os_max'] else '+'}"


def schema(options: argparse.Namespace, console: Console) -> int:
    """Write the JSON Schema of recipes, with the installed plugins' steps and devices."""
    from yolodeploy.schema import recipe_schema

    text = json.dumps(recipe_schema(load_registry()), indent=1, ensure_ascii=False) + "\n"
    if options.output is None:
        console.result(text)
        return 0
    _write(options.output, text)
    console.info(f"{options.output} written")
    return 0


def store_of(options: argparse.Namespace) -> Store:
    """The store that the command line or the environment names."""
    return Store(options.cache or default_root())
