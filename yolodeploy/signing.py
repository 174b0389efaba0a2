"""Signatures of provenance: DSSE envelopes with Ed25519 keys, through securesystemslib and cryptography.

https://github.com/secure-systems-lab/dsse. The libraries are the extra `sign`; nothing here is cryptography of
our own.
"""

from __future__ import annotations

import base64
import getpass
import os
import stat
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.child import PASSPHRASE
from yolodeploy.errors import EnvironmentProblem, RecipeError
from yolodeploy.yamlfile import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securesystemslib.signer import CryptoSigner, SSlibKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_MAKE = "Make one with: openssl genpkey -algorithm ed25519 -out key.pem"
_MOST_BYTES = 65536


def read_private(file: Path, warn: Callable[[str], None]) -> CryptoSigner:
    """The signer of a private key file (PEM, PKCS #8); raises RecipeError with the remedy."""
    with _libraries():
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from securesystemslib.signer import CryptoSigner
    text = _read(file)
    if b"PUBLIC KEY-----" in text and b"PRIVATE KEY-----" not in text:
        raise RecipeError(
            f"--key {shown(file)}: this is a public key. Sign with the private key that belongs to it; "
            "`verify` takes the public one."
        )
    key = _decrypted(file, text)
    if not isinstance(key, Ed25519PrivateKey):
        raise RecipeError(f"--key {shown(file)}: {_kind(key)}, not an Ed25519 key. {_MAKE}")
    _warn_if_open(file, warn)
    return CryptoSigner(key)


def read_public(file: Path) -> SSlibKey:
    """The key of a public key file (PEM); raises RecipeError with the remedy."""
    with _libraries():
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
        from securesystemslib.signer import SSlibKey
    text, name = _read(file), shown(file)
    if b"PRIVATE KEY-----" in text:
        raise RecipeError(
            f"--key {name}: this is a private key, which `verify` has no use for. Take the public one: "
            f"openssl pkey -in {name} -pubout -out public.pem"
        )
    try:
        key = load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm):
        raise RecipeError(f"--key {name}: cannot be read as a public key in PEM form.") from None
    if not isinstance(key, Ed25519PublicKey):
        raise RecipeError(f"--key {name}: {_kind(key)}, not an Ed25519 key. {_MAKE}")
    return SSlibKey.from_crypto(key)


def envelope(payload: bytes, signer: CryptoSigner) -> dict[str, Any]:
    """A signed envelope around a statement, as data. Ed25519 gives the same bytes every time."""
    from securesystemslib.dsse import Envelope

    made = Envelope(payload, PAYLOAD_TYPE, {})
    made.sign(signer)
    value: dict[str, Any] = made.to_dict()
    return value


def payload_of(value: Mapping[str, Any]) -> bytes:
    """What an envelope holds, unchecked; raises ValueError with the reason. Needs no library."""
    if value.get("payloadType") != PAYLOAD_TYPE:
        raise ValueError(f"its payloadType is not {PAYLOAD_TYPE}")
    payload = value.get("payload")
    if not isinstance(payload, str) or not payload.isascii():
        raise ValueError("it has no payload in base64")
    return base64.b64decode(payload, validate=True)


def rewritten(value: Mapping[str, Any]) -> dict[str, Any]:
    """An envelope as `envelope` makes it, with one signature and nothing besides; raises ValueError."""
    if (number := len(key_ids(value))) != 1:
        raise ValueError(f"it has {number} signatures, not one")
    keyid, sig = (str(value["signatures"][0].get(key)) for key in ("keyid", "sig"))
    signature = {"keyid": keyid, "sig": _base64(base64.b64decode(sig, validate=True))}
    payload = _base64(payload_of(value))
    return {"payload": payload, "payloadType": PAYLOAD_TYPE, "signatures": [signature]}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def require_signature(value: Mapping[str, Any], key: SSlibKey) -> None:
    """Raise ValueError with the reason unless the key has signed what the envelope holds."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError, VerificationError

    payload_of(value)
    signers = key_ids(value)
    try:
        read = Envelope.from_dict({**value, "signatures": [dict(s) for s in value["signatures"]]})
        read.verify([key], 1)
    except VerificationError:
        if key.keyid in signers:
            raise ValueError("the signature does not fit what it signs") from None
        listed = ", ".join(id_[:12] for id_ in signers)
        raise ValueError(
            f"it is signed with another key ({listed or 'none'}), not with {key.keyid[:12]}"
        ) from None
    except (KeyError, TypeError, ValueError, AttributeError, FormatError) as fault:
        raise ValueError(f"it is no envelope of signatures: {fault}") from None


def key_ids(value: Mapping[str, Any]) -> list[str]:
    """The ids of the keys that an envelope says it was signed with; raises ValueError."""
    signatures = value.get("signatures")
    if not isinstance(signatures, list) or not all(isinstance(s, dict) for s in signatures):
        raise ValueError("it has no list of signatures")
    return [str(signature.get("keyid")) for signature in signatures]


def _decrypted(file: Path, text: bytes) -> object:
    """The private key, with its passphrase if it has one."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    name = shown(file)
    try:
        return load_pem_private_key(text, None)
    except TypeError:
        passphrase = _passphrase(name)
    except (ValueError, UnsupportedAlgorithm):
        raise RecipeError(
            f"--key {name}: cannot be read as a private key in PEM form (PKCS #8). {_MAKE}"
        ) from None
    try:
        return load_pem_private_key(text, passphrase.encode())
    except (TypeError, ValueError, UnsupportedAlgorithm):  # TypeError: it is empty
        raise RecipeError(
            f"--key {name}: the passphrase does not open it. Set {PASSPHRASE} to the right one."
        ) from None


def _passphrase(name: str) -> str:
    if given := os.environ.get(PASSPHRASE):
        return given
    if not sys.stdin.isatty():
        raise RecipeError(
            f"--key {name}: has a passphrase. Set {PASSPHRASE}, or run in a terminal."
        )
    try:
        return getpass.getpass(f"passphrase of {name}: ")
    except EOFError:
        return ""


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_MOST_BYTES)
    except OSError as fault:
        raise RecipeError(f"--key {shown(file)}: cannot be read: {fault.strerror}") from None


def _warn_if_open(file: Path, warn: Callable[[str], None]) -> None:
    state = file.stat()
    if stat.S_ISREG(state.st_mode) and state.st_mode & 0o077:
        warn(f"--key {shown(file)}: others can read this private key. Run: chmod 600 {shown(file)}")


def _kind(key: object) -> str:
    return f"is of the type {type(key).__name__.lstrip('_')}"


@contextmanager
def _libraries() -> Iterator[None]:
    try:
        yield
    except ImportError as fault:
        raise EnvironmentProblem(
            f"--key needs {fault.name or 'a library'}, which is not installed. Run: pip install 'yolodeploy[sign]'"
        ) from None
