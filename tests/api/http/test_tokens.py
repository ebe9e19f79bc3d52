"""Tokens: which are taken, which are refused, and what the keys look like."""

import base64
import http.server
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from api.cli.serve import Wanted, claims_of
from api.http.audit import AuditTrail, TrailCheck, days, verify_trail
from api.http.keys import FILE, FOLDER, KeyRing, UnknownKey, signing_key
from api.http.problems import Problem
from api.http.security import Gate
from infra.errors import SettingsError
from tests.api.command_line import DAYBOOK
from tests.api.http.server import Server, cash, served, token

SECRET = "s" * 32


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def forged(server: Server, **changes: Any) -> dict[str, str]:
    """Return tokens that must not be taken, by what is wrong with them."""
    home = server.settings.home
    kid, key = signing_key(home)
    claims = claims_of(Wanted(role="admin"))
    header = {"alg": "HS256", "kid": kid}
    good = token(home, "admin")
    head, body, seal = good.split(".")
    without = {name: {**claims} for name in ("exp", "aud", "sub")}
    for name, told in without.items():
        del told[name]
    named = {"kid": kid}
    return {
        "alg none": f"{part({'alg': 'none', 'kid': kid})}.{part(claims)}.",
        "alg None": f"{part({'alg': 'None', 'kid': kid})}.{part(claims)}.",
        "alg none, no key named": f"{part({'alg': 'none'})}.{part(claims)}.{seal}",
        "seal cut off": f"{head}.{body}.",
        "seal of another": f"{head}.{part(claims | {'sub': 'x'})}.{seal}",
        "another secret": jwt.encode(claims, SECRET, "HS256", headers=named),
        "another algorithm": f"{part({'alg': 'HS512', 'kid': kid})}.{body}.{seal}",
        "no key named": jwt.encode(claims, key.key, "HS256"),
        "unknown key": jwt.encode(claims, key.key, "HS256", headers={"kid": "nobody"}),
        "key by address": jwt.encode(
            claims, SECRET, "HS256", headers={"kid": "x", "jku": "http://evil.example/jwks"}
        ),
        "expired": token(home, "admin", claims={"exp": int(time.time()) - 60}),
        "not yet": token(home, "admin", claims={"nbf": int(time.time()) + 600}),
        "wrong audience": token(home, "admin", claims={"aud": "another"}),
        "unknown role": token(home, "admin", claims={"role": "root"}),
        "role of another kind": token(home, "admin", claims={"role": ["admin"]}),
        "accounts no list": token(home, "admin", claims={"accounts": "*"}),
        "scope no text": token(home, "admin", claims={"scope": ["read"]}),
        **{
            f"without {name}": jwt.encode(told, key.key, "HS256", headers=named)
            for name, told in without.items()
        },
        "no token": "x",
        "three points": "...",
        "long": good + "A" * 10_000,
        "not ASCII": f"{head}.{body}.é".encode("latin-1").decode("latin-1"),
        "header no object": f"{base64.urlsafe_b64encode(b'[]').decode()}.{body}.{seal}",
        **{f"{name} of JSON": f"{part({**header, name: 7})}.{body}.{seal}" for name in header},
        **changes,
    }


def test_a_good_token_is_taken(guarded: Server) -> None:
    with guarded.client(guarded.token("quant")) as client:
        assert client.get("/v1/accounts").status_code == 200


def test_bad_tokens_are_refused(guarded: Server) -> None:
    with guarded.client() as client:
        for what, told in forged(guarded).items():
            headers = {b"Authorization": b"Bearer " + told.encode("latin-1")}
            answer = client.get("/v1/accounts", headers=headers)
            assert answer.status_code == 401, (what, answer.text)
            assert answer.json()["type"] == "urn:daybook:problem:unauthenticated", what
            assert answer.headers["WWW-Authenticate"].startswith("Bearer"), what
        for header in ("", "Bearer", "Basic dXNlcjpwYXNz", "bearer"):
            answer = client.get("/v1/accounts", headers={"Authorization": header})
            assert answer.status_code == 401, header
        assert client.get("/v1/accounts").status_code == 401
        assert client.get("/healthz").status_code == 200
        assert client.get("/openapi.json").status_code == 200


def test_a_scope_takes_away_and_never_gives(guarded: Server) -> None:
    narrow = guarded.token("service", scopes=["read"])
    with guarded.client(narrow) as client:
        assert client.get("/v1/accounts").status_code == 200
        assert client.post("/v1/cash", json=cash("A1", "C1")).status_code == 403
    with guarded.client(guarded.token("quant", claims={"scope": "read book"})) as client:
        assert client.post("/v1/cash", json=cash("A1", "C1")).status_code == 403


def test_a_token_ends_though_it_was_seen_before(guarded: Server) -> None:
    gate = Gate(KeyRing(guarded.settings.home))
    ending = token(guarded.settings.home, "quant", claims={"exp": int(time.time()) - 3})
    principal = gate.authenticate(ending)  # still within what clocks may differ by
    assert principal.is_expired
    with pytest.raises(Exception, match="expired"):
        gate.authenticate(ending)


def test_keys_are_for_their_owners_eyes(tmp_path: Path) -> None:
    signing_key(tmp_path)
    path = tmp_path / FOLDER / FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="600"):
        KeyRing(tmp_path)


def test_an_old_key_stays_good_beside_a_new_one(tmp_path: Path) -> None:
    old = token(tmp_path, "quant")
    first, _ = signing_key(tmp_path)
    second, _ = signing_key(tmp_path, new=True)
    gate = Gate(KeyRing(tmp_path))
    assert first != second
    assert gate.authenticate(old).role == gate.authenticate(token(tmp_path, "quant")).role


def test_the_last_key_taken_out_lets_nobody_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.keys._LOOK_S", 0.0)
    good = token(tmp_path, "admin")
    path = tmp_path / FOLDER / FILE
    gate = Gate(KeyRing(tmp_path))
    kept = path.read_bytes()
    assert gate.authenticate(good).role == "admin"

    def is_refused() -> bool:
        for told in (None, good):
            with pytest.raises((Problem, UnknownKey)):
                gate.authenticate(told)
        return gate.needs_tokens

    path.write_text('{"keys": []}')
    assert is_refused()
    path.unlink()
    assert is_refused()
    _write_key(path, kept)
    assert gate.authenticate(good).role == "admin"


@pytest.mark.parametrize("slip", [b'{"keys": [', b"[]", b'{"keys": [{"kid": "a"}]}', b"\xff"])
def test_of_a_file_with_a_slip_no_key_counts_until_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slip: bytes
) -> None:
    monkeypatch.setattr("api.http.keys._LOOK_S", 0.0)
    path = tmp_path / FOLDER / FILE
    gates = [Gate(KeyRing(tmp_path))]
    good = token(tmp_path, "admin")
    kept = path.read_bytes()
    gates.append(Gate(KeyRing(tmp_path)))
    _write_key(path, slip)
    for gate in gates:  # the first has never seen a key that was right
        with pytest.raises(Problem):
            gate.authenticate(None)
        for _ in range(2):
            with pytest.raises(UnknownKey):
                gate.authenticate(good)
    _write_key(path, kept)
    path.chmod(0o640)
    for gate in gates:
        with pytest.raises(UnknownKey):
            gate.authenticate(good)
    path.chmod(0o600)
    assert [gate.authenticate(good).role for gate in gates] == ["admin", "admin"]


def _write_key(path: Path, text: bytes) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(text)


# --- keys of an issuer -----------------------------------------------------------------------


_OF_OTHER_KINDS = [
    {"kty": "RSA", "kid": "enc", "use": "enc", "alg": "RSA-OAEP", "n": "0vx7", "e": "AQAB"},
    {"kty": "RSA", "kid": "unused", "alg": "RSA-OAEP", "n": "0vx7", "e": "AQAB"},
    {"kty": "OKP", "kid": "x", "crv": "X25519", "x": "3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08"},
    {"kty": "EC", "kid": "odd", "crv": "P-1", "x": "AA", "y": "AA"},
    {"kty": "EC", "kid": "odder", "crv": "P-256", "x": 7, "y": None},
]


class Issuer:
    """An issuer of tokens with keys of every kind, which serves its JWKS."""

    def __init__(self) -> None:
        self.keys: dict[str, tuple[str, Any]] = {}
        self.asked = 0
        handler = self._handler()
        self._server = http.server.HTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                self.send_response(200)
                self.end_headers()
                self.wfile.write(issuer.jwks())

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def add(self, kid: str, algorithm: str) -> None:
        made: dict[str, Callable[[], Any]] = {
            "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
        }
        self.keys[kid] = (algorithm, made[algorithm]())

    def jwks(self) -> bytes:
        told = []
        for kid, (algorithm, key) in self.keys.items():
            maker = jwt.get_algorithm_by_name(algorithm)
            public = json.loads(maker.to_jwk(key.public_key()))
            told.append(public | {"kid": kid, "alg": algorithm, "use": "sig"})
        told += _OF_OTHER_KINDS
        told.append({"kty": "oct", "kid": "sneaked", "k": "c2VjcmV0", "alg": "HS256"})
        return json.dumps({"keys": told}).encode()

    def token(self, kid: str, **changes: Any) -> str:
        algorithm, key = self.keys[kid]
        told = claims_of(Wanted(role="quant")) | {"iss": "us"} | changes
        claims = {name: value for name, value in told.items() if value is not None}
        return jwt.encode(claims, key, algorithm, headers={"kid": kid})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    for algorithm in ("RS256", "ES256", "EdDSA"):
        made.add(algorithm, algorithm)
    yield made
    made.close()


def test_tokens_of_an_issuer_are_taken_and_its_keys_may_change(
    issuer: Issuer,
    new_database: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.http.keys._ASK_AGAIN_S", 0.0)
    monkeypatch.setattr("api.http.keys._LOOK_S", 0.0)
    with (
        served(tmp_path / "home", new_database(), jwks=issuer.url, issuer="us") as server,
        server.client() as client,
    ):

        def status(told: str) -> int:
            answer = client.get("/v1/accounts", headers={"Authorization": f"Bearer {told}"})
            return answer.status_code

        assert client.get("/v1/accounts").status_code == 401
        assert status(server.token("quant")) == 200, "local keys have no issuer"
        for kid in issuer.keys:
            assert status(issuer.token(kid)) == 200, kid
        assert status(issuer.token("RS256", iss="them")) == 401
        assert status(issuer.token("RS256", iss=None)) == 401
        sneaked = claims_of(Wanted(role="admin")) | {"iss": "us"}
        weak = jwt.encode(sneaked, b"secret" * 6, "HS256", headers={"kid": "sneaked"})
        assert status(weak) == 401
        _, rsa_key = issuer.keys["RS256"]
        public = json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(rsa_key.public_key()))
        confused = jwt.encode(sneaked, public["n"], "HS256", headers={"kid": "RS256"})
        assert status(confused) == 401
        old = issuer.token("ES256")
        del issuer.keys["ES256"]
        issuer.add("new", "ES256")
        assert status(issuer.token("new")) == 200
        assert status(old) == 401


def test_an_issuer_is_not_asked_for_every_unknown_key(
    issuer: Issuer, new_database: Callable[[], str], tmp_path: Path
) -> None:
    with (
        served(tmp_path / "home", new_database(), jwks=issuer.url) as server,
        server.client() as client,
    ):
        for number in range(20):
            told = jwt.encode({}, SECRET, "HS256", headers={"kid": f"k{number}"})
            client.get("/v1/accounts", headers={"Authorization": f"Bearer {told}"})
        assert issuer.asked <= 2


def test_a_jwks_may_be_a_file_and_never_plain_http_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="https"):
        KeyRing(tmp_path, "http://keys.example/jwks")
    with pytest.raises(SettingsError, match="file"):
        KeyRing(tmp_path, str(tmp_path / "nothing.json"))


# --- limits, audit, start ----------------------------------------------------------------------


def test_who_asks_too_often_waits(new_database: Callable[[], str], tmp_path: Path) -> None:
    signing_key(tmp_path)
    with served(tmp_path, new_database(), requests_a_second=5) as server:
        told = [server.token("quant", subject=name) for name in ("busy", "calm")]
        with server.client(told[0]) as busy, server.client(told[1]) as calm:
            answers = [busy.get("/v1/accounts") for _ in range(25)]
            refused = [one for one in answers if one.status_code == 429]
            assert refused
            assert refused[0].json()["type"] == "urn:daybook:problem:rate-limited"
            assert int(refused[0].headers["Retry-After"]) >= 1
            assert calm.get("/v1/accounts").status_code == 200


def test_processes_share_a_limit_in_redis(redis_url: str) -> None:
    import asyncio

    from api.http.limits import RedisLimiter

    async def counted() -> tuple[list[float], float]:
        first, second = (RedisLimiter(redis_url, "one", 5) for _ in range(2))
        third = RedisLimiter(redis_url, "another", 5)
        name = f"limits-{time.time_ns()}"
        waits = [await (first, second)[n % 2].wait_s(name) for n in range(12)]
        other = await second.wait_s(name + "-other") + await third.wait_s(name)
        for limiter in (first, second, third):
            await limiter.close()
        return waits, other

    waits, other = asyncio.run(counted())
    assert waits[:10] == [0.0] * 10
    assert waits[-1] > 0
    assert other == 0.0


def test_access_is_recorded_in_a_chain(new_database: Callable[[], str], tmp_path: Path) -> None:
    signing_key(tmp_path)
    with served(tmp_path, new_database()) as server:
        secret = server.token("service", subject="feeder", accounts=["A1"])
        with server.client(secret) as client, server.client() as nobody:
            client.post("/v1/cash", json=cash("A1", "C1"))
            client.get("/v1/accounts/A1/cash")
            client.get("/v1/accounts/B1/cash")
            nobody.get("/v1/accounts/A1/cash")
            nobody.get("/healthz")
    (path,) = (tmp_path / "audit").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert secret not in text
    lines = [msgspec.json.decode(line) for line in text.splitlines()]
    told = [(one["subject"], one["operation"], one["status"]) for one in lines]
    assert told == [
        ("feeder", "moveCash", 201),
        ("feeder", "read_account_cash", 200),
        ("feeder", "read_account_cash", 404),
        (None, "read_account_cash", 401),
    ]
    assert lines[0]["accounts"] == ["A1"]
    assert lines[1]["path"] == {"account": "A1"}
    assert verify_trail(path.parent) == TrailCheck(lines=4, days=1, fault=None)
    path.write_text(text.replace("A1", "A2", 1))
    assert verify_trail(path.parent).fault == f"audit/{path.name}:2: the line before it is another"


def test_a_day_of_the_trail_taken_out_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day_ns = 86_400 * 10**9
    for number in (0, 1, 2, 0):
        trail = AuditTrail(tmp_path)
        monkeypatch.setattr(time, "time_ns", lambda now_ns=number * day_ns: now_ns)
        trail.record(subject="ann", status=200)
        trail.record(subject="bob", status=200)
        trail.close()
    files = days(trail.folder)
    assert [one.name for one in files] == [f"1970-01-0{n}.jsonl" for n in (1, 2, 3)]
    # A clock that goes back writes on in the last file: the chain has one order.
    assert [len(one.read_bytes().splitlines()) for one in files] == [2, 2, 4]
    assert verify_trail(trail.folder) == TrailCheck(lines=8, days=3, fault=None)
    files[2].write_bytes(files[2].read_bytes() + b'{"half')
    assert verify_trail(trail.folder).fault == "audit/1970-01-03.jsonl:5: no line of a trail"
    files[1].unlink()
    fault = verify_trail(trail.folder).fault
    assert fault == "audit/1970-01-03.jsonl:1: the line before it is another"


def test_compliance_reads_who_asked(new_database: Callable[[], str], tmp_path: Path) -> None:
    signing_key(tmp_path)
    with served(tmp_path, new_database()) as server:
        feeder = server.token("service", subject="feeder", accounts=["A1", "B1"])
        with server.client(feeder) as client:
            for account in ("A1", "B1"):
                client.post("/v1/cash", json=cash(account, "C1"))
                client.get(f"/v1/accounts/{account}/cash")
        with server.client(server.token("compliance", subject="eve")) as client:
            first = client.get("/v1/audit", params={"limit": 3}).json()
            rest = client.get("/v1/audit", params={"cursor": first["next"]}).json()
            later = client.get("/v1/audit", params={"from": "2200-01-01"}).json()
            earlier = client.get("/v1/audit", params={"to": "2000-01-01T00:00:00Z"}).json()
            wrong = client.get("/v1/audit", params={"from": "soon"})
        with server.client(server.token("compliance", accounts=["B1"])) as client:
            few = client.get("/v1/audit").json()["data"]
    seen = [(one["subject"], one["operation"]) for one in first["data"] + rest["data"]]
    assert seen == [
        *[("feeder", "moveCash"), ("feeder", "read_account_cash")] * 2,
        ("eve", "read_audit"),
    ]
    assert rest["next"] is None
    assert later["data"] == earlier["data"] == []
    assert wrong.status_code == 422
    assert [one["path"] or one["accounts"] for one in few] == [["B1"], {"account": "B1"}]


def test_other_addresses_need_keys(tmp_path: Path) -> None:
    words = [DAYBOOK, "serve", "--home", str(tmp_path), "--host", "0.0.0.0", "--port", "0"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "daybook token" in done.stderr
    assert "Traceback" not in done.stderr


def test_token_prints_one(tmp_path: Path) -> None:
    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [DAYBOOK, "token", "--home", str(tmp_path), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    wanted = ("--role", "trader", "--account", "A1", "--account", "A2", "--expires", "30m")
    done = run(*wanted, "--subject", "ann")
    assert done.returncode == 0, done.stderr
    principal = Gate(KeyRing(tmp_path)).authenticate(done.stdout.strip())
    assert principal.subject == "ann"
    assert principal.accounts == {"A1", "A2"}
    assert principal.expires_at is not None
    assert 1_700 < principal.expires_at - time.time() < 1_900
    for words in (
        ("--role", "trader"),
        ("--role", "king"),
        ("--role", "quant", "--expires", "5y"),
        ("--role", "quant", "--scope", "everything"),
    ):
        refused = run(*words)
        assert refused.returncode == 2, words
        assert refused.stdout == ""
