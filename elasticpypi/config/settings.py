"""The settings: what an index is told, in types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase

TOKEN_USERNAME = "__token__"  # noqa: S105  # that clients give with a token, as on PyPI
RUNTIMES = ("python3.13", "python3.14")
ARCHITECTURES = ("arm64", "x86_64")
CORE_METADATA_PLACES = ("output", "beside", "none")


class Permission(StrEnum):
    """What a principal may do, from the least to the most; each includes those before it."""

    READ = "read"
    UPLOAD = "upload"
    ADMIN = "admin"

    def includes(self, other: Permission) -> bool:
        """Whether whoever has this permission also has the other one."""
        return _RANKS[self] >= _RANKS[other]


_RANKS = {permission: rank for rank, permission in enumerate(Permission)}


class OutputAccess(StrEnum):
    """Who may read the index that is written as files into a bucket."""

    CLOUDFRONT = "cloudfront"  # CloudFront alone, which may ask for a password
    WEBSITE = "website"  # everybody: S3 itself serves it as a website


class Gateway(StrEnum):
    """What stands before the API on AWS."""

    REST = "rest"  # with answers of its own that can be worded, and a stage in its URLs
    HTTP = "http"  # cheaper, at the root of its host


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may use the index with a name and a password."""

    username: str
    password: str = field(repr=False)  # plain text or a hash, see `is_hash`
    permission: Permission = Permission.READ
    projects: tuple[str, ...] = ("*",)  # patterns (fnmatch) of normalised project names


class UpstreamMode(StrEnum):
    """How a name that is not ours is answered."""

    REDIRECT = "redirect"  # clients are sent to the other index
    PROXY = "proxy"  # its page comes through us, and what is hidden is not on it


@dataclass(frozen=True, slots=True)
class Upstream:
    """Another index, which is asked for names that are not ours."""

    name: str  # in messages and on pages: lowercase letters, digits, '.', '-'
    url: str  # of its `/simple/`, with a slash at its end, without credentials
    mode: UpstreamMode
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    allow: tuple[str, ...] = ("*",)  # patterns (fnmatch) of normalised project names it may be asked for
    deny: tuple[str, ...] = ()  # those that it is not, which win
    allow_files: tuple[str, ...] = ("*",)  # patterns (fnmatch, as written) of filenames
    deny_files: tuple[str, ...] = ()
    min_age_days: int = 0  # files that were uploaded later are left out
    min_age_exceptions: Mapping[str, int] = field(default_factory=dict)  # pattern of project names -> days; first wins
    undated_are_old: bool = False  # whether files without an upload time are listed where there is a minimum age
    keep: bool = False  # whether files that were used once stay here
    hosts: tuple[str, ...] = ()  # "host" or "host:port" that files and redirects may lead to, beside that of the URL
    private: bool = False  # whether its hosts may have addresses that are not public

    @property
    def brings_files(self) -> bool:
        """Whether files come through us; else clients get them where the page says."""
        return self.keep or self.username is not None

    def min_age_of(self, project: str) -> int:
        """Return the minimum age of a project's files, in days."""
        for pattern, days in self.min_age_exceptions.items():
            if fnmatchcase(project, pattern):
                return days
        return self.min_age_days


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration of one index; docs/configuration.md explains each key."""

    service: str = "elasticpypi"
    stage: str = "dev"  # without its leading slash
    bucket: str | None = None  # None: a directory instead of S3
    table: str | None = None  # None: SQLite instead of DynamoDB
    profile: str | None = None  # None: the default AWS credentials
    username: str | None = None  # None: there is no main user yet; the local server makes one
    password: str | None = field(default=None, repr=False)
    overwrite: bool = False
    users: tuple[User, ...] = ()  # further users, beside the main one
    data: str | None = None  # directory of the local adapters; None: the command's default
    url: str | None = None  # where clients find the index; None: as each of them asks
    region: str | None = None  # of AWS; None: as the environment or the profile says
    gateway: Gateway = Gateway.REST
    take_over: bool = False  # the bucket and the table are there already, so a deployment does not make them
    snap_start: bool = False  # functions start from a snapshot
    runtime: str = "python3.13"  # of the functions, and the packages in them
    architecture: str = "arm64"
    alarm_topic: str | None = None  # ARN of what alarms are sent to; None: they are only seen
    output_bucket: str | None = None  # where the index lies as static files; None: nowhere on AWS
    output_access: OutputAccess = OutputAccess.CLOUDFRONT
    output_url: str | None = None  # where the static files are found, with a slash at its end; None: nobody knows
    packages_url: str | None = None  # what their links to files begin with; None: `packages/` beside the pages
    core_metadata: str | None = None  # one of CORE_METADATA_PLACES; None: what suits `packages_url`
    title: str | None = None  # of the pages for people; None: the default one
    logo: str | None = None  # URL of an image on these pages
    logo_width: int | None = None  # pixels; None: as wide as it is
    audit_days: int = 365  # for which is kept who has done what
    count_downloads: bool = False
    upstreams: tuple[Upstream, ...] = ()  # asked in this order for names that are not ours
    own_names: tuple[str, ...] = ()  # patterns of project names that no upstream is ever asked for

    @property
    def all_users(self) -> tuple[User, ...]:
        """The main user, who may do everything, and the further ones."""
        if self.username is None or self.password is None:
            return self.users
        return (User(self.username, self.password, Permission.ADMIN), *self.users)
