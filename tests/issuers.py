"""An issuer of ID tokens on loopback, as GitHub and GitLab are: its keys, its documents, and the tokens it makes."""

from __future__ import annotations

import functools
import json
import ssl
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

DISCOVERY = "/.well-known/openid-configuration"
JWKS = "/jwks"
REQUEST_TOKEN = "job-secret"  # with which a job asks GitHub for its ID token
GITHUB: Mapping[str, Any] = {
    "sub": "repo:acme/widget:environment:pypi",
    "repository": "acme/widget",
    "repository_owner": "acme",
    "repository_owner_id": "4711",
    "job_workflow_ref": "acme/widget/.github/workflows/release.yml@refs/tags/v1.0",
    "ref": "refs/tags/v1.0",
    "sha": "6b1e6ac8a1bc5d7e2a0c2c6fbf4c3f5d5a3f9d10",
    "environment": "pypi",
    "event_name": "release",
}
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Behaviour = Callable[[BaseHTTPRequestHandler], None]


@functools.cache
def rsa_key(name: str = "first") -> rsa.RSAPrivateKey:
    """Return a key, always the same one under a name ("short" is a short one): they take long to make."""
    return rsa.generate_private_key(public_exponent=65537, key_size=1024 if name == "short" else 2048)


@functools.cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def to_jwk(key: Key, kid: str, **more: str) -> dict[str, Any]:
    """Return the public half of a key as an issuer publishes it."""
    if isinstance(key, rsa.RSAPrivateKey):
        made = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        made = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**made, "kid": kid, "use": "sig", **more}


class Issuer:
    """What answers at a URL; `asked` are the paths of what was asked for, in order."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.published: list[dict[str, Any]] = [to_jwk(rsa_key(), "first", alg="RS256")]
        self.documents: dict[str, object] = {DISCOVERY: {"issuer": url, "jwks_uri": f"{url}{JWKS}"}}
        self.behaviours: dict[str, Behaviour] = {}  # path -> what is done in place of an answer
        self.claims: Mapping[str, Any] = GITHUB  # of the job that asks for a token
        self.asked: list[str] = []

    def claims_for(self, audience: str, **changes: Any) -> dict[str, Any]:
        """Return the claims of a token that is good now; None leaves one out."""
        now = int(time.time())
        claims = {
            **self.claims,
            "iss": self.url,
            "aud": audience,
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "jti": urlsafe_b64encode(time.time_ns().to_bytes(8, "big")).decode(),
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, audience: str, **changes: Any) -> str:
        """Return a token of a job, signed with the first key."""
        return jwt.encode(self.claims_for(audience, **changes), rsa_key(), algorithm="RS256", headers={"kid": "first"})

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        self.asked.append(parts.path)
        if parts.path in self.behaviours:
            self.behaviours[parts.path](handler)
        elif parts.path == "/job" and handler.headers["Authorization"].lower() == f"bearer {REQUEST_TOKEN}":
            send(handler, {"value": self.token(parse_qs(parts.query)["audience"][0])})
        elif parts.path == JWKS:
            send(handler, {"keys": self.published})
        elif parts.path in self.documents:
            send(handler, self.documents[parts.path])
        else:
            send(handler, {}, status=404)

    @property
    def github_actions(self) -> dict[str, str]:
        """The variables that GitHub gives a job which may have ID tokens."""
        return {
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/job?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": REQUEST_TOKEN,
        }

    def gitlab_ci(self, audience: str, **changes: Any) -> dict[str, str]:
        """Return the variables that GitLab gives a job whose `id_tokens` name this audience."""
        variable = f"{audience.upper().replace('-', '_')}_ID_TOKEN"
        host = urlsplit(self.url).netloc
        claims = {
            "project_path": "acme/tools/widget",
            "namespace_id": "72",
            "ci_config_ref_uri": f"{host}/acme/tools/widget//.gitlab-ci.yml@refs/tags/v1.0",
            "ref_path": "refs/tags/v1.0",
            "sha": GITHUB["sha"],
            **changes,
        }
        return {"CI": "true", "GITLAB_CI": "true", variable: self.token(audience, **(dict.fromkeys(GITHUB) | claims))}


def send(handler: BaseHTTPRequestHandler, document: object, *, status: int = 200) -> None:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    handler.send_response_only(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    issuer: Issuer


class _Handler(BaseHTTPRequestHandler):
    timeout = 30

    def do_GET(self) -> None:
        cast(_Server, self.server).issuer.answer(self)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # as the base class has it
        """Say nothing."""


@contextmanager
def issuing(certificate: Path | None = None) -> Iterator[Issuer]:
    """Run an issuer until the context ends, with TLS if there is a certificate."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.issuer = Issuer(f"{'http' if certificate is None else 'https'}://127.0.0.1:{server.server_port}")
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.issuer
        finally:
            server.shutdown()
            thread.join()


def write_certificate(host: x509.GeneralName, directory: Path) -> Path:
    """Write a certificate that vouches for itself, and its key; return the path of both."""
    key, now = ec_key(), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, SHA256())
    )
    path = directory / "certificate.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
    return path
