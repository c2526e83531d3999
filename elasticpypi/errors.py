"""The errors of elasticpypi: facts as attributes, the sentence and its remedy in `str(error)`.

Errors of other libraries are translated where they arise (in the adapters), and ours are caught in two places only:
`web.errors`, which gives each its HTTP status, and `cli.main`, which prints the sentence.
"""

from __future__ import annotations

import math


class ElasticpypiError(Exception):
    """Any error that this project raises on purpose."""


class ConfigError(ElasticpypiError):
    """The configuration cannot be used; the message names key, source and an example."""


class InvalidNameError(ElasticpypiError):
    """A string is no project name (core metadata specification, `Name`)."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return (
            f"{self.name!r} is not a project name: use ASCII letters, digits, '.', '_' and '-', "
            "beginning and ending with a letter or digit"
        )


class InvalidFilenameError(ElasticpypiError):
    """A filename cannot be read as that of a wheel, sdist or egg."""

    def __init__(self, filename: str, reason: str) -> None:
        super().__init__(filename, reason)
        self.filename = filename
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.filename!r} is not the filename of a wheel, sdist or egg: {self.reason}"


class ArchiveError(ElasticpypiError):
    """An archive is broken, hostile or has no usable core metadata."""

    def __init__(self, filename: str, reason: str) -> None:
        super().__init__(filename, reason)
        self.filename = filename
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.filename}: {self.reason}"


class UnavailableError(ElasticpypiError):
    """Catalog or storage cannot be reached or read now; asking again may help."""


class CatalogError(UnavailableError):
    """The catalog failed."""


class StorageError(UnavailableError):
    """The storage failed."""


class OutputError(UnavailableError):
    """What the index is written to as files failed."""


class UnwritableDocumentError(OutputError):
    """One document cannot lie where it should, although others can; the message says why, and what to do."""


class QueueError(UnavailableError):
    """The queue takes no work."""


class UpstreamError(UnavailableError):
    """Another index does not answer, or not as it should; the message names it and says why."""

    def __init__(self, upstream: str, reason: str) -> None:
        super().__init__(upstream, reason)
        self.upstream = upstream  # what the configuration calls it
        self.reason = reason  # the rest of the sentence, without URLs: "does not answer within 10 seconds"

    def __str__(self) -> str:
        return f"the upstream {self.upstream!r} {self.reason}"


class StorageFullError(StorageError):
    """The storage has no room left."""


class BusyError(UnavailableError):
    """What is asked for changes faster than it can be read."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"{self.key} is changing just now; try again in a moment"


class UnreadableObjectError(StorageError):
    """One object cannot be read, although the storage answers (its permissions forbid it, say)."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key = key
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.key} cannot be read: {self.reason}"


class BackupError(ElasticpypiError):
    """A backup cannot be written or read; the reason is a sentence about it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the backup cannot be used: {self.reason}"


class NotReadyError(UnavailableError):
    """The catalog does not know the whole storage yet, so that nothing can be said about what is not there."""

    def __str__(self) -> str:
        return "the index is being built from its storage; try again in a moment"


class ConflictError(ElasticpypiError):
    """Somebody else wrote first: the condition of a conditional write does not hold."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"{self.key} was written by somebody else in the meantime"


class ObjectMissingError(ElasticpypiError):
    """The storage has no object under this key."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"the storage has no object {self.key!r}"


class NotFoundError(ElasticpypiError):
    """A project or file that the index does not have; the message says which."""


class ForbiddenError(ElasticpypiError):
    """The principal, or the status of the project, does not allow this; the message says why."""


class TooManyAttemptsError(ElasticpypiError):
    """Too many wrong passwords came from a client."""

    def __init__(self, wait_seconds: float) -> None:
        super().__init__(wait_seconds)
        self.wait_seconds = wait_seconds

    def __str__(self) -> str:
        return f"too many wrong passwords: try again in {math.ceil(self.wait_seconds)} seconds"


class IdTokenError(ElasticpypiError):
    """A CI system's ID token is worth nothing here; the reason says why, and has nothing of the token itself."""

    def __init__(self, reason: str, *, code: str = "invalid-token") -> None:
        super().__init__(reason, code)
        self.reason = reason
        self.code = code  # for programs, as PyPI has it

    def __str__(self) -> str:
        return f"the ID token cannot be used: {self.reason}"


class DecisionsError(ElasticpypiError):
    """What people want to decide does not fit what has been decided; the message says why and what to do."""


class SourceError(ElasticpypiError):
    """Another index, or what one left behind, cannot be read or is not what it says; the message says what to do."""


class InvalidRequestError(ElasticpypiError):
    """A program has asked for something in a way that nobody understands; the message says what is expected."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field  # the one of which the value is wrong; None: that is not known


class EventFailedError(ElasticpypiError):
    """An event has asked for something that could not be done now; the message says why."""


class InterruptedDownloadError(SourceError):
    """A download has begun and broken off; to begin anew may help."""


class InvalidUploadError(ElasticpypiError):
    """An upload is broken or disagrees with itself; the message says in what."""


class NoFileError(InvalidUploadError):
    """A form has no file with the name of a wheel, sdist or egg."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field

    def __str__(self) -> str:
        return f"the form has no file called {self.field!r} with the name of a wheel, sdist or egg"


class UploadRefusedError(ElasticpypiError):
    """Another index refuses a file of ours; the message is its own sentence."""


class UploadFailedError(ElasticpypiError):
    """Another index cannot be reached, or cannot be uploaded to at all; the message says why and what to do."""


class AlreadyExistsError(ElasticpypiError):
    """A filename is taken by other bytes."""

    def __init__(self, filename: str, *, deleted: bool = False) -> None:
        super().__init__(filename)
        self.filename = filename
        self.deleted = deleted

    def __str__(self) -> str:
        # Upload clients look for "already exist" in this text.
        if self.deleted:
            return (
                f"File already existed: {self.filename} was deleted and its name keeps belonging to the bytes it "
                "already existed with; raise the version, or set 'overwrite' in the configuration"
            )
        return (
            f"File already exists: {self.filename} is taken by other bytes; "
            "raise the version, or set 'overwrite' in the configuration"
        )
