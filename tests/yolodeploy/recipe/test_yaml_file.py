"""Reading YAML: what is refused, with which message and position."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolodeploy.errors import DataError, RecipeError
from yolodeploy.recipe.yaml_file import load_yaml

BOMB = "a: &a [x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
)

REFUSED = {
    "binary": (
        b"\x89PNG\r\n\x1a\n\xff\xfe\x00",
        "r.yaml: not a text file; it must be encoded as UTF-8",
    ),
    "control": (
        b"name: a\x00b\n",
        "r.yaml:1:8: not valid YAML: control characters are not allowed (#x0000)",
    ),
    "control in line 2": (
        "ä: 1\nü: b\x07\n".encode(),
        "r.yaml:2:5: not valid YAML: control characters are not allowed (#x0007)",
    ),
    "huge": (
        b"a: " + b"x" * (1 << 20),
        "r.yaml: cannot be read: it is larger than 1 MiB, the most that is read",
    ),
    "duplicate": (
        b"a: 1\nb:\n  c: 1\n  c: 2\n",
        "r.yaml:4:3: `c` is given twice (first on line 3); remove one",
    ),
    "anchor": (
        b"a: &x 1\n",
        "r.yaml:1:4: anchors and aliases are not supported; write the value out",
    ),
    "bomb": (
        BOMB.encode(),
        "r.yaml:1:4: anchors and aliases are not supported; write the value out",
    ),
    "anchored key": (
        b"&k a: 1\n",
        "r.yaml:1:1: a key must be a plain word, without an anchor or a tag",
    ),
    "merge key": (
        b"<<: {a: 1}\n<<: {b: 1}\n",
        "r.yaml:2:1: `<<` is given twice (first on line 1); remove one",
    ),
    "deep flow": (b"a: " + b"[" * 100_000, "r.yaml:1:36: nested more than 32 levels deep"),
    "deep mapping": (
        b"".join(b" " * i + b"k:\n" for i in range(40)),
        "r.yaml:34:34: nested more than 32 levels deep",
    ),
    "second document": (
        b"a: 1\n---\nb: 2\n",
        "r.yaml:2:1: a second document begins here; a file may hold only one",
    ),
    "tag": (
        b"a: !!python/object:os.system x\n",
        "r.yaml:1:4: tags such as `tag:yaml.org,2002:python/object:os.system` are not supported; write the plain value",
    ),
    "own tag": (
        b"a: !include other.yaml\n",
        "r.yaml:1:4: tags such as `!include` are not supported; write the plain value",
    ),
    "list as key": (
        b"[a, b]: 1\n",
        "r.yaml:1:1: a key must be a plain word, without an anchor or a tag",
    ),
    "tab": (
        b"a:\n\tb: 1\n",
        "r.yaml:2:1: not valid YAML: found character that cannot start any token",
    ),
    "unclosed": (
        b"a: [1, 2\nb: 1\n",
        "r.yaml:2:2: not valid YAML: did not find expected ',' or ']'",
    ),
    "quote": (b'a: "x\n', "r.yaml:2:1: not valid YAML: found unexpected end of stream"),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_place_and_reason(case: str) -> None:
    raw, message = REFUSED[case]
    Path("r.yaml").write_bytes(raw)
    with pytest.raises(RecipeError) as caught:
        load_yaml(Path("r.yaml"))
    assert str(caught.value) == message


def test_missing_and_folder() -> None:
    with pytest.raises(RecipeError, match=r"^no\.yaml: no such file$"):
        load_yaml(Path("no.yaml"))
    with pytest.raises(RecipeError, match=r"^\.: cannot be read: Is a directory$"):
        load_yaml(Path())
    with pytest.raises(DataError, match=r"^no\.yaml: no such file$"):
        load_yaml(Path("no.yaml"), DataError)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# nothing\n", None),
        ("a: no", {"a": "no"}),
        ("a: 010", {"a": 10}),
        ("a: 1e-3", {"a": 0.001}),
        ("a: 1_000", {"a": "1_000"}),
        ("a: '1'", {"a": "1"}),
        ("a: 1:30", {"a": "1:30"}),
        ("a: 2026-01-01", {"a": "2026-01-01"}),
        ("a: ~\nb:\n", {"a": None, "b": None}),
        ("0: x\ntrue: y\n'0': z\n", {0: "x", "true": "y", "0": "z"}),
        ("a: [1, {b: 2}]", {"a": [1, {"b": 2}]}),
        ("\ufeffa: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
        ("---\na: 1\n...\n", {"a": 1}),
    ],
)
def test_values(text: str, value: object) -> None:
    Path("r.yaml").write_bytes(text.encode())
    assert load_yaml(Path("r.yaml")).value == value


def test_positions() -> None:
    Path("r.yaml").write_text("a: 1\nb:\n  - x\n  - c: {d: 1}\n", encoding="utf-8")
    document = load_yaml(Path("r.yaml"))
    places = {
        (): "1:1", ("a",): "1:1", ("b",): "2:1", ("b", 0): "3:5", ("b", 1, "c", "d"): "4:9",
        ("b", 1, "c", "e"): "4:5", ("z", "y"): "1:1",
    }  # fmt: skip
    for loc, place in places.items():
        assert str(document.where(loc)) == f"r.yaml:{place}"
