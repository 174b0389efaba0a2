"""The shape of the house: faces, sizes, levels, and that its picture is current."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = (ROOT / "yolodeploy", *sorted((ROOT / "plugins").glob("yolodeploy_*")))
MOST_FILES, MOST_LEVELS = 15, 14


def _drawing() -> ModuleType:
    pytest.importorskip("grimp", reason="not installed. Run: pip install -e '.[dev]'")
    spec = importlib.util.spec_from_file_location("drawing", ROOT / "docs/draw_architecture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["drawing"] = module
    spec.loader.exec_module(module)
    return module


def test_the_picture_and_the_table_are_those_of_the_code() -> None:
    drawing = _drawing()
    graph = drawing.imports()
    again = "Run: python docs/draw_architecture.py"
    assert drawing.PICTURE.read_text(encoding="utf-8") == drawing.picture(graph), again
    text = drawing.PAGE.read_text(encoding="utf-8")
    assert text == drawing.page(text, graph), again
    assert max(drawing.levels(drawing.core(graph)).values()) + 1 <= MOST_LEVELS


@pytest.mark.parametrize("root", CODE, ids=lambda root: root.name)
def test_no_package_has_more_files_than_one_can_survey(root: Path) -> None:
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        files = list(folder.glob("*.py"))
        assert len(files) <= MOST_FILES, f"{folder} holds two chapters: {len(files)} files"


def _imports(file: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)


@cache
def _faces() -> list[str]:
    """Packages with a face, the innermost first; that of `yolodeploy`, the Python API, is for users."""
    found = [
        ".".join(file.parent.relative_to(root.parent).parts)
        for root in CODE
        for file in root.rglob("__init__.pyi")
    ]
    return sorted(found, key=lambda name: -name.count("."))


@pytest.mark.parametrize("root", CODE, ids=lambda root: root.name)
def test_chapters_are_entered_through_their_faces(root: Path) -> None:
    inner = [face for face in _faces() if face != "yolodeploy"]
    for file in root.rglob("*.py"):
        here = ".".join(file.relative_to(root.parent).with_suffix("").parts)
        for name, line in _imports(file):
            face = next((face for face in inner if name.startswith(f"{face}.")), None)
            inside = face is None or name in _faces() or here.startswith(f"{face}.")
            assert inside, f"{file}:{line}: import from the face {face}, not from {name}"


@pytest.mark.parametrize("face", _faces())
def test_every_name_of_a_face_is_listed_and_there(face: str) -> None:
    root = next(root for root in CODE if root.name == face.partition(".")[0])
    file = root.parent.joinpath(*face.split("."), "__init__.pyi")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    named = [alias.name for node in imports for alias in node.names]
    (listed,) = (ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign))
    assert sorted(named) == sorted(listed)
    for node in imports:
        module = file.parent.joinpath(*str(node.module).split(".")).with_suffix(".py")
        assert {alias.name for alias in node.names} <= _defined(module), module


def _defined(file: Path) -> set[str]:
    """Names that a module gives to something at its top level."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    named = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = (name for target in targets for name in ast.walk(target))
            named |= {name.id for name in found if isinstance(name, ast.Name)}
    return named


@pytest.mark.parametrize("root", CODE[1:], ids=lambda root: root.name)
def test_no_module_hides_a_member_of_the_plugin(root: Path) -> None:
    """Importing `plugin.parts` would put the module in the place of the function `parts`."""
    files = {path.stem for path in root.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not files & (_defined(root / "__init__.py") | {"open", "describe", "parts", "count"})
