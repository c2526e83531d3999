"""Which files of an upstream our clients see, which are held back, and why. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase, translate
from functools import lru_cache

from packaging.utils import canonicalize_version
from packaging.version import Version

from elasticpypi.config import Upstream
from elasticpypi.model import Status
from elasticpypi.names import NormalizedName
from elasticpypi.upstream.fetching import may_be_asked
from elasticpypi.upstream.model import HeldBack, KeptFile, UpstreamFile, UpstreamPage

_QUARANTINED = "belongs to a project that the upstream has quarantined"
_OTHER_BYTES = "has other hashes on the upstream's page than the file that is kept under this name"
_NOT_ALLOWED = "matches nothing in the upstream's 'allow-files'"
_OTHER_HOST = "lies on a host that is neither that of the upstream's 'url' nor among its 'hosts'"
_NO_SHA256 = "has no sha256 on the upstream's page, so that what comes could not be verified"
_NO_TIME = "has no upload time on the upstream's page, so that its age is not known"
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)


def hold_back(
    upstream: Upstream, project: NormalizedName, page: UpstreamPage, kept: Mapping[str, KeptFile], *, now: datetime
) -> tuple[tuple[UpstreamFile, ...], tuple[HeldBack, ...]]:
    """Return what is shown of a project's page and of what is kept (by filename), and what is held back.

    Both come by version, then filename. A file that is kept stays, whatever becomes of it on the page, and however old
    files have to be by now; but upstream can quarantine its project, and people deny its name.
    """
    on_page = {file.filename: file for file in page.files}
    here = {filename: _as_kept(file.file, on_page.get(filename)) for filename, file in kept.items()}
    files = [*(on_page | here).values()] if here.keys() <= on_page.keys() else _in_order((on_page | here).values())
    if page.status is Status.QUARANTINED:
        return (), tuple(HeldBack(file, _QUARANTINED) for file in files)
    denied = {pattern: re.compile(translate(pattern.lower())).match for pattern in upstream.deny_files}
    rules = _Rules(upstream, project, denied, upstream.min_age_of(project), now)
    shown, held_back = list[UpstreamFile](), list[HeldBack]()
    for file in files:
        filename = file.filename
        held = rules.deny(file) if filename in here else rules.deny(file) or rules.doubt(file)
        if held is None:
            shown.append(file)
        else:
            held_back.append(held)
        if filename in here and _are_other_bytes(kept[filename].file, on_page.get(filename)):
            held_back.append(HeldBack(on_page[filename], _OTHER_BYTES))
    return tuple(shown), tuple(held_back)


def next_change(held: Iterable[HeldBack]) -> datetime | None:
    """Return when the first of what is held back will be shown, by itself; None: nothing will."""
    return min((each.until for each in held if each.until is not None), default=None)


def _as_kept(kept: UpstreamFile, now: UpstreamFile | None) -> UpstreamFile:
    """Return a file that is kept as it is shown, given what the page has under its name now.

    That it is yanked is what people decide later. Everything else was said of the bytes that lie here, and a page of
    today says nothing new of them: other core metadata would bring other dependencies to them.
    """
    if now is None or _are_other_bytes(kept, now):
        return kept
    return replace(kept, yanked=now.yanked)


def _are_other_bytes(kept: UpstreamFile, now: UpstreamFile | None) -> bool:
    return now is not None and any(
        now.hashes[algorithm] != digest for algorithm, digest in kept.hashes.items() if algorithm in now.hashes
    )


def _in_order(files: Collection[UpstreamFile]) -> list[UpstreamFile]:
    versions = {text: Version(text) for text in {file.version for file in files}}
    return sorted(files, key=lambda file: (versions[file.version], file.filename))


def _spellings(file: UpstreamFile, project: NormalizedName) -> set[str]:
    """Return the filenames, in lowercase, that stand for the same file: installers see no difference between them."""
    written = file.filename.lower()
    rest = _after_version(written)
    return {written, *(before + rest for before in _before_rest(project, file.version))}


@lru_cache(maxsize=1024)  # a release has many files
def _before_rest(project: NormalizedName, version: str) -> frozenset[str]:
    """Return how people write a name and a normalised version in a filename: 6.6 also as 6.6.0."""
    base = Version(version).base_version
    shortest, more = canonicalize_version(base), version.removeprefix(base)
    versions = (version, *(f"{shortest}{zeros}{more}" for zeros in ("", ".0", ".0.0")))
    return frozenset(f"{name}-{each}" for name in (project, project.replace("-", "_")) for each in versions)


def _after_version(filename: str) -> str:
    """Return what a filename has behind the version: tags, if it is that of a wheel or an egg, and its ending."""
    stem, _, ending = filename.rpartition(".")
    if ending in ("whl", "egg"):
        return "".join(f"-{tags}" for tags in stem.split("-", 2)[2:]) + f".{ending}"
    return f".tar.{ending}" if stem.endswith(".tar") else f".{ending}"


@dataclass(frozen=True, slots=True)
class _Rules:
    """The rules of an upstream for the files of one project. A file is shown of which nobody says otherwise."""

    upstream: Upstream
    project: NormalizedName
    denied: Mapping[str, Callable[[str], object]]  # pattern -> whether it matches a filename in lowercase
    min_age_days: int
    now: datetime
    _hosts: dict[str, bool] = field(default_factory=dict)  # origin of a URL -> whether it is one of the upstream's

    def deny(self, file: UpstreamFile) -> HeldBack | None:
        """Hold back what people do not want, whatever it is."""
        denied = self._denying(file) if self.denied else None
        if denied is not None:
            return HeldBack(file, f"matches {denied!r} in the upstream's 'deny-files'")
        if not any(fnmatchcase(file.filename, pattern) for pattern in self.upstream.allow_files):
            return HeldBack(file, _NOT_ALLOWED)
        return None

    def _denying(self, file: UpstreamFile) -> str | None:
        spellings = _spellings(file, self.project)
        return next((pattern for pattern, matches in self.denied.items() if any(map(matches, spellings))), None)

    def doubt(self, file: UpstreamFile) -> HeldBack | None:
        """Hold back what cannot be trusted, or not yet."""
        if not self._is_at_home(file.url):
            return HeldBack(file, _OTHER_HOST)
        if self.upstream.brings_files and file.sha256 is None:
            return HeldBack(file, _NO_SHA256)
        return self._wait(file) if self.min_age_days > 0 else None

    def _is_at_home(self, url: str) -> bool:
        origin = "/".join(url.split("/", 3)[:3])  # a page has few, and thousands of files
        if origin not in self._hosts:
            self._hosts[origin] = may_be_asked(self.upstream, f"{origin}/")
        return self._hosts[origin]

    def _wait(self, file: UpstreamFile) -> HeldBack | None:
        days = self.min_age_days
        if file.upload_time is None:
            return None if self.upstream.undated_are_old else HeldBack(file, _NO_TIME)
        until = min(file.upload_time, _END_OF_TIME - timedelta(days)) + timedelta(days)
        if until <= self.now:
            return None
        return HeldBack(file, f"is younger than {days} day{'' if days == 1 else 's'}", until)
