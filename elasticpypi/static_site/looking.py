"""All that lies in an output, by the project to which it belongs, held in little memory."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping

from elasticpypi.names import NormalizedName
from elasticpypi.output import Written
from elasticpypi.static_site.rounds import METADATA, project_of

_OURS = ("simple/", "pypi/", "project/", "packages/", "changelog/", "assets/")


class Listing:
    """What lay in an output before the source was read. Paths at its top are not looked at."""

    def __init__(self, found: Iterable[Written], names: Container[NormalizedName], *, with_packages: bool) -> None:
        """`names` are the projects that there are: a directory below `packages/` may be named otherwise.

        `with_packages`: look there at all.
        """
        self.elsewhere: dict[str, Written] = {}  # core metadata below other paths than its project's
        self.others: dict[str, Written] = {}  # where only documents of ours should be, but of no project
        self._projects: dict[NormalizedName, list[str]] = {}
        for written in found:
            if with_packages or not written.path.startswith("packages/"):
                self._add(written, names)

    def _add(self, written: Written, names: Container[NormalizedName]) -> None:
        path = written.path
        name = project_of(path)
        if name is not None and (not path.startswith("packages/") or (name in names and _may_be_of(path, name))):
            # As text: an object for each of a hundred thousand documents takes three times as much.
            self._projects.setdefault(name, []).append(f"{written.size} {written.token}\0{path}")
        elif path.startswith("packages/"):
            if path.endswith(METADATA):
                self.elsewhere[path] = written
        elif path.startswith(_OURS):
            self.others[path] = written

    def names(self) -> Iterator[NormalizedName]:
        """Yield the projects of which something lies there."""
        yield from self._projects

    def of(self, name: NormalizedName) -> Mapping[str, Written]:
        """Return what lies there of a project."""
        found = {}
        for line in self._projects.get(name, ()):
            known, _, path = line.partition("\0")
            size, _, token = known.partition(" ")
            found[path] = Written(path, int(size), token)
        return found


def _may_be_of(path: str, name: NormalizedName) -> bool:
    """Whether core metadata may be that of a file of a project, as its name begins."""
    filename = path.rpartition("/")[2].lower()
    return filename.replace("_", "-").replace(".", "-").startswith(name)
