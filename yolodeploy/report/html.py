"""Pages from Jinja2 templates: one self-contained file each, without scripts and requests."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2


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
    )
    environment.filters["four"] = _four
    return environment


def _four(value: float | None) -> str:
    """Four digits; adding 0.0 turns a rounded -0.0 into 0.0."""
    return "not measured" if value is None else f"{round(value, 4) + 0.0:.4f}"
