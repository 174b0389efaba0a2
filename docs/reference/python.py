"""The page of the Python API: its names, which mkdocstrings describes from signatures and docstrings."""

from __future__ import annotations

import yolodeploy

INTRODUCTION = """\
# The Python API

Generated from signatures and docstrings. [From Python](../python.md) shows how they work together; [errors](../errors.md) explains
what calls raise.
"""


def python_page() -> str:
    """Functions first, then the classes that they take and give, then what they raise."""
    functions = [name for name in yolodeploy.__all__ if name[0].islower()]
    classes = [name for name in yolodeploy.__all__ if name[0].isupper()]
    parts = [INTRODUCTION, "## Functions", *map(_entry, functions)]
    parts += ["## Classes", *map(_entry, classes), "## Errors"]
    parts.append("::: yolodeploy.errors\n    options:\n      show_root_heading: false\n")
    return "\n\n".join(parts)


def _entry(name: str) -> str:
    return f"::: yolodeploy.{name}"
