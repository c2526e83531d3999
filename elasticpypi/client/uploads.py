"""Uploads to an index over HTTP, as its `/api/v1/uploads` takes them: straight to its storage, or in parts through it.

Whatever goes wrong on the way, the next step is the same: begin again, which changes nothing and tells how much has
arrived, or that somebody has brought the file in the meantime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urljoin

import requests
from requests.utils import get_netrc_auth

from elasticpypi.client.asking import (
    PassingError,
    Patience,
    Wait,
    ask,
    make_printable,
    open_session,
    read_object,
    read_retry_after,
    read_sentence,
)
from elasticpypi.client.at_once import run_at_once
from elasticpypi.client.direct import SignedPut, StorageClient, Tally, read_puts
from elasticpypi.client.files import CheckedFile, Part, Progress
from elasticpypi.errors import UploadFailedError, UploadRefusedError
from elasticpypi.index import Added

T = TypeVar("T")

_PATH = "api/v1/uploads"
_LEAST_PART_BYTES = 512 * 1024  # nginx takes 1 MiB if nobody has told it otherwise
_PUTS_AT_ONCE = 4  # parts of one file
_FINISHING_DELAYS_SECONDS = (2.0, 3.0, 5.0, 10.0, 20.0, *[30.0] * 40)  # 20 minutes: longer than Lambda would work on it


def netrc_credentials(url: str) -> tuple[str, str] | None:
    """Return the username and password that a netrc file (`NETRC`, else `~/.netrc`) has for a URL's host."""
    return get_netrc_auth(url)


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where the bytes of one file go."""

    received: int  # bytes
    status_url: str
    finish_url: str
    parts_url: str
    part_bytes: int  # that the index likes best
    puts: tuple[SignedPut, ...] | None  # to the storage, for what is missing or some of it; None: in parts


class IndexClient:
    """An index that files are uploaded to, by several threads. Every method may raise UploadFailedError."""

    def __init__(self, url: str, credentials: tuple[str, str] | None, *, wait: Wait) -> None:
        """`wait(seconds, problem)` is called before something is tried again."""
        self._uploads_url = urljoin(url, _PATH)
        self._wait = wait
        self._part_bytes: int | None = None  # smaller than the index likes, once something has gone wrong
        self._session = open_session()
        self._storage = StorageClient()
        if credentials is not None:
            username, password = credentials
            # requests encodes them as latin-1, whatever they are: this way UTF-8 arrives.
            self._session.auth = (username.encode().decode("latin-1"), password.encode().decode("latin-1"))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
        self._storage.close()

    def has(self, file: CheckedFile) -> bool:
        """Whether the file is there already; raise UploadRefusedError where the index says that it will not take it."""
        return self._persist(file, lambda _: self._begin(file)) is None

    def upload(self, file: CheckedFile, progress: Progress) -> Added:
        """Send what is not there yet of a file, and have it listed; raise UploadRefusedError."""

        def attempt(patience: Patience) -> Added:
            slot = self._begin(file)
            if slot is None:
                return Added.UNCHANGED
            patience.renew(slot.received)
            if slot.puts is None:
                self._send_rest(file, slot, progress)
            else:
                self._put_rest(file, slot.received, slot.puts, progress)
            return self._finish(file, slot)

        return self._persist(file, attempt)

    def _persist(self, file: CheckedFile, attempt: Callable[[Patience], T]) -> T:
        """Try again whatever is interrupted, as long as the patience lasts."""
        patience = Patience(lambda seconds, problem: self._wait(seconds, f"{file.filename}: {problem}"))
        while True:
            try:
                return attempt(patience)
            except PassingError as problem:
                patience.wait(problem)
                if self._part_bytes is not None:  # what is broken or refused on the way is so less often if it is small
                    self._part_bytes = max(_LEAST_PART_BYTES, self._part_bytes // 4)

    def _begin(self, file: CheckedFile) -> _Slot | None:
        """Return where a file goes; None if it is there."""
        document = {"filename": file.filename, "size": file.size, "sha256": file.sha256}
        response = ask(self._session, "POST", self._uploads_url, json=document)
        if response.status_code in (404, 405):
            raise self._not_ours()
        answer = _read_done(response)
        return None if answer.get("status") == "unchanged" else self._read_slot(answer, file.size)

    def _read_slot(self, answer: Mapping[str, Any], size: int) -> _Slot:
        try:
            received, finish_url = int(answer["received"]), self._url(answer["finish-url"])
            if not 0 <= received <= size:
                raise self._not_ours()
            if "puts" in answer:
                puts = read_puts(answer["puts"], index_url=self._uploads_url, size=size)
                return _Slot(received, self._url(answer["status-url"]), finish_url, "", 0, puts)
            parts_url = self._url(answer["parts-url"])
            return _Slot(received, parts_url, finish_url, parts_url, int(answer["part-bytes"]), None)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise self._not_ours() from error

    def _url(self, relative: str) -> str:
        url = urljoin(self._uploads_url, relative)
        if not url.startswith(f"{self._uploads_url}/"):  # it would be given the credentials
            raise self._not_ours()
        return url

    def _not_ours(self) -> UploadFailedError:
        return UploadFailedError(
            f"{self._uploads_url} does not take uploads: correct the URL, or if the index is another than elasticpypi, "
            "use 'twine upload --repository-url'"
        )

    def _send_rest(self, file: CheckedFile, slot: _Slot, progress: Progress) -> None:
        """Send what is missing through the index, one part after the other."""
        part_bytes = self._part_bytes = self._part_bytes or max(slot.part_bytes, _LEAST_PART_BYTES)
        with file.path.open("rb") as stream:
            progress(slot.received)
            for offset in range(slot.received, file.size, part_bytes):
                part = Part(stream, offset, min(part_bytes, file.size - offset), progress)
                headers = {"Upload-Offset": str(offset), "Content-Type": "application/partial-upload"}
                self._ask_slot("PATCH", slot.parts_url, data=part, headers=headers)

    def _put_rest(self, file: CheckedFile, received: int, puts: tuple[SignedPut, ...], progress: Progress) -> None:
        """Send what is missing straight to the storage; the index signs some at a time."""
        while True:
            self._put_all(file, received, puts, progress)
            arrived = received + sum(put.size for put in puts)
            if arrived >= file.size:
                return
            slot = self._begin(file)
            if slot is None or slot.puts is None or slot.received <= received:
                raise PassingError("what was sent has not arrived, or somebody else is sending it too")
            received, puts = slot.received, slot.puts

    def _put_all(self, file: CheckedFile, received: int, puts: tuple[SignedPut, ...], progress: Progress) -> None:
        progress(received)
        tally = Tally(received, progress)
        run_at_once(lambda put: self._storage.put(file.path, put, tally.of(put)), puts, threads=_PUTS_AT_ONCE)

    def _finish(self, file: CheckedFile, slot: _Slot) -> Added:
        """Have the file listed, and wait for that where it takes its time."""
        response = self._ask_slot("POST", slot.finish_url)
        for delay in _FINISHING_DELAYS_SECONDS:
            if response.status_code != requests.codes.accepted:
                return _read_added(read_object(response))
            self._wait(max(delay, read_retry_after(response)), f"{file.filename}: the index is still checking it")
            response = self._ask_slot("GET", slot.status_url)
            if "received" in read_object(response):
                raise PassingError("the index has forgotten that it was checking it")
        raise UploadFailedError(
            "the index has all bytes, but has been checking them for 20 minutes: "
            "the same command later tells what has become of it"
        )

    def _ask_slot(self, method: str, url: str, **options: Any) -> requests.Response:
        """Ask for a slot, which may be somebody else's turn, finished or gone; and a proxy may want smaller parts."""
        response = ask(self._session, method, url, **options)
        is_elsewhere = response.status_code == 409 and "received" in read_object(response)
        if response.status_code == 413 and self._part_bytes not in (None, _LEAST_PART_BYTES):
            raise PassingError(read_sentence(response), retry_after_seconds=None)
        if response.status_code == 404 or is_elsewhere:
            raise PassingError(read_sentence(response))
        _read_done(response)
        return response


def _read_done(response: requests.Response) -> Mapping[str, Any]:
    """Return what an index answers, if it has done, or is doing, what it was asked to."""
    if response.status_code in (200, 201, 202):
        return read_object(response)
    if response.is_redirect:
        elsewhere = make_printable(response.headers["Location"])
        raise UploadFailedError(f"the index is elsewhere: give the URL that {elsewhere} belongs to")
    if response.status_code == 401 or response.status_code >= 500:
        raise UploadFailedError(read_sentence(response))
    raise UploadRefusedError(read_sentence(response))


def _read_added(answer: Mapping[str, Any]) -> Added:
    try:
        return Added[str(answer.get("status")).upper()]
    except KeyError as error:
        raise UploadFailedError("the index does not say what it has done: look at its pages") from error
