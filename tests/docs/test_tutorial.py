"""docs/tutorial.md, run literally: every command after a `$`, in one shell, with what it prints."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
MARK = "@@ "


def commands():
    """The commands of the page, each with the lines that it shows below."""
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            yield command, shown.splitlines()


def plain(line):
    """A line without what differs between machines and versions: figures, and digests in hexadecimal."""
    line = re.sub(r"\b(?=[0-9a-f]*\d)[0-9a-f]{12}\b", "0", line)
    return re.sub(r"[-+]?\d[\d.,e-]*", "0", " ".join(line.split()))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Exit code and output of each command."""
    for name in ("ncnn", "pnnx"):
        pytest.importorskip(name, reason="pip install 'yolodeploy[ncnn]'")
    top = tmp_path_factory.mktemp("tutorial")
    tools = top / "tools"
    tools.mkdir()
    for name, words in {"yolodeploy": "-m yolodeploy", "python": ""}.items():
        (tools / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        (tools / name).chmod(0o755)
    checkout = top / "yolodeploy"
    checkout.mkdir()
    for name in ("models", "examples"):
        (checkout / name).symlink_to(ROOT / name)
    # `$?` is the command's exit code again after its mark was printed, for a page that asks for it.
    lines = [
        f'{command}\ncode=$?; printf "\\n{MARK}%s\\n" $code; (exit $code)'
        for command, _ in commands()
    ]
    path = f"{tools}:{os.environ['PATH']}"
    environment = {"PATH": path, "YOLODEPLOY_CACHE": str(top / "store"), "COLUMNS": "80"}
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=checkout,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    found = re.findall(rf"(.*?)\n{MARK}(\d+)\n", done.stdout, re.DOTALL)
    return [(int(code), output.splitlines()) for output, code in found]


@pytest.mark.slow
def test_every_command_of_the_tutorial_does_what_the_page_says(ran):
    page = list(commands())
    assert len(page) > 12
    assert len(ran) == len(page), ran[-1]
    asked = [command == "echo $?" for command, _ in page[1:]] + [False]
    for (command, shown), (code, output), expects in zip(page, ran, asked, strict=True):
        text = f"$ {command}\n" + "\n".join(output)
        assert code == 0 or expects, text
        printed = iter(map(plain, output))
        for line in filter(None, map(plain, shown)):
            assert line == "..." or line in printed, f"{line!r} is not printed by\n{text}"
