"""The document in which publishers are kept: JSON, the publishers by their ids, and the audience."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from elasticpypi.errors import InvalidRequestError
from elasticpypi.publishers.publisher import Provider, Publisher, check_publisher, describe_publisher

# uv and twine look for GitLab's token in a variable that is named after the audience, so that it has to fit there.
_AUDIENCE = re.compile(r"elasticpypi-[0-9a-f]{12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Registered:
    """The publishers of an index, and for whom ID tokens have to be made."""

    audience: str | None = None  # None: there has never been a publisher
    publishers: Mapping[str, Publisher] = field(default_factory=dict)  # by id, the oldest first


def parse_registered(data: bytes) -> Registered:
    """Read what `format_registered` writes.

    Raise ValueError, KeyError, TypeError, AttributeError or RecursionError for anything else.
    """
    document: Any = json.loads(data)
    audience = document["audience"]
    if not _AUDIENCE.fullmatch(audience):
        raise ValueError("no audience of ours")
    return Registered(audience, {key: _parse_publisher(key, each) for key, each in document["publishers"].items()})


def _parse_publisher(publisher_id: str, fields: Mapping[str, Any]) -> Publisher:
    if not isinstance(fields["projects"], list):
        raise TypeError("no list of patterns")
    publisher = Publisher(
        id=publisher_id,
        provider=Provider(fields["provider"]),
        issuer=fields["issuer"],
        repository=fields["repository"],
        workflow=fields["workflow"],
        environment=fields["environment"],
        owner_id=fields["owner-id"],
        projects=tuple(fields["projects"]),
    )
    try:
        check_publisher(publisher)  # somebody may have edited it by hand
    except InvalidRequestError as error:
        raise ValueError(str(error)) from error
    return publisher


def format_registered(registered: Registered) -> bytes:
    """Return the document that says this."""
    publishers = {
        key: {name: value for name, value in describe_publisher(each).items() if name != "id"}
        for key, each in registered.publishers.items()
    }
    return json.dumps({"audience": registered.audience, "publishers": publishers}, indent=2).encode() + b"\n"
