"""The connection to a machine, made by the system's ssh client and shared by all workers there.

The first process keeps the connection (ControlMaster, see ssh_config(5)); workers are sessions on it, which start in
milliseconds. It reads from a pipe of ours and does nothing else, so that it ends when this process does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

from yolodeploy.errors import HostProblem
from yolodeploy.hosts.session import Tail
from yolodeploy.hosts.ssh.failures import of_connection
from yolodeploy.system import child_environment

_CONNECT, _LONGEST = 10, 60.0  # seconds: to reach the machine, and until it let us in
_LONGEST_TMP = 60  # characters; a socket's path must have less than 104, and ssh appends 17
_SETTLE = 2.0  # seconds in which the process that keeps a broken connection ends

# What a user's configuration must not turn off, and what nothing here needs.
_OPTIONS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "VerifyHostKeyDNS": "no",
    "NoHostAuthenticationForLocalhost": "no",
    "UpdateHostKeys": "no",
    "PasswordAuthentication": "no",
    "KbdInteractiveAuthentication": "no",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "Tunnel": "no",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "ConnectTimeout": str(_CONNECT),
    "ConnectionAttempts": "1",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    "ControlPersist": "no",
    "LogLevel": "INFO",
}


class Connection:
    """Opens when the first worker starts, and stays open until `close`."""

    def __init__(self, name: str, address: str, port: int | None, config: str | None) -> None:
        self._name, self._address, self._lock = name, address, threading.Lock()
        self._where = [
            *(["-F", str(Path(config).expanduser())] if config else []),
            *(["-p", str(port)] if port else []),
        ]
        self._keeper: subprocess.Popen[bytes] | None = None
        self._folder = Path()
        self._tail: Tail | None = None

    @property
    def words(self) -> list[str]:
        """What follows `ssh` in the command with which a user logs in."""
        return [*self._where, self._address]

    def run(self, command: str) -> subprocess.Popen[bytes]:
        """Run a command there; HostProblem if the machine cannot be reached."""
        with self._lock:
            if self._keeper is None:
                self._open()
        return self._start(["-o", "ControlMaster=no"], command, subprocess.PIPE)

    def ended(self) -> tuple[str, int] | None:
        """What ssh said when the connection ended, and its exit code; None if it is still there."""
        if self._keeper is None or self._tail is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._keeper.wait(_SETTLE)
            return self._tail.text(), code
        return None

    def close(self) -> None:
        """Hang up."""
        if self._keeper is None or self._tail is None:
            return
        with contextlib.suppress(OSError):
            cast("IO[bytes]", self._keeper.stdin).close()
        try:
            self._keeper.wait(_SETTLE)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        self._tail.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._keeper = self._tail = None

    def _open(self) -> None:
        short = len(tempfile.gettempdir()) <= _LONGEST_TMP
        self._folder = Path(tempfile.mkdtemp(prefix="yd-", dir=None if short else "/tmp"))  # noqa: S108 - made by mkdtemp
        self._keeper = self._start(
            ["-o", "ControlMaster=yes"], "cat >/dev/null", subprocess.DEVNULL
        )
        self._tail = Tail(self._keeper.stderr)
        end = time.monotonic() + _LONGEST
        while not self._socket.exists():
            if self._keeper.poll() is not None or time.monotonic() > end:
                self._keeper.kill()
                said = self._tail.text()
                self.close()
                why = of_connection(said, self.words, started=False)
                raise HostProblem(f"host `{self._name}`: {why}")
            time.sleep(0.005)

    @property
    def _socket(self) -> Path:
        return self._folder / "s"

    def _start(self, options: Sequence[str], command: str, output: int) -> subprocess.Popen[bytes]:
        fixed = [word for name, value in _OPTIONS.items() for word in ("-o", f"{name}={value}")]
        control = ["-o", f"ControlPath={self._socket}", *options]
        kept = {k: v for k, v in child_environment().items() if k != "PYTHONPATH"}
        try:
            return subprocess.Popen(
                ["ssh", "-T", *self._where, *fixed, *control, "--", self._address, command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.PIPE,
                env={**kept, "LC_ALL": "C"},
            )
        except OSError as error:
            raise HostProblem(
                f"host `{self._name}`: the ssh client cannot be started: {os.strerror(error.errno or 0)}. Install it: "
                "apt-get install openssh-client"
            ) from None
