"""ID tokens are believed when a known issuer has signed them for us, and an issuer is asked no more than need be."""

from __future__ import annotations

import hmac
import json
import queue
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from elasticpypi.errors import IdTokenError, UnavailableError
from elasticpypi.oidc import Verifier, check_issuer
from tests.issuers import DISCOVERY, JWKS, Issuer, Key, ec_key, issuing, rsa_key, send, to_jwk, write_certificate
from tests.running import wait_for

AUDIENCE = "elasticpypi-0123456789ab"


class Clock:
    """Seconds that go by when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(clock: Clock) -> Verifier:
    return Verifier(clock=clock, fetch_seconds=0.3)


def verify(verifier: Verifier, issuer: Issuer, token: str) -> dict[str, Any]:
    return dict(verifier.verify(token, issuers=[issuer.url, "https://other.example"], audience=AUDIENCE).claims)


def encode(part: object) -> str:
    return urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


# Tokens ----------------------------------------------------------------------------------------------------------


def test_a_good_token_says_what_its_issuer_has_signed(verifier: Verifier, issuer: Issuer) -> None:
    claims = issuer.claims_for(AUDIENCE)
    token = jwt.encode(claims, rsa_key(), algorithm="RS256", headers={"kid": "first"})
    found = verifier.verify(token, issuers=[issuer.url], audience=AUDIENCE)
    assert (found.issuer, dict(found.claims), found.expires) == (issuer.url, claims, claims["exp"])
    assert issuer.asked == [DISCOVERY, JWKS]


@pytest.mark.parametrize(
    ("key", "algorithm"), [(rsa_key, "RS512"), (rsa_key, "PS256"), (ec_key, "ES256")], ids=["RS512", "PS256", "ES256"]
)
def test_keys_of_other_kinds_verify(verifier: Verifier, issuer: Issuer, key: Callable[[], Key], algorithm: str) -> None:
    issuer.published = [to_jwk(key(), "other", alg=algorithm)]
    token = jwt.encode(issuer.claims_for(AUDIENCE), key(), algorithm=algorithm, headers={"kid": "other"})
    assert verify(verifier, issuer, token)["repository"] == "acme/widget"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": int(time.time()) - 3600}, "it has expired"),
        ({"nbf": int(time.time()) + 3600}, "it is not valid yet"),
        ({"iat": int(time.time()) + 3600}, "it is not valid yet"),
        ({"exp": int(time.time()) + 90 * 24 * 3600}, "it lives longer than any job does"),
        ({"exp": 10**400}, "it lives longer than any job does"),
        ({"exp": "soon"}, "it is not as its issuer makes them"),
        ({"aud": "elasticpypi-ffffffffffff"}, f"it is not meant for this index, whose audience is {AUDIENCE}"),
        ({"aud": [AUDIENCE, "pypi"]}, f"it is not meant for this index, whose audience is {AUDIENCE}"),
        ({"aud": [AUDIENCE]}, f"it is not meant for this index, whose audience is {AUDIENCE}"),
        ({"jti": 7}, "it is not as its issuer makes them"),
        ({"aud": None}, "it does not have all of iss, aud, exp, iat"),
        ({"exp": None}, "it does not have all of iss, aud, exp, iat"),
        ({"iat": None}, "it does not have all of iss, aud, exp, iat"),
    ],
)
def test_a_token_that_is_not_for_us_now_is_refused(
    verifier: Verifier, issuer: Issuer, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(IdTokenError) as caught:
        verify(verifier, issuer, issuer.token(AUDIENCE, **changes))
    assert (caught.value.reason, caught.value.code) == (reason, "invalid-token")


def test_clocks_may_differ_by_a_minute_and_no_more(verifier: Verifier, issuer: Issuer) -> None:
    now = int(time.time())
    verify(verifier, issuer, issuer.token(AUDIENCE, exp=now - 40, iat=now - 300, nbf=now - 300))
    verify(verifier, issuer, issuer.token(AUDIENCE, iat=now + 40, nbf=now + 40))
    with pytest.raises(IdTokenError, match="it has expired"):
        verify(verifier, issuer, issuer.token(AUDIENCE, exp=now - 80, iat=now - 300, nbf=now - 300))


def test_no_other_issuer_is_ever_asked(verifier: Verifier, issuer: Issuer) -> None:
    with issuing() as stranger:
        others: list[object] = [stranger.url, f"{issuer.url}/", [issuer.url], {}, None, 1]
        for other in others:
            token = by_hand(stranger, {"alg": "RS256", "kid": "first"}, lambda _: b"x" * 256, iss=other)
            with pytest.raises(IdTokenError, match="an issuer that no publisher of this index names"):
                verify(verifier, issuer, token)
        assert (issuer.asked, stranger.asked) == ([], [])


def by_hand(issuer: Issuer, header: object, sign: Callable[[bytes], bytes], **changes: Any) -> str:
    signed = f"{encode(header)}.{encode(issuer.claims_for(AUDIENCE, **changes))}"
    return f"{signed}.{urlsafe_b64encode(sign(signed.encode())).decode().rstrip('=')}"


def unsigned(issuer: Issuer) -> str:
    return by_hand(issuer, {"alg": "none", "kid": "first"}, lambda _: b"")


def signed_with_what_is_public(issuer: Issuer) -> str:
    public = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return by_hand(issuer, {"alg": "HS256", "kid": "first"}, lambda signed: hmac.digest(public, signed, "sha256"))


def signed_by_somebody_else(issuer: Issuer) -> str:
    return jwt.encode(issuer.claims_for(AUDIENCE), rsa_key("second"), algorithm="RS256", headers={"kid": "first"})


def signed_with_a_key_that_it_brings(issuer: Issuer) -> str:
    headers = {"kid": "first", "jwk": to_jwk(rsa_key("second"), "first"), "jku": f"{issuer.url}/other"}
    return jwt.encode(issuer.claims_for(AUDIENCE), rsa_key("second"), algorithm="RS256", headers=headers)


def signed_otherwise_than_the_key_says(issuer: Issuer) -> str:
    return jwt.encode(issuer.claims_for(AUDIENCE), rsa_key(), algorithm="RS384", headers={"kid": "first"})


def signed_without_a_name(issuer: Issuer) -> str:
    return jwt.encode(issuer.claims_for(AUDIENCE), rsa_key(), algorithm="RS256")


def with_other_claims(issuer: Issuer) -> str:
    header, _, signature = issuer.token(AUDIENCE).split(".")
    return f"{header}.{encode(issuer.claims_for(AUDIENCE, repository='evil/widget'))}.{signature}"


NAMELESS = "it is not signed with a public key that it names"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (unsigned, NAMELESS),
        (signed_with_what_is_public, NAMELESS),
        (signed_without_a_name, NAMELESS),
        (signed_by_somebody_else, "its signature is not its issuer's"),
        (signed_with_a_key_that_it_brings, "its signature is not its issuer's"),
        (with_other_claims, "its signature is not its issuer's"),
        (signed_otherwise_than_the_key_says, "it is not as its issuer makes them"),
    ],
)
def test_a_token_that_its_issuer_has_not_signed_is_refused(
    verifier: Verifier, issuer: Issuer, make: Callable[[Issuer], str], reason: str
) -> None:
    with pytest.raises(IdTokenError) as caught:
        verify(verifier, issuer, make(issuer))
    assert caught.value.reason == reason
    assert set(issuer.asked) <= {DISCOVERY, JWKS}


@pytest.mark.parametrize(
    "token", ["", "a", "a.b", "a.b.c", "é.é.é", "\ud800", "x" * 20_000, "..", "[" * 10_000], ids=lambda token: token[:8]
)
def test_what_is_no_token_is_refused_and_not_repeated(verifier: Verifier, issuer: Issuer, token: str) -> None:
    with pytest.raises(IdTokenError, match="it is not a JSON Web Token") as caught:
        verify(verifier, issuer, token)
    assert len(str(caught.value)) < 120
    assert issuer.asked == []


@pytest.mark.parametrize("header", [[], "x", {"alg": ["RS256"], "kid": "first"}, {"alg": "RS256", "kid": 1}])
def test_a_strange_header_is_refused(verifier: Verifier, issuer: Issuer, header: object) -> None:
    with pytest.raises(IdTokenError):
        verify(verifier, issuer, by_hand(issuer, header, lambda _: b"x" * 256))
    assert issuer.asked == []


def test_deep_nesting_is_refused(verifier: Verifier, issuer: Issuer) -> None:
    deep = urlsafe_b64encode(b"[" * 5000).decode().rstrip("=")
    for token in (f"{deep}.{deep}.x", f"{encode({'alg': 'RS256', 'kid': 'first'})}.{deep}.x"):
        with pytest.raises(IdTokenError, match="it is not a JSON Web Token"):
            verify(verifier, issuer, token)


def test_a_key_that_is_too_short_verifies_nothing(verifier: Verifier, issuer: Issuer) -> None:
    issuer.published = [to_jwk(rsa_key("short"), "short")]
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = jwt.encode(issuer.claims_for(AUDIENCE), rsa_key("short"), algorithm="RS256", headers={"kid": "short"})
    with pytest.raises(IdTokenError, match="it is not as its issuer makes them"):
        verify(verifier, issuer, token)


def test_a_token_is_known_again_and_no_other_is_taken_for_it(verifier: Verifier, issuer: Issuer) -> None:
    def once(token: str) -> str:
        return verifier.verify(token, issuers=[issuer.url], audience=AUDIENCE).once

    issuer.published = [to_jwk(ec_key(), "first", alg="ES256")]
    named = [issuer.claims_for(AUDIENCE, jti="one", n=number) for number in range(2)]
    nameless = issuer.claims_for(AUDIENCE, jti=None)
    # Of an ECDSA signature there is always another one; the claims are what must not come twice.
    first, second, third, fourth = (
        once(jwt.encode(claims, ec_key(), algorithm="ES256", headers={"kid": "first"}))
        for claims in (*named, nameless, nameless)
    )
    assert first == second
    assert third == fourth
    assert first != third


# Issuers ---------------------------------------------------------------------------------------------------------


def test_keys_are_fetched_once_an_hour(verifier: Verifier, issuer: Issuer, clock: Clock) -> None:
    for _ in range(3):
        verify(verifier, issuer, issuer.token(AUDIENCE))
        clock.now += 1190
    assert issuer.asked == [DISCOVERY, JWKS]
    clock.now += 60
    verify(verifier, issuer, issuer.token(AUDIENCE))
    assert issuer.asked == [DISCOVERY, JWKS] * 2


def test_a_new_key_is_looked_for_once_a_minute(verifier: Verifier, issuer: Issuer, clock: Clock) -> None:
    verify(verifier, issuer, issuer.token(AUDIENCE))
    rotated = jwt.encode(issuer.claims_for(AUDIENCE), rsa_key("second"), algorithm="RS256", headers={"kid": "second"})
    clock.now += 61
    for _ in range(3):
        with pytest.raises(IdTokenError, match="its issuer has no such key"):
            verify(verifier, issuer, rotated)
    assert issuer.asked == [DISCOVERY, JWKS] * 2
    issuer.published.append(to_jwk(rsa_key("second"), "second"))
    clock.now += 30
    with pytest.raises(IdTokenError, match="its issuer has no such key"):
        verify(verifier, issuer, rotated)
    clock.now += 31
    assert verify(verifier, issuer, rotated)["repository"] == "acme/widget"
    assert issuer.asked == [DISCOVERY, JWKS] * 3


def test_a_key_that_is_withdrawn_is_worth_nothing_within_the_hour(
    verifier: Verifier, issuer: Issuer, clock: Clock
) -> None:
    verify(verifier, issuer, issuer.token(AUDIENCE))
    issuer.published = [to_jwk(rsa_key("second"), "second")]
    clock.now += 3601
    with pytest.raises(IdTokenError, match="its issuer has no such key"):
        verify(verifier, issuer, issuer.token(AUDIENCE))


def test_keys_that_cannot_be_fetched_any_more_are_not_believed(
    verifier: Verifier, issuer: Issuer, clock: Clock
) -> None:
    verify(verifier, issuer, issuer.token(AUDIENCE))
    issuer.behaviours[JWKS] = lambda handler: send(handler, {}, status=500)
    clock.now += 61
    rotated = jwt.encode(issuer.claims_for(AUDIENCE), rsa_key("second"), algorithm="RS256", headers={"kid": "second"})
    with pytest.raises(UnavailableError):  # rather than that there was no such key
        verify(verifier, issuer, rotated)
    verify(verifier, issuer, issuer.token(AUDIENCE))  # whose key is not an hour old
    clock.now += 3600
    with pytest.raises(UnavailableError):
        verify(verifier, issuer, issuer.token(AUDIENCE))


def test_a_failure_is_remembered_for_some_seconds(verifier: Verifier, issuer: Issuer, clock: Clock) -> None:
    issuer.behaviours[DISCOVERY] = lambda handler: send(handler, {}, status=500)
    for _ in range(3):
        with pytest.raises(UnavailableError, match="was answered with the status 500"):
            verify(verifier, issuer, issuer.token(AUDIENCE))
    assert issuer.asked == [DISCOVERY]
    del issuer.behaviours[DISCOVERY]
    clock.now += 11
    verify(verifier, issuer, issuer.token(AUDIENCE))
    assert issuer.asked == [DISCOVERY, DISCOVERY, JWKS]


def redirect(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response_only(302)
    handler.send_header("Location", "/elsewhere")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def send_for_ever(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response_only(200)
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(b" " * 65536)


def send_drop_by_drop(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response_only(200)
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(b" ")
            threading.Event().wait(0.02)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def say_nothing(handler: BaseHTTPRequestHandler) -> None:
    handler.rfile.read()  # until the other side gives up


def send_bytes(data: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: send(handler, data)


@pytest.mark.parametrize("path", [DISCOVERY, JWKS])
@pytest.mark.parametrize(
    "behaviour",
    [
        redirect,
        send_for_ever,
        send_drop_by_drop,
        hang_up,
        say_nothing,
        *(
            pytest.param(send_bytes(data), id=name)
            for name, data in {
                "more than 256 KiB": b" " * (256 * 1024) + b"{}",
                "no JSON": b"{",
                "no object": b"[]",
                "no text": b"\xff",
                "too deep": b"[" * 100_000,
                "other types": b'{"keys": 1, "issuer": 1}',
            }.items()
        ),
    ],
)
def test_an_issuer_that_misbehaves_is_not_believed(
    verifier: Verifier, issuer: Issuer, path: str, behaviour: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    issuer.behaviours[path] = behaviour
    began = time.monotonic()
    with pytest.raises(UnavailableError):
        verify(verifier, issuer, issuer.token(AUDIENCE))
    assert time.monotonic() - began < 5
    assert issuer.asked == ([DISCOVERY] if path == DISCOVERY else [DISCOVERY, JWKS])


def test_an_issuer_that_is_down_is_not_believed(verifier: Verifier) -> None:
    with issuing() as gone:
        token = gone.token(AUDIENCE)
    with pytest.raises(UnavailableError, match="cannot be read"):
        verify(verifier, gone, token)


def test_an_issuer_with_tls_needs_a_certificate_that_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = write_certificate(x509.IPAddress(ip_address("127.0.0.1")), tmp_path)
    with issuing(certificate) as issuer:
        with pytest.raises(UnavailableError, match=r"cannot be read \(SSLError\)"):
            verify(Verifier(), issuer, issuer.token(AUDIENCE))
        assert issuer.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert verify(Verifier(), issuer, issuer.token(AUDIENCE))["repository"] == "acme/widget"


def test_an_issuer_has_to_call_itself_by_its_name(verifier: Verifier, issuer: Issuer) -> None:
    issuer.documents[DISCOVERY] = {"issuer": "https://other.example", "jwks_uri": f"{issuer.url}{JWKS}"}
    with pytest.raises(UnavailableError, match="it calls itself something else"):
        verify(verifier, issuer, issuer.token(AUDIENCE))


@pytest.mark.parametrize(
    "url", [None, 1, "", "/jwks", "file:///etc/passwd", "http://keys.example/jwks", "https://a:b@keys.example/"]
)
def test_keys_are_looked_for_in_safe_places_only(verifier: Verifier, issuer: Issuer, url: object) -> None:
    issuer.documents[DISCOVERY] = {"issuer": issuer.url, "jwks_uri": url}
    with pytest.raises(UnavailableError, match="'jwks_uri'"):
        verify(verifier, issuer, issuer.token(AUDIENCE))


def test_keys_that_cannot_be_used_are_passed_over(verifier: Verifier, issuer: Issuer) -> None:
    issuer.published += [
        {"kid": "first", "kty": "oct", "k": encode("secret")},
        {"kid": "first", "kty": "RSA"},
        {"kid": "first", "kty": "new"},
        {"kid": 1, "kty": "RSA"},
        to_jwk(rsa_key("second"), "first", use="enc"),
        {**to_jwk(rsa_key("second"), "first"), "alg": ["RS256"]},
        {**to_jwk(rsa_key("second"), "first"), "alg": "HS256"},
    ]
    assert verify(verifier, issuer, issuer.token(AUDIENCE))["repository"] == "acme/widget"


def test_all_who_need_keys_at_once_have_them_fetched_once(issuer: Issuer) -> None:
    told = threading.Event()

    def wait(handler: BaseHTTPRequestHandler) -> None:
        told.wait(30)
        send(handler, issuer.documents[DISCOVERY])

    patient = Verifier(fetch_seconds=30)
    issuer.behaviours[DISCOVERY] = wait
    outcomes: queue.Queue[object] = queue.Queue()

    def try_it() -> None:
        try:
            outcomes.put(verify(patient, issuer, token))
        except UnavailableError as error:
            outcomes.put(str(error))

    token = issuer.token(AUDIENCE)
    threads = [threading.Thread(target=try_it) for _ in range(11)]
    for thread in threads:
        thread.start()
    wait_for(outcomes.qsize, lambda size: size == 3)  # of which three are too many, and are told so at once
    told.set()
    for thread in threads:
        thread.join()
    found = list(outcomes.queue)
    refused = f"too many wait for the keys of {issuer.url} just now; try again in a moment"
    assert found[:3] == [refused] * 3
    assert [outcome["iss"] for outcome in found[3:] if isinstance(outcome, dict)] == [issuer.url] * 8
    assert issuer.asked == [DISCOVERY, JWKS]


@pytest.mark.parametrize(
    "url",
    [
        "https://gitlab.com",
        "https://ghe.example/_services/token",
        "https://h:8443/",
        "http://127.0.0.1:80",
        "http://[::1]",
    ],
)
def test_what_may_be_an_issuer(url: str) -> None:
    check_issuer(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gitlab.com",
        "http://gitlab.com",
        "http://localhost",
        "http://127.0.0.1.example",
        "ftp://gitlab.com",
        "https://",
        "https://user@gitlab.com",
        "https://gitlab.com/?a",
        "https://gitlab.com/#a",
        "https://gitlab.com/?",
        "https://git lab.com",
        "https://gitlab.com\n",
        "https://gitläb.com",
        "https://[::1",
        "https://h:port",
    ],
)
def test_what_may_not(url: str) -> None:
    with pytest.raises(ValueError, match="is not an https URL"):
        check_issuer(url)
