"""Bytes that go straight to the storage of an index, by requests that it has signed for them.

Such a request needs no credentials and is given none. Whatever the storage says, its URL is a secret and stays one.
"""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from elasticpypi.client.asking import PassingError, ask, make_printable, open_session
from elasticpypi.client.files import Part, Progress
from elasticpypi.errors import UploadFailedError

# Statuses and codes after which a new signature, or another look at what is there, may help: the old one has expired,
# somebody has brought the same bytes, or the storage had a bad moment.
_PASSING = frozenset({403, 404, 409, 412, 500})
_PASSING_CODES = frozenset({"ExpiredToken", "RequestTimeout", "RequestTimeTooSkewed", "SlowDown"})
_MOST_CHARACTERS = 65_536  # of an answer, in which an error is looked for


@dataclass(frozen=True, slots=True)
class SignedPut:
    """A request that brings some bytes of a file to the storage."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    offset: int  # of the first byte
    size: int  # bytes


def read_puts(puts: Any, *, index_url: str, size: int) -> tuple[SignedPut, ...]:
    """Read what an index has signed for a file of this size; raise ValueError where nobody should do such a thing."""
    found = tuple(_read_put(put) for put in _checked(puts, list))
    schemes = {"https", urlsplit(index_url).scheme}  # what came here safely must not go on in the clear
    for put in found:
        if urlsplit(put.url).scheme not in schemes or not 0 <= put.offset < put.offset + put.size <= size:
            raise ValueError("a request of another kind than expected")
    return found


class StorageClient:
    """The storage behind an index."""

    def __init__(self) -> None:
        self._session = open_session()
        self._session.headers.clear()
        self._session.auth = _give_none  # requests would look for some in a netrc file

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def put(self, path: Path, request: SignedPut, progress: Progress) -> None:
        """Send some bytes of a file; raise PassingError or UploadFailedError."""
        with path.open("rb") as stream:
            part = Part(stream, request.offset, request.size, progress)
            response = ask(self._session, "PUT", request.url, data=part, headers=dict(request.headers))
        if response.status_code not in (200, 201, 204):
            raise _error(response)


class Tally:
    """Adds up how far the parts of a file have come that are sent at the same time."""

    def __init__(self, received: int, progress: Progress) -> None:
        self._received = received
        self._sent: dict[int, int] = {}
        self._progress = progress
        self._lock = threading.Lock()

    def of(self, put: SignedPut) -> Progress:
        """Return what is told how far this part has come."""

        def progress(position: int) -> None:
            with self._lock:
                self._sent[put.offset] = position - put.offset
                self._progress(self._received + sum(self._sent.values()))

        return progress


def _read_put(put: Any) -> SignedPut:
    named = _checked(put, dict)
    if named.get("method") != "PUT":
        raise ValueError("a request of another method than expected")
    headers = {_checked(name, str): _checked(value, str) for name, value in _checked(named["headers"], dict).items()}
    return SignedPut(_checked(named["url"], str), headers, _checked(named["offset"], int), _checked(named["size"], int))


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"no {kind.__name__}")  # one error for all that is not as it should be
    return value


def _give_none(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _error(response: requests.Response) -> PassingError | UploadFailedError:
    """Return what an answer of the storage means; S3 says it in XML."""
    said = response.text[:_MOST_CHARACTERS]
    code, message = (_element(said, name) for name in ("Code", "Message"))
    reason = ": ".join(filter(None, (code, message))) or make_printable(str(response.reason))
    sentence = f"the storage answers {response.status_code} {reason}".rstrip(".")
    if response.status_code in _PASSING or code in _PASSING_CODES:
        return PassingError(sentence)
    return UploadFailedError(f"{sentence}; ask whoever runs the index")


def _element(said: str, name: str) -> str:
    found = re.search(rf"<{name}>([^<]*)</{name}>", said)
    return make_printable(html.unescape(found[1])) if found else ""
