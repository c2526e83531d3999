"""What of an answer comes through a gateway that carries only so much."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest
from werkzeug.test import Client

from elasticpypi.web.carried import TEXT_TYPES, CarriedAnswers, carried_bytes, is_carried, most_binary_bytes

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def answering(body: bytes, *headers: tuple[str, str], most_bytes: int = 1000) -> Client:
    """Return a client of an application that answers just this."""

    def app(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 Fine", [*headers, ("Content-Length", str(len(body)))])
        return [body[:10], body[10:]]

    return Client(CarriedAnswers(app, most_bytes))


@pytest.mark.parametrize(
    "text", ["", "plain", 'a "quote" and a \\', "ä\u20ac\U0001f40d", "\x00\x1f\n\u2028\x7f", '{"url":"../"}' * 50]
)
def test_text_is_measured_as_it_stands_in_json_and_all_else_as_base64(text: str) -> None:
    body = text.encode()
    assert carried_bytes(body, is_text=True) == len(json.dumps(text))
    assert carried_bytes(body, is_text=False) == len(base64.b64encode(body))
    for is_text in (True, False):
        most = carried_bytes(body, is_text=is_text)
        assert is_carried(body, most, is_text=is_text)
        assert is_carried(body, None, is_text=is_text)
        assert not is_carried(body, most - 1, is_text=is_text) or not body


@pytest.mark.parametrize("most_bytes", [4, 5, 1000, 6_275_072])
def test_as_many_bytes_as_that_go_as_base64(most_bytes: int) -> None:
    most = most_binary_bytes(most_bytes)
    assert is_carried(bytes(most), most_bytes, is_text=False)
    assert not is_carried(bytes(most + 3), most_bytes, is_text=False)


@pytest.mark.parametrize("content_type", [*TEXT_TYPES, "text/plain; charset=utf-8", "TEXT/HTML"])
def test_text_that_is_too_large_goes_compressed_to_whom_takes_it(content_type: str) -> None:
    body = b"words " * 500
    client = answering(body, ("Content-Type", content_type), ("ETag", '"a"'), ("Vary", "Authorization"))
    answer = client.get("/", headers={"Accept-Encoding": "gzip"})
    assert gzip.decompress(answer.data) == body
    assert (answer.headers["ETag"], answer.headers["Vary"]) == ('W/"a"', "Authorization, Accept-Encoding")
    assert answer.headers["Content-Length"] == str(len(answer.data))
    refused = client.get("/api/v1/projects/acme")
    assert (refused.status_code, refused.json and refused.json["error"]) == (501, "answer-too-large")


@pytest.mark.parametrize("headers", [[("Content-Type", "application/octet-stream")], [("Content-Encoding", "gzip")]])
def test_other_bytes_that_are_too_many_are_refused_in_words(headers: list[tuple[str, str]]) -> None:
    refused = answering(b"x" * 2000, *headers).get("/", headers={"Accept-Encoding": "gzip"})
    assert refused.status_code == 501
    assert "2000 bytes" in refused.text
    assert "elasticpypi serve" in refused.text


def test_what_fits_is_left_as_it_is_but_for_headers_that_come_twice() -> None:
    several = [("Vary", "Accept"), ("WWW-Authenticate", "Basic"), ("vary", "Authorization"), ("X", "1")]
    answer = answering(b"x" * 100, ("Content-Type", "image/png"), *several).get("/")
    assert (answer.status, answer.data) == ("200 Fine", b"x" * 100)
    assert list(answer.headers) == [
        ("Content-Type", "image/png"),
        ("Vary", "Accept, Authorization"),
        ("WWW-Authenticate", "Basic"),
        ("X", "1"),
        ("Content-Length", "100"),
    ]
