"""Keys that tokens are signed with: a local secret in the home, and the public keys of a JWKS.

A local key signs with HS256 alone and a JWKS is read for public keys alone, so that a public key
can never pass as a secret. Whether a key is used for a token, the key says and not the token.
"""

import asyncio
import logging
import os
import secrets
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
import msgspec
from jwt.utils import base64url_encode
from msgspec import Struct

from infra.errors import SettingsError

_log = logging.getLogger(__name__)
FOLDER: Final = "keys"
FILE: Final = "tokens.json"
LOCAL_ALGORITHM: Final = "HS256"
PUBLIC_ALGORITHMS: Final = frozenset(
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
)
_KEY_BYTES: Final = 32
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_FRESH_S: Final = 300.0
_LOOK_S: Final = 1.0
_ASK_AGAIN_S: Final = 5.0
_FETCH_S: Final = 5.0
_LARGEST: Final = 1 << 20
_LEAST_RSA_BITS: Final = 2048
_NOT_READ: Final = (-1, -1)
"""In the place of a file's stamp: it is to be read again."""


class UnknownKey(jwt.InvalidTokenError):
    """A token names a key that is not known, or not any more, or not yet."""


class Key(Struct, frozen=True):
    """A key and the one algorithm that it is for."""

    key: Any
    algorithm_name: str


class _Published(Struct, frozen=True):
    """What of a JWKS is read."""

    keys: list[dict[str, Any]]


class KeyRing:
    """The keys there are now. `jwks` is a URL or a file; both kinds may be used at once.

    Raises SettingsError for a file of local keys that cannot be read; later that is logged, and
    the file has none until it can be: a key that was to be taken out does not go on counting.
    """

    def __init__(self, home: Path, jwks: str | None = None) -> None:
        self._file = home / FOLDER / FILE
        self._jwks = None if jwks is None else _checked(jwks)
        self._local: dict[str, Key] = {}
        self._public: dict[str, Key] = {}
        self._looked_at = float("-inf")
        self._stamp: tuple[int, int] | None = None
        self._has_had_keys = False
        self._fetched_at = float("-inf")
        self._fetching: asyncio.Task[bool] | None = None
        self.generation = 0
        self._read_local()

    @property
    def is_configured(self) -> bool:
        """Tell whether there are keys, or have been: then every request needs a token.

        Whoever takes the last key out wants to end its tokens, not to let everybody in.
        """
        self._look()
        return self._jwks is not None or self._has_had_keys

    def key(self, kid: str | None, algorithm: str | None) -> Key:
        """Return the key a token names; raises UnknownKey, and InvalidTokenError for a mismatch."""
        found = self._local.get(kid or "") or self._public.get(kid or "")
        if found is None:
            raise UnknownKey("no such key")
        if found.algorithm_name != algorithm:
            raise jwt.InvalidAlgorithmError("the key is for another algorithm")
        return found

    async def refreshed(self) -> bool:
        """Fetch the JWKS again, unless that was just done; tell whether it was."""
        if self._jwks is None or time.monotonic() - self._fetched_at < _ASK_AGAIN_S:
            return False
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch())
        return await asyncio.shield(self._fetching)

    async def keep_fresh(self) -> None:
        """Fetch the JWKS every few minutes, so that a key taken out of it ends."""
        while self._jwks is not None:
            await self.refreshed()
            await asyncio.sleep(_FRESH_S)

    async def _fetch(self) -> bool:
        assert self._jwks is not None
        self._fetched_at = time.monotonic()
        try:
            text = await asyncio.to_thread(_read, self._jwks)
            public = _public_keys(text)
        except (OSError, ValueError, jwt.PyJWTError) as error:
            # The keys known so far stay good: an identity provider may be down for a while.
            _log.warning("the keys at %s cannot be read: %s", self._jwks, error)
            return False
        if public.keys() != self._public.keys():
            self.generation += 1
        self._public = public
        return True

    def _look(self) -> None:
        """Read the local keys again where the file has changed, looking once a second."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_S:
            return
        self._looked_at = now
        try:
            self._read_local()
        except (SettingsError, OSError) as error:
            _log.warning("no key of %s counts, it cannot be read: %s", self._file, error)
            self._stamp, self._local, self._has_had_keys = _NOT_READ, {}, True
            self.generation += 1

    def _read_local(self) -> None:
        try:
            told = self._file.stat()
        except FileNotFoundError:
            stamp = None
        else:
            stamp = (told.st_mtime_ns, told.st_ino)
        if stamp != self._stamp:
            self._local = {} if stamp is None else local_keys(self._file)
            self._stamp = stamp
            self._has_had_keys = self._has_had_keys or bool(self._local)
            self.generation += 1


def local_keys(path: Path) -> dict[str, Key]:
    """Return the keys of a home by their id, the newest first; raises SettingsError."""
    if path.stat().st_mode & 0o077:
        raise SettingsError("keys", str(path), "a file that only its owner may read (mode 600)")
    try:
        told = msgspec.json.decode(path.read_bytes(), type=dict[str, list[dict[str, str]]])
        return {
            one["kid"]: Key(jwt.PyJWK(one, LOCAL_ALGORITHM).key, LOCAL_ALGORITHM)
            for one in told["keys"]
        }
    except (msgspec.DecodeError, KeyError, jwt.PyJWTError) as error:
        raise SettingsError("keys", str(path), "the keys that `daybook token` writes") from error


def signing_key(home: Path, *, new: bool = False) -> tuple[str, Key]:
    """Return the id and the key that tokens are signed with, made where there is none.

    With `new` one is made and put first; the others stay good until their lines are taken out.
    """
    path = home / FOLDER / FILE
    kept = local_keys(path) if path.exists() else {}
    if kept and not new:
        return next(iter(kept.items()))
    kid = secrets.token_hex(8)
    key = Key(secrets.token_bytes(_KEY_BYTES), LOCAL_ALGORITHM)
    _write(path, {kid: key} | kept)
    return kid, key


def _write(path: Path, keys: dict[str, Key]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    told = [
        {"kty": "oct", "kid": kid, "alg": LOCAL_ALGORITHM, "k": base64url_encode(one.key).decode()}
        for kid, one in keys.items()
    ]
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(partial, _NEW_FILE, 0o600), "wb") as file:
        file.write(msgspec.json.encode({"keys": told}) + b"\n")
        os.fsync(file.fileno())
    partial.replace(path)


def _public_keys(text: bytes) -> dict[str, Key]:
    keys = {}
    for one in msgspec.json.decode(text, type=_Published).keys:
        kind, kid = one.get("kty"), one.get("kid")
        if kind not in ("RSA", "EC", "OKP") or not isinstance(kid, str):
            continue
        if one.get("use", "sig") != "sig":
            continue
        try:
            made = jwt.PyJWK(one)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            # Of a kind that is not known here, or odd: the others are none the worse for it.
            _log.info("the key %r is left out: %s", kid, error)
            continue
        if made.algorithm_name not in PUBLIC_ALGORITHMS:
            continue
        if kind == "RSA" and made.key.key_size < _LEAST_RSA_BITS:
            continue
        keys[kid] = Key(made.key, made.algorithm_name)
    return keys


def _checked(place: str) -> str:
    parts = urlsplit(place)
    if parts.scheme in ("http", "https"):
        local = parts.hostname in ("localhost", "127.0.0.1", "::1")
        if parts.scheme == "http" and not local:
            raise SettingsError("--jwks", place, "https, or a server on this machine")
        return place
    if not Path(place).is_file():
        raise SettingsError("--jwks", place, "an https URL, or a file")
    return place


def _read(place: str) -> bytes:
    if not place.startswith(("http://", "https://")):
        return Path(place).read_bytes()
    import httpx

    try:
        with httpx.stream("GET", place, timeout=_FETCH_S) as answer:
            answer.raise_for_status()
            text = b""
            for chunk in answer.iter_bytes():
                text += chunk
                if len(text) > _LARGEST:
                    raise ValueError("it is too long")
            return text
    except httpx.HTTPError as error:
        raise OSError(str(error)) from error
