"""Who asks, and what they may: tokens, roles, scopes, accounts and portfolios."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, get_args

import jwt
from msgspec import Struct

from api.http.keys import LOCAL_ALGORITHM, KeyRing, UnknownKey
from api.http.problems import UNAUTHENTICATED, Problem

Scope = Literal["read", "orders", "book", "accounts", "reference", "audit", "operate"]
"""What may be done: read; write orders, facts, accounts, reference data; read the records of who
read what; read metrics."""

Need = Scope | Literal["write"]
"""What an operation needs."""

Role = Literal["trader", "compliance", "quant", "admin", "service"]

SCOPES: Final[frozenset[Scope]] = frozenset(get_args(Scope))
ROLES: Final[Mapping[Role, frozenset[Scope]]] = {
    "trader": frozenset(("read", "orders")),
    "quant": frozenset(("read",)),
    "compliance": frozenset(("read", "audit")),
    "service": frozenset(("read", "orders", "book", "accounts", "reference", "operate")),
    "admin": SCOPES,
}
WRITING: Final = frozenset(("orders", "book", "accounts", "reference"))
EVERY: Final = "*"
"""In a token's `accounts`: all of them."""
_REMEMBERED: Final = 4096
_REMEMBERED_S: Final = 30.0
_LONGEST: Final = 8192
_LEEWAY_S: Final = 5
_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}


def _in_no_portfolio(_account: str) -> frozenset[str]:
    return frozenset()


class Principal(Struct, frozen=True, kw_only=True):
    """Who asks. `accounts` None means all; `expires_at` is in seconds since 1970.

    `portfolios_of` answers the portfolios that an account is in, those above included.
    """

    subject: str
    role: Role
    scopes: frozenset[Scope]
    accounts: frozenset[str] | None = frozenset()
    portfolios: frozenset[str] = frozenset()
    expires_at: float | None = None
    portfolios_of: Callable[[str], frozenset[str]] = _in_no_portfolio

    def may(self, need: Need) -> bool:
        """Tell whether the principal has a scope; `write` is any that writes."""
        if need == "write":
            return not WRITING.isdisjoint(self.scopes)
        return need in self.scopes

    def owns(self, account: str) -> bool:
        """Tell whether an account is one of the principal's, whatever may be done with it."""
        if self.accounts is None or account in self.accounts:
            return True
        return bool(self.portfolios) and not self.portfolios.isdisjoint(self.portfolios_of(account))

    def may_read(self, account: str) -> bool:
        """Tell whether the principal may see an account's rows."""
        return "read" in self.scopes and self.owns(account)

    @property
    def is_expired(self) -> bool:
        """Tell whether the token has ended."""
        return self.expires_at is not None and self.expires_at <= time.time()


LOCAL: Final = Principal(subject="local", role="admin", scopes=SCOPES, accounts=None)
"""Who asks where no token is needed: whoever is on this machine."""


class Gate:
    """Turns tokens into principals. Where there are no keys at all, everybody is `LOCAL`."""

    def __init__(
        self,
        keys: KeyRing,
        portfolios_of: Callable[[str], frozenset[str]] = _in_no_portfolio,
        *,
        audience: str = "daybook",
        issuer: str | None = None,
    ) -> None:
        self.keys = keys
        self._portfolios_of = portfolios_of
        self._audience = audience
        self._issuer = issuer
        self._known: OrderedDict[bytes, tuple[float, int, Principal]] = OrderedDict()

    @property
    def needs_tokens(self) -> bool:
        """Tell whether a request without a token is refused."""
        return self.keys.is_configured

    def authenticate(self, token: str | None) -> Principal:
        """Return who a token speaks for; raises Problem (401) for one that is not good.

        Raises UnknownKey for a token that names a key which may have come since: see `admit`.
        """
        if not self.needs_tokens:
            return LOCAL
        if not token:
            raise Problem(UNAUTHENTICATED, "no token was given", headers=_CHALLENGE)
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        found = self._known.get(digest)
        now = time.monotonic()
        if found is not None and found[0] > now and found[1] == self.keys.generation:
            if found[2].is_expired:
                raise _refused("it has expired")
            return found[2]
        principal = self._verified(token)
        self._known[digest] = (now + _REMEMBERED_S, self.keys.generation, principal)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return principal

    async def admit(self, token: str | None) -> Principal:
        """Return who a token speaks for, asking for new keys where it names an unknown one."""
        try:
            return self.authenticate(token)
        except UnknownKey:
            if await self.keys.refreshed():
                try:
                    return self.authenticate(token)
                except UnknownKey:
                    pass
            raise _refused("no key is known by its `kid`") from None

    def _verified(self, token: str) -> Principal:
        if len(token) > _LONGEST:
            raise _refused("it is too long")
        try:
            header = jwt.get_unverified_header(token)
            key = self.keys.key(header.get("kid"), header.get("alg"))
            claims = jwt.decode(
                token,
                key.key,
                # The algorithm is the key's own: a token cannot choose another, or none.
                algorithms=[key.algorithm_name],
                audience=self._audience,
                # Local keys have no issuer; whose a key is, it says itself.
                issuer=None if key.algorithm_name == LOCAL_ALGORITHM else self._issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "aud", "sub"]},
            )
        except UnknownKey:
            raise
        except jwt.InvalidTokenError as error:
            raise _refused(_REASONS.get(type(error), "it cannot be verified")) from None
        return self._principal(claims)

    def _principal(self, claims: dict[str, Any]) -> Principal:
        role = next((one for one in ROLES if one == claims.get("role")), None)
        if role is None:
            raise _refused("`role` is none of " + ", ".join(ROLES))
        scopes = ROLES[role]
        told = claims.get("scope")
        if told is not None:
            if not isinstance(told, str):
                raise _refused("`scope` is not a string")
            scopes &= frozenset(told.split())
        accounts = _names(claims, "accounts")
        return Principal(
            subject=str(claims["sub"]),
            role=role,
            scopes=scopes,
            accounts=None if EVERY in accounts else accounts,
            portfolios=_names(claims, "portfolios"),
            expires_at=float(claims["exp"]),
            portfolios_of=self._portfolios_of,
        )


_REASONS: Final[dict[type[Exception], str]] = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.InvalidAudienceError: "it is for another audience",
    jwt.InvalidIssuerError: "it is from another issuer",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.MissingRequiredClaimError: "`exp`, `aud` and `sub` must be there, of an issuer `iss` too",
}


def _names(claims: dict[str, Any], name: str) -> frozenset[str]:
    told = claims.get(name, [])
    if not isinstance(told, list) or not all(isinstance(one, str) for one in told):
        raise _refused(f"`{name}` is not a list of strings")
    return frozenset(told)


def _refused(reason: str) -> Problem:
    challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    return Problem(UNAUTHENTICATED, f"the token is refused: {reason}", headers=challenge)


def bearer(header: str | None) -> str | None:
    """Return the token of an Authorization header; raises Problem for another scheme."""
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        raise Problem(UNAUTHENTICATED, "Authorization: expected Bearer", headers=_CHALLENGE)
    return token.strip()
