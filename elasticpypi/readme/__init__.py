"""READMEs, as safe HTML: what strangers have written into core metadata, as Markdown or reStructuredText.

`readme.rendering` runs in a process of its own, with bounds on its time and memory: there are READMEs of a few hundred
bytes that keep a renderer busy for hours. Its environment is clean, but it is no sandbox: it runs as the same user, and
may read what that user may. Specification: core metadata, "Description".
"""

from __future__ import annotations

import hashlib
import html
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

_MOST_BYTES = 512 * 1024  # of a README that is rendered; of a longer one so much is shown, as text
_MEMORY_BYTES = 16 * 2**20  # of rendered READMEs, in each process
_SECONDS = 5.0
_AT_ONCE = 2
_MOST_WAITING = 4  # views; each keeps a thread of the server
_RENDERED = {"text/markdown": "markdown", "text/x-rst": "rst"}
_DEFAULT = "text/x-rst"  # where the metadata names no type
_INHERITED = ("LD_LIBRARY_PATH", "PATH")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Readme:
    """A README to be put into a page."""

    html: str  # safe as it is
    images: int = 0  # how many were left out, for which a browser would have asked elsewhere
    is_cut: bool = False  # it goes on, and was too long


@dataclass(slots=True)
class _Rendering:
    """One that is under way, or was: others that want the same wait for it."""

    is_over: threading.Event = field(default_factory=threading.Event)
    readme: Readme | None = None  # None once it is over: it was never begun


class Readmes:
    """Renders each README once, as long as it is remembered; thread-safe."""

    def __init__(self, *, memory_bytes: int = _MEMORY_BYTES, seconds: float = _SECONDS) -> None:
        """Remember so many bytes of what was rendered; what takes longer than so many seconds is shown as text.

        So is, for this once, what waits longer than that for its turn, or for the same README that somebody else has
        rendered, and what comes while enough others wait.
        """
        self._memory_bytes = memory_bytes
        self._seconds = seconds
        self._known: dict[bytes, Readme] = {}  # the one used last comes last
        self._bytes = 0
        self._under_way: dict[bytes, _Rendering] = {}
        self._changing = threading.Lock()
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._places = threading.BoundedSemaphore(_MOST_WAITING)

    def render(self, description: str, content_type: str | None) -> Readme | None:
        """Return a description of this type (None: it has none) for a page; None where there is nothing in it."""
        if not description.strip():
            return None
        kind = _kind(content_type)
        raw = description.encode(errors="replace")
        if kind is None or len(raw) > _MOST_BYTES:
            return _as_text(raw)
        return self._find_or_render(raw, kind) or _as_text(raw)

    def _find_or_render(self, raw: bytes, kind: str) -> Readme | None:
        """Return what is remembered, what somebody else has rendered by now, or what we render; None: too busy."""
        key = hashlib.sha256(f"{kind}\0".encode() + raw).digest()
        with self._changing:
            known = self._find(key)
            if known is not None:
                return known
            others = self._under_way.get(key)
            if others is None:
                ours = self._under_way[key] = _Rendering()
        if others is not None:
            self._wait(lambda: others.is_over.wait(self._seconds))
            return others.readme
        try:
            ours.readme = self._render(raw, kind)
        finally:
            self._end(key, ours)
        return ours.readme

    def _render(self, raw: bytes, kind: str) -> Readme | None:
        """Render when there is a turn; None where there is none."""
        if not self._turns.acquire(blocking=False) and not self._wait(
            lambda: self._turns.acquire(timeout=self._seconds)
        ):
            return None
        try:
            return _run(raw, kind, self._seconds) or _as_text(raw)
        finally:
            self._turns.release()

    def _wait(self, wait: Callable[[], bool]) -> bool:
        """Return what waiting comes to; False at once where enough others wait."""
        if not self._places.acquire(blocking=False):
            return False
        try:
            return wait()
        finally:
            self._places.release()

    def _end(self, key: bytes, rendering: _Rendering) -> None:
        """Remember what came of it, also that it failed; it is over then, for all who wait for it."""
        with self._changing:
            del self._under_way[key]
            if rendering.readme is not None:
                self._remember(key, rendering.readme)
        rendering.is_over.set()

    def _find(self, key: bytes) -> Readme | None:
        known = self._known.pop(key, None)
        if known is not None:
            self._known[key] = known
        return known

    def _remember(self, key: bytes, readme: Readme) -> None:
        self._bytes += len(readme.html) - self._forget(key)
        self._known[key] = readme
        while self._bytes > self._memory_bytes:
            self._bytes -= self._forget(next(iter(self._known)))

    def _forget(self, key: bytes) -> int:
        forgotten = self._known.pop(key, None)
        return 0 if forgotten is None else len(forgotten.html)


def _kind(content_type: str | None) -> str | None:
    """Return how a content type is rendered, with the variant of Markdown; None where it is text."""
    media_type, *parameters = (part.strip().lower() for part in (content_type or _DEFAULT).split(";"))
    if media_type == "text/markdown" and "variant=commonmark" in parameters:
        return "commonmark"
    return _RENDERED.get(media_type)


def _as_text(raw: bytes) -> Readme:
    is_cut = len(raw) > _MOST_BYTES
    text = raw[:_MOST_BYTES].decode(errors="ignore")
    return Readme(f'<pre class="text" tabindex="0">{html.escape(text)}</pre>', is_cut=is_cut)


def _run(raw: bytes, kind: str, seconds: float) -> Readme | None:
    """Have a README rendered by a process of its own; None where that comes to nothing."""
    inherited = os.environ  # noqa: TID251  # what Python itself needs on this machine, and none of our settings
    environment = {name: inherited[name] for name in _INHERITED if name in inherited}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-P", "-W", "ignore", "-m", "elasticpypi.readme.rendering", kind]
    try:
        done = subprocess.run(  # noqa: S603  # nothing of the README is in the command
            command, input=raw, capture_output=True, timeout=seconds, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        _log.warning("a README is shown as text: rendering it took longer than %s seconds", seconds)
        return None
    if done.returncode != 0:  # it is no such thing, or it is hostile: not our trouble
        _log.info("a README is shown as text: %r", done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
        return None
    found = json.loads(done.stdout)
    return Readme(found["html"], found["images"])
