"""Who may ask: keys, tokens of a real issuer, views, rates; on unless switched off."""

from __future__ import annotations

import base64
import hmac
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import grpc
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from litestar.testing import TestClient

from api import auth, create_app
from api.auth import (
    Guarded,
    Principal,
    PrincipalDocument,
    Tokens,
    key_hash,
    new_key,
    read_principals,
)
from api.errors import TooMany
from api.grpc_door import GrpcAddress
from api.protocol import features_pb2 as pb
from api.server import ServerSettings, fetch_json
from api.store import connect
from schemas import (
    Column,
    Computed,
    FeatureService,
    OnDemandView,
    Repository,
    SettingsError,
    Type,
    given,
    stored,
)
from tests.ports import free_port
from tests.test_api import BADGE, NOW, SHOP, SPEND, VISITS, RedisServer
from tests.test_grpc import look_up

ROOT = Path(__file__).parent.parent
KEY = new_key()
ASK = {"features": ["badge:member"], "entities": [{"user": 7}]}
PRICE = Column("price", Type.FLOAT64)


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory):
    running = RedisServer(tmp_path_factory.mktemp("redis"))
    running.write(BADGE, {"user": 7}, NOW, member=True)
    yield running
    running.client.close()
    running.stop()


class Issuer:
    """An OpenID Connect issuer: its document, its keys, and the tokens it signs."""

    def __init__(self):
        self.key = rsa.generate_private_key(65537, 2048)
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps(issuer.documents()[self.path]).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def documents(self):
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return {
            "/.well-known/openid-configuration": {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/keys",
            },
            "/keys": {"keys": [public | {"kid": "1", "alg": "RS256", "use": "sig"}]},
        }

    def token(self, key=None, algorithm="RS256", kid="1", **claims):
        now = int(time.time())
        known = {"iss": self.url, "aud": "headwater", "sub": "trainer", "exp": now + 60}
        return jwt.encode(
            {k: v for k, v in (known | claims).items() if v is not None},
            key or self.key,
            algorithm,
            headers={"kid": kid},
        )


@pytest.fixture(scope="module")
def issuer():
    running = Issuer()
    yield running
    running.server.shutdown()


@pytest.fixture(scope="module")
def client(redis_server, issuer):
    principals = [
        PrincipalDocument("model", ["badge", "spend"], key_hash(KEY)),
        PrincipalDocument("trainer", ["*"], subject="trainer"),
    ]
    gatekeeper = Guarded(principals, Tokens(issuer.url, "headwater", fetch_json))
    app = create_app(SHOP, connect(redis_server.url), lambda: NOW, gatekeeper=gatekeeper)
    with TestClient(app) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(redis_server):
    """A client over HTTP and a channel of an API whose one caller may read one view."""
    gatekeeper = Guarded([PrincipalDocument("model", ["badge"], key_hash(KEY))])
    address = f"127.0.0.1:{free_port()}"
    app = create_app(
        WIDE, connect(redis_server.url), gatekeeper=gatekeeper, grpc=GrpcAddress(address)
    )
    with TestClient(app) as running, grpc.insecure_channel(address) as channel:
        yield running, channel


def ask(client, body=ASK, path="/v1/features", **headers):
    return client.post(
        path, json=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def test_nobody_gets_nothing_and_is_told_how_to_ask(client):
    for answer in (ask(client), client.get("/v1/feature-views")):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"
    assert client.get("/health/live").status_code == 200


def test_a_key_opens_the_door_either_way(client):
    assert ask(client, x_api_key=KEY).json()["rows"] == [[True]]
    assert ask(client, authorization=f"Bearer {KEY}").json()["rows"] == [[True]]


@pytest.mark.parametrize(
    "headers",
    [
        {"x_api_key": new_key()},
        {"x_api_key": KEY[:-1]},
        {"x_api_key": key_hash(KEY)},
        {"authorization": f"Basic {KEY}"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer a.b.c"},
    ],
)
def test_what_is_no_key_opens_nothing(client, headers):
    answer = ask(client, **headers)
    assert answer.status_code == 401
    assert KEY not in answer.text


def test_a_view_that_is_not_named_is_forbidden_and_the_answer_says_which_are_not(client):
    body = {"features": ["badge:member", "visits:count_1h"], "entities": []}
    problem = ask(client, body, x_api_key=KEY).json()
    assert (problem["status"], problem["value"]) == (403, "visits")
    assert problem["choices"] == ["badge", "spend"]
    assert ask(client, {"service": "buys", "entities": []}, x_api_key=KEY).status_code == 403
    feast = {"features": ["visits:count_1h"], "entities": {"user": [], "page": []}}
    assert ask(client, feast, "/get-online-features", x_api_key=KEY).status_code == 403


OFFER = OnDemandView(
    "offer", (Computed("dear", given("price") > stored("spend:price_mean_1h")),), (PRICE,)
)
RAISE = OnDemandView(
    "raise", (Computed("dearer", given("price") > 1),), (replace(PRICE, type=Type.INT64),)
)
WIDE = Repository(
    "shop",
    (SPEND, BADGE, VISITS),
    (
        FeatureService("buys", (SPEND, VISITS)),
        FeatureService("badges", (BADGE,)),
        FeatureService("offers", (BADGE,), on_demand=(OFFER,)),
    ),
    on_demand=(OFFER, RAISE),
)
HIDDEN = ("count_1h", "price", "offer:dear", "raise:dearer", "buys", "offers")


@pytest.mark.parametrize(
    ("what", "status", "choices"),
    [
        ({"service": "buy"}, 400, ["badges"]),
        ({"service": "offer"}, 400, ["badges"]),
        ({"service": "badge"}, 400, ["badges"]),
        ({"features": ["spend:count_1"]}, 400, ["badge:member"]),
        ({"features": ["badge:member", "offer:dea"]}, 400, ["badge:member"]),
        ({"features": ["badge:membr"]}, 400, ["badge:member"]),
        ({"features": ["offer:dear", "raise:dearer"]}, 403, ["badge"]),
        ({"service": "offers"}, 403, ["badge"]),
        ({"service": "badges"}, 200, None),
    ],
)
def test_an_error_tells_of_no_view_that_the_caller_may_not_read(guarded, what, status, choices):
    client, channel = guarded
    answer = ask(client, what | {"entities": []}, x_api_key=KEY)
    feast = {"feature_service": what["service"]} if "service" in what else what
    feast = ask(client, feast | {"entities": {"user": []}}, "/get-online-features", x_api_key=KEY)
    assert (answer.status_code, feast.status_code) == (status, status)
    assert answer.json().get("choices") == feast.json().get("choices") == choices
    told = [answer.text, feast.text]
    try:
        look_up(channel, pb.LookUpRequest(**what), x_api_key=KEY)
        assert status == 200
    except grpc.RpcError as error:
        assert (error.code() is grpc.StatusCode.INVALID_ARGUMENT) == (status == 400)
        told.append(error.details())
    asked = [what.get("service", ""), *what.get("features", [])]
    hidden = [name for name in HIDDEN if name not in asked]
    assert not [(name, text) for name in hidden for text in told if name in text]


def test_the_catalog_shows_what_the_caller_may_read(client, issuer):
    mine = client.get("/v1/feature-views", headers={"x-api-key": KEY}).json()
    assert [view["name"] for view in mine] == ["spend", "badge"]
    assert client.get("/v1/feature-services", headers={"x-api-key": KEY}).json() == []
    all_ = {"authorization": f"Bearer {issuer.token()}"}
    assert len(client.get("/v1/feature-views", headers=all_).json()) == 3
    assert len(client.get("/v1/feature-services", headers=all_).json()) == 1


def test_a_token_of_the_issuer_for_us_opens_the_door(client, issuer):
    token = issuer.token()
    for _ in range(2):
        assert ask(client, authorization=f"Bearer {token}").status_code == 200


def confused(token, public):
    """The token as if its signature were by a shared secret: the public key, which all have."""
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"1","typ":"JWT"}').rstrip(b"=")
    signed = header + b"." + token.split(".")[1].encode()
    mac = hmac.new(public, signed, "sha256").digest()
    return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def test_a_token_that_does_not_hold_opens_nothing(client, issuer):
    other = rsa.generate_private_key(65537, 2048)
    public = issuer.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    wrong = {
        "another issuer": issuer.token(iss="https://elsewhere"),
        "another audience": issuer.token(aud="somebody-else"),
        "no audience": issuer.token(aud=None),
        "no expiry": issuer.token(exp=None),
        "no subject": issuer.token(sub=None),
        "expired": issuer.token(exp=int(time.time()) - 120),
        "not signed by the issuer": issuer.token(key=other),
        "signed with its public key": confused(issuer.token(), public),
        "not signed": jwt.encode(
            {"iss": issuer.url, "aud": "headwater", "sub": "trainer", "exp": time.time() + 60},
            None,
            "none",
        ),
        "of an unknown key": issuer.token(kid="2"),
    }
    for why, token in wrong.items():
        answer = ask(client, authorization=f"Bearer {token}")
        assert answer.status_code == 401, why
        assert token not in answer.text
    assert ask(client, authorization=f"Bearer {issuer.token(sub='guest')}").status_code == 403


@pytest.mark.parametrize("broken", [OSError("no route"), HTTPException(), ["a list"]])
def test_a_token_is_not_refused_because_the_issuer_does_not_answer(
    redis_server, issuer, monkeypatch, broken
):
    monkeypatch.setattr(auth, "_RETRY_SECONDS", 0.0)
    answers = [broken]

    def fetch(url):
        told = answers.pop() if answers else fetch_json(url)
        if isinstance(told, Exception):
            raise told
        return told

    gatekeeper = Guarded(
        [PrincipalDocument("trainer", ["*"], subject="trainer")],
        Tokens(issuer.url, "headwater", fetch),
    )
    app = create_app(SHOP, connect(redis_server.url), lambda: NOW, gatekeeper=gatekeeper)
    with TestClient(app) as client:
        answer = ask(client, authorization=f"Bearer {issuer.token()}")
        assert answer.status_code == 503
        assert "issuer" in answer.json()["parts"]
        assert ask(client, authorization=f"Bearer {issuer.token()}").status_code == 200


def test_a_principal_may_ask_so_often_a_second():
    now = [0.0]
    caller = Principal("model", None, 2.0, lambda: now[0])
    caller.spend()
    caller.spend()
    with pytest.raises(TooMany) as refused:
        caller.spend()
    assert refused.value.retry_seconds == 0.5
    now[0] = 0.5
    caller.spend()
    with pytest.raises(TooMany):
        caller.spend()


def test_asking_too_often_is_a_429_that_says_when_to_come_back(redis_server):
    gatekeeper = Guarded([PrincipalDocument("model", ["*"], key_hash(KEY), None, 0.001)])
    app = create_app(SHOP, connect(redis_server.url), lambda: NOW, gatekeeper=gatekeeper)
    with TestClient(app) as client:
        assert ask(client, x_api_key=KEY).status_code == 200
        answer = ask(client, x_api_key=KEY)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 900
        text = client.get("/metrics").text
    assert 'headwater_api_refused_requests_total{reason="rate"} 1.0' in text


SERVER = {
    "HEADWATER_REPOSITORY": "tests.test_api:SHOP",
    "HEADWATER_REDIS_URL": "redis://127.0.0.1:1",
    "HEADWATER_API_PORT": "80",
}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, "HEADWATER_PRINCIPALS is not set"),
        ({"HEADWATER_AUTH": "no"}, "HEADWATER_AUTH: expected on or off, got 'no'"),
        ({"HEADWATER_AUTH": "off", "HEADWATER_API_HOST": "0.0.0.0"}, "needs a loopback address"),
        ({"HEADWATER_PRINCIPALS": "p", "HEADWATER_OIDC_ISSUER": "i"}, "go together"),
        ({"HEADWATER_PRINCIPALS": "p", "HEADWATER_TLS_KEY": "k"}, "go together"),
    ],
)
def test_a_server_that_would_be_open_does_not_start(more, told):
    with pytest.raises(SettingsError, match=told):
        ServerSettings.read(SERVER | more)


def test_a_file_that_does_not_hold_is_refused_by_its_path(tmp_path):
    path = tmp_path / "principals.json"
    for principal, told in (
        ({"name": "a", "views": ["spnd"], "key_sha256": "x"}, r"\[0\].views: no view 'spnd'"),
        ({"name": "a", "views": []}, "needs key_sha256 or subject"),
        ({"name": "a", "views": [], "key": "x"}, "unknown field `key`"),
        ({"name": "a", "views": [], "subject": "x", "requests_per_second": 0}, "above 0"),
    ):
        path.write_text(json.dumps({"principals": [principal]}))
        with pytest.raises(SettingsError, match=told):
            read_principals(path, ["spend"])


def certificate(folder):
    """A self-signed certificate for the loopback address."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "tls.crt", folder / "tls.key"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return chain, private


def test_a_key_made_by_the_command_opens_a_server_with_tls(redis_server, tmp_path):
    chain, private = certificate(tmp_path)
    principals = tmp_path / "principals.json"
    environ = os.environ | {
        "PYTHONPATH": str(ROOT),
        "HEADWATER_REPOSITORY": "tests.test_api:SHOP",
        "HEADWATER_PRINCIPALS": str(principals),
    }
    command = [sys.executable, "-m", "headwater", "keys", "make", "model"]

    def run(*more):
        return subprocess.run(
            [*command, *more], cwd=ROOT, env=environ, capture_output=True, text=True
        )

    assert "no view 'bdge'" in run("--view", "bdge").stderr
    key = run("--view", "badge").stdout.strip()
    assert key not in principals.read_text()
    assert principals.stat().st_mode & 0o077 == 0
    port = free_port()
    environ |= {
        "HEADWATER_REDIS_URL": redis_server.url,
        "HEADWATER_API_PORT": str(port),
        "HEADWATER_TLS_CERTIFICATE": str(chain),
        "HEADWATER_TLS_KEY": str(private),
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "api.server"],
            cwd=ROOT,
            env=environ,
            stdout=output,
            stderr=output,
        )
    try:
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(chain))),
        )
        request = urllib.request.Request(
            f"https://localhost:{port}/v1/features",
            json.dumps(ASK).encode(),
            {"content-type": "application/json", "x-api-key": key},
        )
        for _ in range(300):
            try:
                answer = json.load(opener.open(request, timeout=5))
                break
            except OSError:
                time.sleep(0.1)
        else:
            raise AssertionError(log.read_text())
        assert answer["rows"] == [[True]]
    finally:
        process.terminate()
        process.wait(15)
    assert key not in log.read_text()
