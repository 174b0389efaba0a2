"""Pages from Jinja2 templates: one self-contained file each, without scripts and requests."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from yolodeploy.system import straight


def render(template: str, **values: Any) -> str:
    """Render a page; every value is escaped."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("yolodeploy.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_straight,
    )
    environment.filters["four"] = _four
    return environment


def _straight(value: object) -> object:
    """Text or markup without marks that turn its direction; anything else as it is."""
    if not isinstance(value, str):
        return value
    text = straight(value)
    return Markup(text) if isinstance(value, Markup) else text  # noqa: S704 - it was markup before


def _four(value: float | None) -> str:
    """Four digits; adding 0.0 turns a rounded -0.0 into 0.0."""
    return "not measured" if value is None else f"{round(value, 4) + 0.0:.4f}"
