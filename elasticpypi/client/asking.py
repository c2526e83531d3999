"""Asking over HTTP: what passes and what does not, and answers as one sentence that is safe for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from elasticpypi.errors import UploadFailedError

Wait = Callable[[float, str], None]  # is called with seconds and the reason, before something is tried again

_CONNECTIONS = 128  # kept open: several files at once, several parts of each
_DELAYS_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # a minute in all, as long as nothing arrives
_MOST_DELAY_SECONDS = 60.0  # whatever Retry-After says
_TIMEOUT_SECONDS = (60.0, 300.0)  # until connected or something was sent, until answered; a large file takes its time
_PASSING = frozenset({408, 425, 429, 502, 503, 504})  # statuses after which asking again may help
_MOST_CHARACTERS = 500  # of a sentence that somebody else says


class PassingError(Exception):
    """Something that passes; the text says what."""

    def __init__(self, problem: str, *, retry_after_seconds: float | None = 0.0) -> None:
        super().__init__(problem)
        self.retry_after_seconds = retry_after_seconds  # None: at once, since another thing will be tried


class Patience:
    """Waits longer and longer, until it is exhausted; renewed by every byte that arrives."""

    def __init__(self, wait: Wait) -> None:
        self._wait = wait
        self._delays = iter(_DELAYS_SECONDS)
        self._arrived = 0

    def renew(self, arrived: int) -> None:
        if arrived > self._arrived:
            self._arrived, self._delays = arrived, iter(_DELAYS_SECONDS)

    def wait(self, problem: PassingError) -> None:
        if problem.retry_after_seconds is None:
            return
        delay = next(self._delays, None)
        if delay is None:
            raise UploadFailedError(f"{problem}; it was tried for a minute. The same command goes on where it stopped")
        self._wait(min(max(delay, problem.retry_after_seconds), _MOST_DELAY_SECONDS), str(problem))


def open_session() -> requests.Session:
    """Return a session for several threads."""
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
    return session


def ask(session: requests.Session, method: str, url: str, **options: Any) -> requests.Response:
    """Ask, and return any answer but those that pass: PassingError, as for a broken connection.

    Raise UploadFailedError where nobody can be asked. No error names more of the URL than the host: it may be a secret.
    """
    try:
        response = session.request(method, url, allow_redirects=False, timeout=_TIMEOUT_SECONDS, **options)
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise UploadFailedError(
                f"the certificate of {_host(url)} is not trusted; name its authority with REQUESTS_CA_BUNDLE"
            ) from None
        raise PassingError("the connection broke, or there was none") from None
    except requests.RequestException as error:
        raise UploadFailedError(f"{_host(url)} cannot be asked ({type(error).__name__}): correct the URL") from None
    if response.status_code in _PASSING:
        raise PassingError(read_sentence(response), retry_after_seconds=read_retry_after(response))
    return response


def read_object(response: requests.Response) -> Mapping[str, Any]:
    """Return the JSON object that was answered, an empty one where it was something else."""
    try:
        document = response.json()
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def read_sentence(response: requests.Response) -> str:
    """Return what an index says of an error."""
    said = read_object(response).get("message")
    if not isinstance(said, str) and response.headers.get("Content-Type", "").startswith("text/plain"):
        said = response.text
    sentence = make_printable(said) if isinstance(said, str) else ""
    reason = make_printable(str(response.reason))
    return sentence or f"the index, or a proxy before it, answers {response.status_code} {reason}"


def make_printable(text: str) -> str:
    """Return the beginning of a text in one line, without what a terminal would take for more than text."""
    line = " ".join(text.split())[:_MOST_CHARACTERS]
    return "".join(character for character in line if character.isprintable())


def read_retry_after(response: requests.Response) -> float:
    """Return how many seconds one is asked to wait, at most a minute; 0 where nothing is said of it."""
    value = response.headers.get("Retry-After", "")
    return min(float(value), _MOST_DELAY_SECONDS) if value.isascii() and value.isdigit() else 0.0


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "the URL"
    except ValueError:
        return "the URL"
