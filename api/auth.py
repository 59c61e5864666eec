"""Who asks, and what they may see.

A caller is a principal: by an API key that was made for it, or by the subject of an OpenID
Connect token. The principals and the views each may read stand in one file; who is not in it
gets nothing, and a principal gets the views that are named there and no others.

    {"principals": [{"name": "late-model", "views": ["origin_delays"], "key_sha256": "…",
                     "subject": "…", "requests_per_second": 200}]}

A key is 256 random bits, so its SHA-256 is as good as lost: there is nothing to guess.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Set
from http.client import HTTPException
from pathlib import Path
from typing import Any

import jwt
import msgspec

from api.errors import Forbidden, StoreUnavailable, TooMany, Unauthenticated
from schemas import SettingsError

KEY_PREFIX = "hw_"
ALL_VIEWS = "*"
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")
_LEEWAY_SECONDS = 30
_TOKENS = 10_000
_REFRESH_SECONDS = 60.0
_RETRY_SECONDS = 2.0
_NO_KEYS = (
    OSError,
    HTTPException,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    jwt.PyJWTError,
)
"""What getting the issuer's documents raises, and reading what is none of them."""


class PrincipalDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One principal of the file; it needs a key's hash or a token's subject."""

    name: str
    views: list[str]
    key_sha256: str | None = None
    subject: str | None = None
    requests_per_second: float | None = None


class PrincipalsDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    principals: list[PrincipalDocument]


class Principal:
    """A caller and how much it may still ask; `views` is None where it may read all."""

    __slots__ = ("_clock", "_filled", "_rate", "_tokens", "name", "views")

    def __init__(
        self,
        name: str,
        views: frozenset[str] | None,
        rate: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.views = views
        self._rate = rate
        self._clock = clock
        self._tokens = max(rate, 1.0) if rate else 0.0
        self._filled = clock()

    def may_read(self, views: Set[str]) -> bool:
        """Whether it may read all of `views`."""
        return self.views is None or views <= self.views

    def check(self, views: frozenset[str]) -> None:
        """Forbidden unless it may read all of `views`."""
        if self.views is not None and not views <= self.views:
            first = min(views - self.views)
            raise Forbidden(f"{self.name} may not read this view", first, sorted(self.views))

    def spend(self) -> None:
        """TooMany if it has asked more often than it may; a second's worth may come at once."""
        if self._rate is None:
            return
        now = self._clock()
        self._tokens = min(max(self._rate, 1.0), self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens < 1.0:
            raise TooMany(self._rate, (1.0 - self._tokens) / self._rate)
        self._tokens -= 1.0


ANYONE = Principal("anyone", None)


class Gatekeeper:
    """Tells who asks."""

    async def principal(self, headers: Iterable[tuple[bytes, bytes]]) -> Principal:
        """The caller; Unauthenticated or Forbidden if there is none."""
        raise NotImplementedError


class Open(Gatekeeper):
    """Everyone may read everything: for the laptop."""

    async def principal(self, headers: Iterable[tuple[bytes, bytes]]) -> Principal:
        """Anyone."""
        return ANYONE


class Guarded(Gatekeeper):
    """Only those of the file; `tokens` verifies tokens, without it only keys are taken."""

    def __init__(
        self, principals: Iterable[PrincipalDocument], tokens: Tokens | None = None
    ) -> None:
        self._by_key: dict[str, Principal] = {}
        self._by_subject: dict[str, Principal] = {}
        self._tokens = tokens
        for document in principals:
            views = None if ALL_VIEWS in document.views else frozenset(document.views)
            principal = Principal(document.name, views, document.requests_per_second)
            if document.key_sha256:
                self._by_key[document.key_sha256] = principal
            if document.subject:
                self._by_subject[document.subject] = principal

    async def principal(self, headers: Iterable[tuple[bytes, bytes]]) -> Principal:
        """By `x-api-key: KEY` or `authorization: Bearer KEY|TOKEN`."""
        given = ""
        for name, value in headers:
            if name == b"x-api-key":
                given = value.decode("latin-1")
                break
            if name == b"authorization":
                scheme, _, given = value.decode("latin-1").partition(" ")
                if scheme.lower() != "bearer":
                    raise Unauthenticated(f"expected the scheme Bearer, got {scheme[:20]!r}")
                break
        if not given:
            raise Unauthenticated("neither x-api-key nor authorization is there")
        if given.startswith(KEY_PREFIX):
            known = self._by_key.get(key_hash(given))
            if known is None:
                raise Unauthenticated("the key is not one of ours")
            return known
        if self._tokens is None:
            raise Unauthenticated("it is no API key, and tokens are not accepted here")
        subject = await self._tokens.subject(given)
        if subject not in self._by_subject:
            raise Forbidden("the token's subject is none that may ask", subject)
        return self._by_subject[subject]


class Tokens:
    """Verifies tokens of one issuer for one audience, by the keys the issuer publishes.

    `fetch` gets a JSON document by its URL; it may block, and is called outside the event loop.
    """

    def __init__(
        self, issuer: str, audience: str, fetch: Callable[[str], Mapping[str, Any]]
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._fetch = fetch
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._next = -float("inf")
        self._failure: str | None = None
        self._fetching = asyncio.Lock()
        self._verified: dict[bytes, tuple[float, str]] = {}

    async def subject(self, token: str) -> str:
        """Whom it names; Unauthenticated if it does not hold, StoreUnavailable if the issuer's keys
        cannot be had to tell."""
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        known = self._verified.get(digest)
        if known is not None and known[0] > time.time():
            return known[1]
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = await self._key(kid)
            claims = jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"the token does not hold: {error}") from None
        if len(self._verified) >= _TOKENS:
            self._verified.clear()
        self._verified[digest] = (float(claims["exp"]), str(claims["sub"]))
        return str(claims["sub"])

    async def _key(self, kid: str | None) -> jwt.PyJWK:
        if kid not in self._keys:
            async with self._fetching:
                if kid not in self._keys and time.monotonic() >= self._next:
                    await self._refresh()
        if kid not in self._keys:
            if self._failure is not None:
                raise StoreUnavailable("issuer", self._failure, _RETRY_SECONDS)
            raise Unauthenticated("the issuer has no key of the token's id")
        return self._keys[kid]

    async def _refresh(self) -> None:
        """Get the keys, or note why they cannot be had, and when that is worth another try."""
        where = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            about = await asyncio.to_thread(self._fetch, where)
            if about.get("issuer") != self._issuer:
                raise ValueError("it names another issuer")
            keys = await asyncio.to_thread(self._fetch, str(about["jwks_uri"]))
            self._keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(dict(keys)).keys}
        except _NO_KEYS as error:
            told = error if type(error) is ValueError else type(error).__name__
            self._failure = f"its keys cannot be had: {told}"
        else:
            self._failure = None
        wait = _REFRESH_SECONDS if self._failure is None else _RETRY_SECONDS
        self._next = time.monotonic() + wait


def read_principals(path: Path, views: Iterable[str]) -> list[PrincipalDocument]:
    """The principals of a file; SettingsError says what in it does not hold."""
    try:
        document = msgspec.json.decode(path.read_bytes(), type=PrincipalsDocument)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path}: {error}") from None
    known = {*views, ALL_VIEWS}
    for place, one in enumerate(document.principals):
        at = f"{path}: $.principals[{place}]"
        if not (one.key_sha256 or one.subject):
            raise SettingsError(f"{at}: {one.name} needs key_sha256 or subject")
        for view in one.views:
            if view not in known:
                raise SettingsError(
                    f"{at}.views: no view {view!r}; choices: {', '.join(sorted(known))}"
                )
        if one.requests_per_second is not None and one.requests_per_second <= 0:
            raise SettingsError(f"{at}.requests_per_second: must be above 0")
    return document.principals


def new_key() -> str:
    """A key nobody has had."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def key_hash(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
