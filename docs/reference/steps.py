"""The page of all steps and their parameters, from the tables of the installed plugins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import cast

from reference.text import Schema, allowed, default, sentence, table
from yolodeploy.backend import Backend, Registry, Step

INTRODUCTION = """\
# Steps and their parameters

Generated from the tables of the plugins. A step of `torch` changes the model before `export`, and every recipe may use it; the
other steps belong to one backend, which the [device](devices.md) chooses. [Recipes](../recipes.md#steps) explains each step,
with figures.
"""
_HEADER = ("parameter", "takes", "default", "meaning")


def steps_page(registry: Registry) -> str:
    """Every step of every plugin, sources first."""
    plugins = sorted(registry.backends.values(), key=lambda each: (bool(each.DEVICES), each.NAME))
    named = [plugin for plugin in plugins if any(_named(plugin))]
    rows = [
        (f"`{step.name}`", f"[{plugin.NAME}](#{_anchor(plugin, step)})", _summary(step))
        for plugin in named
        for step in _named(plugin)
    ]
    parts = [INTRODUCTION, table(("step", "plugin", "what it does"), rows)]
    for plugin in named:
        parts += [f"## {plugin.NAME}", _about(plugin), *_sections(plugin), *_refused(plugin)]
    return "\n\n".join(parts) + "\n"


def _named(plugin: Backend) -> Iterator[Step]:
    """The steps that a recipe can name; those that load weights have no name there."""
    return (step for step in plugin.STEPS if not step.accepts.startswith("."))


def _about(plugin: Backend) -> str:
    return (cast("ModuleType", plugin).__doc__ or "").split("\n\n")[0]


def _sections(plugin: Backend) -> Iterator[str]:
    for step in _named(plugin):
        yield f"### `{step.name}` on {plugin.NAME} {{#{_anchor(plugin, step)}}}"
        yield f"{_summary(step)} {_formats(step)}"
        schema = step.params.model_json_schema()
        if schema.get("properties"):
            yield parameters(schema)
            yield from _nested(schema)
        else:
            yield "It has no parameters."


def _anchor(plugin: Backend, step: Step) -> str:
    return f"{plugin.NAME}-{step.name}".replace("_", "-")


def _summary(step: Step) -> str:
    """The first paragraph of what the parameters' class says of itself."""
    return sentence((step.params.__doc__ or "").split("\n\n")[0])


def _formats(step: Step) -> str:
    what = f"Takes `{step.accepts}`, gives `{step.produces}`."
    if isinstance(step.reads, tuple) and step.reads:
        what += f" Reads `data.{'` and `data.'.join(step.reads)}`."
    return what


def parameters(schema: Schema) -> str:
    """The table of one block of parameters."""
    required = schema.get("required", [])
    return table(
        _HEADER,
        (
            (
                f"`{name}`",
                allowed(field),
                default(field, required=name in required),
                sentence(field.get("description", "")),
            )
            for name, field in schema["properties"].items()
        ),
    )


def _nested(schema: Schema) -> Iterator[str]:
    """The blocks that parameters hold."""
    for name, block in schema.get("$defs", {}).items():
        if block.get("properties"):
            yield f"`{name}`: {sentence(block.get('description', ''))}"
            yield parameters(block)


def _refused(plugin: Backend) -> Iterator[str]:
    """What other backends have and this one refuses, with the reason."""
    steps: Mapping[str, str] = getattr(plugin, "REFUSED_STEPS", {})
    inner: Mapping[str, Mapping[str, str]] = getattr(plugin, "REFUSED_PARAMETERS", {})
    rows = [(f"`{name}`", sentence(why)) for name, why in steps.items()]
    rows += [
        (f"`{step}: {{{name}: ...}}`", sentence(why))
        for step, reasons in inner.items()
        for name, why in reasons.items()
    ]
    if rows:
        yield f"### Refused on {plugin.NAME}"
        yield table(("recipe", "reason"), rows)
