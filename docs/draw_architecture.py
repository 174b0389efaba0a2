"""Write docs/architecture.svg and the table in docs/architecture.md from the imports in the code.

    python docs/draw_architecture.py

tests/test_architecture.py fails while they are out of date.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PICTURE, PAGE = ROOT / "docs/architecture.svg", ROOT / "docs/architecture.md"
BEGIN, END = "<!-- table: written by draw_architecture.py -->", "<!-- end of table -->"
CORE = "yolodeploy"
PLUGINS = (
    "yolodeploy_torch",
    "yolodeploy_coreml",
    "yolodeploy_ncnn",
    "yolodeploy_onnxruntime",
    "yolodeploy_openvino",
)
WIDTH, ROW, BOX, LEFT = 960, 62, (172, 34), 20

Imports = Mapping[str, frozenset[str]]  # names of the chapters that a chapter imports


@cache
def imports() -> Imports:
    """Which chapter of the core imports which, and what the plugins import of it."""
    graph = grimp.build_graph(CORE, *PLUGINS, cache_dir=None)
    chapters = {name.rpartition(".")[2] for name in graph.find_children(CORE)} - {"__main__"}
    found: dict[str, set[str]] = {name: set() for name in (*chapters, *PLUGINS)}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            here, there = _chapter(module), _chapter(imported)
            if here != there and here in found and there in found:
                found[here].add(there)
    return {name: frozenset(others) for name, others in found.items()}


def _chapter(module: str) -> str:
    top, _, rest = module.partition(".")
    return rest.partition(".")[0] if top == CORE else top


def levels(graph: Imports) -> dict[str, int]:
    """The level of every chapter: one above the highest that it imports; 0 imports none."""

    @cache
    def level(name: str) -> int:
        return 1 + max((level(other) for other in graph[name]), default=-1)

    return {name: level(name) for name in graph}


def core(graph: Imports) -> Imports:
    """The core alone."""
    return {name: others for name, others in graph.items() if name not in PLUGINS}


def summary(chapter: str) -> str:
    """The first line of a chapter's docstring."""
    base = ROOT / CORE / chapter
    file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.splitlines()[0]


def picture(graph: Imports) -> str:
    """Rows of boxes by level, an arrow for each import that no longer way explains."""
    level = levels(graph)
    top = max(level.values())
    place: dict[str, tuple[float, float]] = {}
    for row in range(top + 1):
        names = sorted(name for name in graph if level[name] == row)
        for number, name in enumerate(names):
            x = LEFT + (WIDTH - 2 * LEFT) * (2 * number + 1) / (2 * len(names)) - BOX[0] / 2
            place[name] = x, 10 + ROW * (top - row)
    arrows = "".join(
        _arrow(place[name], place[other])
        for name in sorted(graph)
        for other in sorted(_direct(graph, name))
    )
    boxes = "".join(_box(name, *place[name]) for name in sorted(graph))
    height = 10 + ROW * (top + 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-size="14" '
        'font-family="system-ui, sans-serif" text-anchor="middle">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n{arrows}{boxes}</svg>\n'
    )


def _direct(graph: Imports, name: str) -> frozenset[str]:
    """What a chapter imports that none of its other imports imports already."""
    return graph[name] - {other for via in graph[name] for other in _below(graph, via)}


def _below(graph: Imports, name: str) -> frozenset[str]:
    return graph[name].union(*(_below(graph, other) for other in graph[name]))


def _arrow(upper: tuple[float, float], lower: tuple[float, float]) -> str:
    x1, y1 = upper[0] + BOX[0] / 2, upper[1] + BOX[1]
    x2, y2 = lower[0] + BOX[0] / 2, lower[1]
    middle = (y1 + y2) / 2
    path = f"M{x1:.0f} {y1:.0f}C{x1:.0f} {middle:.0f} {x2:.0f} {middle:.0f} {x2:.0f} {y2:.0f}"
    return f'<path d="{path}" fill="none" stroke="#8a94a6"/>\n'


def _box(name: str, x: float, y: float) -> str:
    fill = "#eef3ea" if name in PLUGINS else "#eaf1fb"
    return (
        f'<rect x="{x:.0f}" y="{y}" width="{BOX[0]}" height="{BOX[1]}" rx="6" fill="{fill}" '
        f'stroke="#5b6b85"/><text x="{x + BOX[0] / 2:.0f}" y="{y + 22}">{escape(name)}</text>\n'
    )


def table(graph: Imports) -> str:
    """The chapters from top to bottom, and what each imports."""
    level = levels(graph)
    rows = [
        f"| {level[name]} | `{name}` | {summary(name)} | {', '.join(sorted(graph[name])) or '-'} |"
        for name in sorted(core(graph), key=lambda name: (-level[name], name))
    ]
    return "\n".join(["| level | chapter | what it is | imports |", "|---|---|---|---|", *rows])


def page(text: str, graph: Imports) -> str:
    """The page with its table written anew."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{table(graph)}\n{END}{after}"


if __name__ == "__main__":
    found = imports()
    PICTURE.write_text(picture(found), encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
