"""Signatures of the provenance: DSSE envelopes with Ed25519 keys.

https://github.com/secure-systems-lab/dsse. All cryptography is in securesystemslib and
cryptography, which the extra `sign` installs.
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

from yolodeploy.errors import EnvironmentProblem, RecipeError
from yolodeploy.system import PASSPHRASE, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securesystemslib.signer import CryptoSigner, SSlibKey


PAYLOAD_TYPE = "application/vnd.in-toto+json"
_CREATE = "Create one with: openssl genpkey -algorithm ed25519 -out key.pem"
_MAX_BYTES = 65536


def read_private(file: Path, warn: Callable[[str], None]) -> CryptoSigner:
    """The signer of a private key file (PEM, PKCS #8); raises RecipeError with the remedy."""
    with _libraries():
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from securesystemslib.signer import CryptoSigner
    text = _read(file)
    if b"PUBLIC KEY-----" in text and b"PRIVATE KEY-----" not in text:
        raise RecipeError(
            f"--key {shown(file)}: this is a public key. Sign with its private key; `verify` takes the "
            "public one."
        )
    key = _decrypted(file, text)
    if not isinstance(key, Ed25519PrivateKey):
        raise _other_kind(file, key)
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
            f"--key {name}: this is a private key, but `verify` takes the public one: "
            f"openssl pkey -in {name} -pubout -out public.pem"
        )
    try:
        key = load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm):
        raise RecipeError(f"--key {name}: cannot be read as a public key in PEM form.") from None
    if not isinstance(key, Ed25519PublicKey):
        raise _other_kind(file, key)
    return SSlibKey.from_crypto(key)


def envelope(payload: bytes, signer: CryptoSigner) -> dict[str, Any]:
    """A signed envelope around a statement, as data. Ed25519 gives the same bytes every time."""
    from securesystemslib.dsse import Envelope

    signed = Envelope(payload, PAYLOAD_TYPE, {})
    signed.sign(signer)
    value: dict[str, Any] = signed.to_dict()
    return value


def payload_of(value: Mapping[str, Any]) -> bytes:
    """The content of an envelope, not verified; raises ValueError with the reason. Needs no library."""
    if value.get("payloadType") != PAYLOAD_TYPE:
        raise ValueError(f"its payloadType is not {PAYLOAD_TYPE}")
    payload = value.get("payload")
    if not isinstance(payload, str) or not payload.isascii():
        raise ValueError("it has no payload in base64")
    return base64.b64decode(payload, validate=True)


def canonical_envelope(value: Mapping[str, Any]) -> dict[str, Any]:
    """An envelope as `envelope` writes it, with one signature and nothing else; raises ValueError."""
    if (count := len(key_ids(value))) != 1:
        raise ValueError(f"it has {count} signatures, not one")
    keyid, sig = (str(value["signatures"][0].get(key)) for key in ("keyid", "sig"))
    signature = {"keyid": keyid, "sig": _base64(base64.b64decode(sig, validate=True))}
    payload = _base64(payload_of(value))
    return {"payload": payload, "payloadType": PAYLOAD_TYPE, "signatures": [signature]}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def require_signature(value: Mapping[str, Any], key: SSlibKey) -> None:
    """Raise ValueError with the reason unless the key signed the content of the envelope."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError, VerificationError

    payload_of(value)
    signers = key_ids(value)
    try:
        read = Envelope.from_dict({**value, "signatures": [dict(s) for s in value["signatures"]]})
        read.verify([key], 1)
    except VerificationError:
        if key.keyid in signers:
            raise ValueError("the signature does not match its content") from None
        listed = ", ".join(id_[:12] for id_ in signers)
        raise ValueError(
            f"it is signed with another key ({listed or 'none'}), not with {key.keyid[:12]}"
        ) from None
    except (KeyError, TypeError, ValueError, AttributeError, FormatError) as error:
        raise ValueError(f"it is not a signed envelope: {error}") from None


def key_ids(value: Mapping[str, Any]) -> list[str]:
    """The ids of the keys that an envelope names as its signers; raises ValueError."""
    signatures = value.get("signatures")
    if not isinstance(signatures, list) or not all(isinstance(s, dict) for s in signatures):
        raise ValueError("it has no list of signatures")
    return [str(signature.get("keyid")) for signature in signatures]


def _decrypted(file: Path, text: bytes) -> object:
    """The private key, decrypted if it has a passphrase."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    name, problem = shown(file), f"cannot be read as a private key in PEM form (PKCS #8). {_CREATE}"
    try:
        try:
            return load_pem_private_key(text, None)
        except TypeError:  # it is encrypted
            problem = f"the passphrase is wrong. Set {PASSPHRASE} to the right one."
            return load_pem_private_key(text, _passphrase(name).encode())
    except (TypeError, ValueError, UnsupportedAlgorithm):  # TypeError: the passphrase is empty
        raise RecipeError(f"--key {name}: {problem}") from None


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
            return opened.read(_MAX_BYTES)
    except OSError as error:
        raise RecipeError(f"--key {shown(file)}: cannot be read: {error.strerror}") from None


def _warn_if_open(file: Path, warn: Callable[[str], None]) -> None:
    mode = file.stat().st_mode
    if stat.S_ISREG(mode) and mode & 0o077:
        warn(
            f"--key {shown(file)}: other users can read this private key. Run: chmod 600 {shown(file)}"
        )


def _other_kind(file: Path, key: object) -> RecipeError:
    kind = type(key).__name__.lstrip("_")
    return RecipeError(f"--key {shown(file)}: is of the type {kind}, not an Ed25519 key. {_CREATE}")


@contextmanager
def _libraries() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise EnvironmentProblem(
            f"--key needs {error.name or 'a library'}, which is not installed. Run: pip install 'yolodeploy[sign]'"
        ) from None
