"""A store of its own and this machine's sshd, which benchmarks deploy over."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.common import ROOT, Bench
from bench.process import BIN
from yolodeploy.store import Store

sys.path[:0] = [str(ROOT / "tests" / "yolodeploy")]

from ssh_server import SshServer, ssh_server  # noqa: E402 - of the tests

MEASURED = ("evidence", "timings")  # results that are made again
Answer = tuple[int, str, dict[str, Any], float]  # exit code, message, report, seconds


class Desk:
    """A store of its own, and a hosts.toml that names this machine's sshd `desk`."""

    def __init__(self, bench: Bench, server: SshServer) -> None:
        self.work, self.server = bench.work / "ssh", server
        self.work.mkdir(parents=True, exist_ok=True)
        self.cache = self.work / "cache"
        self.python = self.work / "python"
        self.mend()
        file = self.work / "yolodeploy" / "hosts.toml"
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(self._host(name) for name in ("desk", "again")))

    def _host(self, name: str) -> str:
        return (
            f'[{name}]\nkind = "ssh"\naddress = "desk"\nconfig = "{self.server.config}"\n'
            f'python = "{self.python}"\nfolder = "{self.folder(name)}"\n'
        )

    def folder(self, name: str) -> Path:
        """Where the worker of a host writes."""
        return self.server.home / name

    def mend(self) -> None:
        """Put this Python at the other end."""
        self.replace_python(f'exec {sys.executable} "$@"')

    def replace_python(self, script: str) -> None:
        """Put a script in the place of Python at the other end."""
        self.python.unlink(missing_ok=True)
        self.python.write_text(f"#!/bin/sh\n{script}\n")
        self.python.chmod(0o755)

    def start(self, recipe: Path, *more: str) -> subprocess.Popen[str]:
        """Start a deploy."""
        words = ["deploy", "--allow", "/", str(recipe), "--json", "-q", "--cache", str(self.cache)]
        return subprocess.Popen(
            [str(BIN / "yolodeploy"), *words, "--dist", str(self.work / "dist"), *more],
            cwd=self.work,
            env={**os.environ, "XDG_CONFIG_HOME": str(self.work)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def deploy(self, recipe: Path, *more: str) -> Answer:
        """Deploy, to the end."""
        start = time.perf_counter()
        process = self.start(recipe, *more)
        out, err = process.communicate()
        return process.returncode, err.strip(), json.loads(out or "{}"), time.perf_counter() - start

    def forget(self) -> None:
        """Remove what was measured from the store; artifacts and the source model's findings stay."""
        store = Store(self.cache, print)
        for home, meta in store.entries():
            if meta and meta.format in MEASURED:
                store.remove(home)


@contextlib.contextmanager
def a_desk(bench: Bench) -> Iterator[Desk]:
    """A desk with a server of its own."""
    folder = bench.work / "sshd"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with ssh_server(folder) as server:
        yield Desk(bench, server)


def must(answer: Answer) -> Answer:
    """The answer of a deploy that has to succeed."""
    if answer[0]:
        sys.exit(answer[1])
    return answer
