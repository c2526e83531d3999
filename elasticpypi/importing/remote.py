"""Files and pages of a source that are fetched over HTTP, with patience, credentials and no secrets in messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

import elasticpypi
from elasticpypi.errors import InterruptedDownloadError, SourceError

TIMEOUT_SECONDS = 30.0  # to connect, and between two pieces of an answer
_CHUNK_BYTES = 1024 * 1024
_RETRIES = 4
_RETRY_STATUSES = (429, 500, 502, 503, 504)
_RETRY_AFTER_SECONDS = 60  # at most, whatever an index asks for


def open_session(url: str, *, backoff_seconds: float = 0.5) -> requests.Session:
    """Return a session that retries, and sends the credentials in a URL to its own host and to no other.

    Without credentials in the URL those in the user's netrc count. Between retries it waits `backoff_seconds`, doubled
    each time.
    """
    session = requests.Session()
    session.headers["User-Agent"] = f"elasticpypi/{elasticpypi.__version__}"
    retry = Retry(
        total=_RETRIES,
        backoff_factor=backoff_seconds,
        status_forcelist=_RETRY_STATUSES,
        raise_on_status=False,
        retry_after_max=_RETRY_AFTER_SECONDS,
    )
    session.mount("https://", HTTPAdapter(max_retries=retry))
    session.mount("http://", HTTPAdapter(max_retries=retry))
    parts = urlsplit(url)
    if parts.username is not None:
        session.auth = _SameHostAuth(parts)
    return session


class _SameHostAuth:
    """Basic authentication for the host that a URL with credentials names."""

    def __init__(self, parts: SplitResult) -> None:
        self._host = _host(parts)
        # Bytes, because requests would write anything else as Latin-1.
        self._basic = HTTPBasicAuth(unquote_to_bytes(parts.username or ""), unquote_to_bytes(parts.password or ""))

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return self._basic(request) if _host(urlsplit(request.url or "")) == self._host else request


def _host(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def without_credentials(url: str) -> str:
    """Return a URL as it may be given on: its credentials go with the session."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


@dataclass(frozen=True, slots=True)
class RemoteContent:
    """A `Content` behind a URL."""

    session: requests.Session
    url: str

    @contextmanager
    def read(self) -> Iterator[Iterator[bytes]]:
        # The bytes as they lie there: what a server calls gzip-encoded may be an sdist, which is to stay one.
        headers = {"Accept-Encoding": "identity"}
        with fetching(self.url):
            response = self.session.get(self.url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS)
        with response:
            if response.status_code != 200:
                raise _refusal(response.status_code, self.url)
            yield self._pieces(response)

    def _pieces(self, response: requests.Response) -> Iterator[bytes]:
        try:
            yield from response.raw.stream(_CHUNK_BYTES, decode_content=False)
        except (HTTPError, OSError) as error:
            raise InterruptedDownloadError(
                f"the download from {server_of(self.url)} broke off; import again"
            ) from error

    def sha256(self) -> None:
        return None


@contextmanager
def fetching(url: str) -> Iterator[None]:
    """Turn errors of asking for a URL into SourceError; what is after the host may be secret."""
    try:
        yield
    except requests.JSONDecodeError:
        raise  # the answer has come; what is in it is the caller's
    except requests.HTTPError as error:
        raise _refusal(0 if error.response is None else error.response.status_code, url) from error
    except requests.Timeout as error:
        raise SourceError(
            f"{server_of(url)} does not answer within {TIMEOUT_SECONDS:.0f} seconds; try again"
        ) from error
    except requests.TooManyRedirects as error:
        raise SourceError(f"{server_of(url)} redirects again and again") from error
    except requests.ConnectionError as error:
        raise SourceError(f"{server_of(url)} cannot be reached; is it there, and is its certificate valid?") from error
    except (requests.RequestException, HTTPError) as error:
        raise SourceError(f"{server_of(url)} cannot be asked ({type(error).__name__})") from error


def _refusal(status: int, url: str) -> SourceError:
    said = f"{server_of(url)} answers {status}"
    if status in (401, 403):
        return SourceError(f"{said}: put the right credentials into the URL (https://USER:PASSWORD@…) or into ~/.netrc")
    return SourceError(f"{said}; try again later" if status in _RETRY_STATUSES else said)


def server_of(url: str) -> str:
    """Return scheme and host of a URL: what follows may be a secret, as some indexes have tokens there."""
    parts = urlsplit(without_credentials(url))
    return f"{parts.scheme}://{parts.netloc}"
