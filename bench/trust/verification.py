"""What it takes to verify a signed bundle, and what a changed bundle hides."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.common import Bench
from bench.process import BIN, in_turns, median, run

_RUNS = 10
_FRAMEWORKS = {"torch", "numpy", "cv2", "pydantic", "cyclonedx"}


def verify(bench: Bench) -> None:
    """Print times of whole processes, what they import, and how many changed files are named."""
    recipe = bench.recipe("intel", "fp32", 32)
    private, public = _keys(bench.work)
    bench.deploy(recipe, "--key", private)
    bundle = bench.work / "dist" / recipe.stem
    size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file()) / 1e6
    options = {
        "verify": [],
        "verify --lock": ["--lock", recipe.with_suffix(".lock")],
        "verify --key": ["--key", public],
    }
    commands = [[BIN / "yolodeploy", "verify", bundle, *more] for more in options.values()]
    taken = in_turns(_RUNS, *(lambda c=command: run(c, bench.work) for command in commands))
    print(f"bundle of {size:.1f} MB, medians of {_RUNS} runs (limit 0.3 s)")
    for name, runs in zip(options, taken, strict=True):
        print(f"{name:<14} {median(runs, 'wall'):.3f} s, {median(runs, 'cpu'):.3f} s of CPU")
    print(f"imported of {', '.join(sorted(_FRAMEWORKS))}: {_imported(bundle, public) or 'none'}")
    _changes(bundle, public)


def _keys(folder: Path) -> tuple[Path, Path]:
    private, public = folder / "key.pem", folder / "public.pem"
    key = Ed25519PrivateKey.generate()
    private.write_bytes(
        key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption())
    )
    private.chmod(0o600)
    public.write_bytes(
        key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def _imported(bundle: Path, public: Path) -> str:
    code = (
        "import sys; from yolodeploy.cli import main as cli; cli.main(['verify', *sys.argv[1:]]); "
        f"print(*sorted({_FRAMEWORKS} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, bundle, "--key", public]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def _changes(bundle: Path, public: Path) -> None:
    """Flip a bit of every file in turn, the manifest and the signature too; `verify` has to refuse."""
    refused, files = 0, [path for path in sorted(bundle.rglob("*")) if path.is_file()]
    for path in files:
        before = path.read_bytes()
        changed = bytearray(before)
        changed[len(changed) // 2] ^= 1
        path.write_bytes(changed)
        command = [BIN / "yolodeploy", "verify", bundle, "--key", public]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        refused += done.returncode == 10
        path.write_bytes(before)
    print(f"{refused} of {len(files)} bundles with a flipped bit in one file refused")
