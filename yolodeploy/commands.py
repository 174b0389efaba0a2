"""What each command does: call the core, print the answer as text or JSON."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from yolodeploy.console import Console
from yolodeploy.errors import EnvironmentProblem, StoreProblem
from yolodeploy.plan import Plan
from yolodeploy.store import Store, default_root, fault
from yolodeploy.yamlfile import shown

_LEAST_FREE_GB = 2.0


def check(options: argparse.Namespace, console: Console) -> int:
    """Plan every recipe; raises on the first that cannot be built."""
    from yolodeploy.deploy import plan_file

    store = _store(options)
    rows = []
    for recipe in options.recipes:
        plan_ = plan_file(recipe, store)
        rows.append({"recipe": str(recipe), "name": plan_.file.recipe.name, "ok": True})
    _print(console, options, rows, "\n".join(f"{row['recipe']}: ok" for row in rows))
    return 0


def plan(options: argparse.Namespace, console: Console) -> int:
    """Show the steps in order."""
    from yolodeploy.deploy import plan_file
    from yolodeploy.evidence import evidence_id

    store = _store(options)
    plan_ = plan_file(options.recipe, store)
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
        "problem": plan_.backend.problem(),
    }
    _print(console, options, value, _plan_text(plan_, value))
    return 0


def _plan_text(plan_: Plan, value: dict[str, Any]) -> str:
    data = plan_.views["evaluation"]
    lines = [
        f"{value['name']}: {shown(plan_.file.recipe.model.weights)} -> {plan_.target.device.title}"
    ]
    for step in value["steps"]:
        params = " ".join(f"{key}={_plain(item)}" for key, item in step["params"].items())
        state = "cached  " if step["cached"] else "will run"
        lines.append(
            f"  {state}  {step['id'][:12]}  {step['name']:<10} -> {step['makes']:<10} {params}".rstrip()
        )
    state = "cached  " if value["measured"] else "will run"
    lines.append(f"  {state}  {'':<12}  measure    {len(data)} images of {shown(data.file)}")
    if value["problem"]:
        lines.append(f"  cannot run here: {value['problem']}")
    return "\n".join(lines)


def _plain(item: object) -> str:
    return json.dumps(item) if not isinstance(item, str) else item


def build(options: argparse.Namespace, console: Console) -> int:
    """Make the artifact and say where it is."""
    from yolodeploy import deploy as path
    from yolodeploy.run import Runner

    store = _store(options)
    made = path.build(
        Runner(path.plan_file(options.recipe, store), store, console), locked=options.locked
    )
    value = {
        "format": made.meta.format,
        "path": str(made.path),
        "digest": made.meta.digest,
        "bytes": made.meta.bytes,
        "cached": made.cached,
    }
    _print(
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
    from yolodeploy.run import Runner

    store = _store(options)
    runner = Runner(path.plan_file(options.recipe, store), store, console)
    try:
        done = path.deploy(runner, path.Options(options.dist, options.locked))
    except ChecksFailed as failed:
        if not options.json:
            console.result(table(failed.report))
        raise
    text = table(done.report) + f"\n\nbundle: {shown(done.bundle)}"
    _print(console, options, {**done.report, "bundle": str(done.bundle)}, text)
    return 0


def backends(options: argparse.Namespace, console: Console) -> int:
    """List plugins; exit code 0 even where one is broken, for that is the answer."""
    from yolodeploy.registry import load_registry

    registry = load_registry()
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "problem": plugin.problem(),
            "steps": [f"{step.name}: {step.accepts} -> {step.produces}" for step in plugin.STEPS],
            "devices": [device.name for device in plugin.DEVICES],
            "versions": dict(plugin.versions()),
        }
        for name, plugin in registry.backends.items()
    ]
    broken = [{"name": name, "problem": reason} for name, reason in registry.broken.items()]
    lines = []
    for row in rows:
        lines.append(f"{row['name']:<12} {row['problem'] or 'ready'}")
        lines += [f"{'':<12} {step}" for step in row["steps"]]
    lines += [f"{row['name']:<12} BROKEN: {row['problem']}" for row in broken]
    _print(console, options, {"backends": rows, "broken": broken}, "\n".join(lines))
    return 0


def devices(options: argparse.Namespace, console: Console) -> int:
    """List devices with the OS versions they run."""
    from yolodeploy.registry import load_registry

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
    lines = [f"{row['name']:<22} {row['backend']:<9} {_os(row):<14} {row['title']}" for row in rows]
    _print(console, options, rows, "\n".join(lines))
    return 0


def _os(row: dict[str, Any]) -> str:
    if not row["os_min"]:
        return str(row["os"])
    return f"{row['os']} {row['os_min']}-{row['os_max'] or ''}"


def doctor(options: argparse.Namespace, console: Console) -> int:
    """Check the machine; exit code 4 if something that every build needs is missing."""
    from yolodeploy.registry import load_registry

    root = _store(options).root
    findings = [
        ("Python", sys.version.split()[0], True),
        _writable("store", root),
        _free(root),
        _writable("dist", Path("dist")),
    ]
    registry = load_registry()
    plugins = [
        (name, plugin.problem() or "ready", plugin.problem() is None)
        for name, plugin in registry.backends.items()
    ]
    plugins += [(name, f"broken: {reason}", False) for name, reason in registry.broken.items()]
    rows = [{"what": what, "finding": text, "ok": ok} for what, text, ok in findings + plugins]
    _print(
        console,
        options,
        rows,
        "\n".join(f"{'ok ' if r['ok'] else 'NO '} {r['what']:<12} {r['finding']}" for r in rows),
    )
    bad = [text for _, text, ok in findings if not ok]
    if bad:
        raise EnvironmentProblem(bad[0])
    return 0


def _writable(what: str, folder: Path) -> tuple[str, str, bool]:
    nearest = _existing(folder)
    if os.access(nearest, os.W_OK):
        return what, f"{shown(folder)} can be written", True
    return (
        what,
        f"{nearest} cannot be written. Choose another folder with --cache or --dist.",
        False,
    )


def _free(folder: Path) -> tuple[str, str, bool]:
    free = shutil.disk_usage(_existing(folder)).free / 1e9
    if free >= _LEAST_FREE_GB:
        return "disk", f"{free:.0f} GB free", True
    return (
        "disk",
        f"only {free:.1f} GB free. Make room, or choose another folder with --cache.",
        False,
    )


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def schema(options: argparse.Namespace, console: Console) -> int:
    """Write the JSON Schema of recipes, with the installed plugins' steps and devices."""
    from yolodeploy.registry import load_registry
    from yolodeploy.schema import recipe_schema

    text = json.dumps(recipe_schema(load_registry()), indent=1, ensure_ascii=False) + "\n"
    if options.output is None:
        console.result(text)
        return 0
    try:
        options.output.write_text(text, encoding="utf-8")
    except OSError as reason:
        raise EnvironmentProblem(
            f"{options.output}: cannot be written: {reason.strerror}"
        ) from None
    console.info(f"{options.output} written")
    return 0


def cache(options: argparse.Namespace, console: Console) -> int:
    """Show, verify or prune the store."""
    store = _store(options)
    action = {"show": _show, "verify": _verify, "prune": _prune}[options.action]
    return action(store, options, console)


def _show(store: Store, options: argparse.Namespace, console: Console) -> int:
    metas = [meta for _, meta in store.entries() if meta]
    rows = [vars(meta) for meta in sorted(metas, key=lambda meta: meta.created)]
    lines = [
        f"{meta['id'][:12]}  {meta['step']:<10} {meta['format']:<10} {meta['bytes'] / 1e6:9.2f} MB  "
        f"{time.strftime('%Y-%m-%d %H:%M', time.localtime(meta['created']))}"
        for meta in rows
    ]
    total = sum(meta.bytes for meta in metas) / 1e6
    lines.append(f"{len(rows)} results, {total:.2f} MB in {store.root}")
    _print(console, options, {"root": str(store.root), "objects": rows}, "\n".join(lines))
    return 0


def _verify(store: Store, options: argparse.Namespace, console: Console) -> int:
    faults = {}
    for home, meta in store.entries():
        reason = fault(home, meta) if meta else "its description cannot be read"
        if reason:
            faults[home.name] = reason
    count = sum(1 for _ in store.entries())
    lines = [f"{id_[:12]} {reason}" for id_, reason in faults.items()]
    _print(
        console,
        options,
        {"checked": count, "damaged": faults},
        "\n".join([*lines, f"{count} results checked, {len(faults)} damaged"]),
    )
    if faults:
        raise StoreProblem(
            f"{len(faults)} damaged results. They are made again when needed; `yolodeploy cache prune` removes them."
        )
    return 0


def _prune(store: Store, options: argparse.Namespace, console: Console) -> int:
    oldest = time.time() - options.days * 86400
    removed, freed = 0, store.sweep()
    for home, meta in store.entries():
        if options.all or meta is None or meta.created < oldest or fault(home, meta):
            freed += meta.bytes if meta else 0
            store.remove(home)
            removed += 1
    _print(
        console,
        options,
        {"removed": removed, "bytes": freed},
        f"{removed} results removed, {freed / 1e6:.2f} MB freed",
    )
    return 0


def _store(options: argparse.Namespace) -> Store:
    return Store(options.cache or default_root())


def _print(console: Console, options: argparse.Namespace, value: object, text: str) -> None:
    console.result(
        json.dumps(value, indent=1, ensure_ascii=False, default=str) if options.json else text
    )
