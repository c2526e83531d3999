"""What an upload must prove before it is stored.

Specifications: the upload API (warehouse's documentation, "Upload API"), core metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from elasticpypi.digests import hex_digest
from elasticpypi.errors import ArchiveError, InvalidFilenameError, InvalidNameError, InvalidUploadError
from elasticpypi.names import Kind, ParsedFilename, normalize_name, parse_filename, same_version

if TYPE_CHECKING:
    from elasticpypi.metadata import CoreMetadata

_FILETYPES = {"bdist_wheel": Kind.WHEEL, "sdist": Kind.SDIST, "bdist_egg": Kind.EGG}


@dataclass(frozen=True, slots=True)
class Claim:
    """What the uploader says about a file."""

    filename: str
    name: str
    version: str
    filetype: str  # "bdist_wheel", "sdist" or "bdist_egg"
    digests: Mapping[str, str]  # "sha256", "blake2_256", "md5" -> hex; none of them needs to be there
    requires_python: str | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """What the bytes say, after they were held against the claim."""

    parsed: ParsedFilename
    sha256: str
    core_metadata: CoreMetadata | None


def prove(claim: Claim, stream: BinaryIO, sha256: str) -> Proof:
    """Hold a claim against the bytes, whose sha256 is known; raise InvalidUploadError with the first thing wrong."""
    from elasticpypi.metadata import verify_archive  # and the readers of archives, which nothing else here needs

    parsed = _check_names(claim)
    _check_digests(claim, stream, sha256)
    try:
        stream.seek(0)
        core_metadata = verify_archive(stream, parsed)
    except ArchiveError as error:
        raise InvalidUploadError(f"{error}; build the file again") from error
    if core_metadata is not None:
        _check_metadata(claim, core_metadata)
    return Proof(parsed, sha256, core_metadata)


def prove_alone(filename: str, stream: BinaryIO, sha256: str) -> Proof:
    """Prove a file that comes without a form: nothing is claimed but its name.

    Raise InvalidFilenameError or InvalidUploadError.
    """
    return prove(claim_by_filename(filename, sha256), stream, sha256)


def claim_by_filename(filename: str, sha256: str) -> Claim:
    """Return what a filename says of itself; raise InvalidFilenameError."""
    parsed = parse_filename(filename)
    filetype = next(filetype for filetype, kind in _FILETYPES.items() if kind is parsed.kind)
    return Claim(filename, parsed.project, str(parsed.version), filetype, {"sha256": sha256})


def _check_names(claim: Claim) -> ParsedFilename:
    try:
        parsed = parse_filename(claim.filename)
        name = normalize_name(claim.name)
    except (InvalidFilenameError, InvalidNameError) as error:
        raise InvalidUploadError(str(error)) from error
    if name != parsed.project:
        raise InvalidUploadError(
            f"the form says name {claim.name!r}, the filename {claim.filename!r} {str(parsed.project)!r}"
        )
    if not same_version(claim.version, str(parsed.version)):
        raise InvalidUploadError(
            f"the form says version {claim.version!r}, the filename {claim.filename!r} {str(parsed.version)!r}"
        )
    if _FILETYPES.get(claim.filetype) is not parsed.kind:
        raise InvalidUploadError(
            f"the form says filetype {claim.filetype!r} (known are {', '.join(_FILETYPES)}), "
            f"but {claim.filename!r} is a file of kind {parsed.kind.value!r}"
        )
    return parsed


def _check_digests(claim: Claim, stream: BinaryIO, sha256: str) -> None:
    for algorithm, claimed in claim.digests.items():
        actual = sha256 if algorithm == "sha256" else hex_digest(stream, algorithm)
        if claimed.lower() != actual:
            raise InvalidUploadError(
                f"the {algorithm} digest in the form is {claimed}, that of the bytes received {actual}: "
                "they were damaged on the way; upload the file again"
            )


def _check_metadata(claim: Claim, metadata: CoreMetadata) -> None:
    claimed = claim.requires_python
    if claimed and claimed.strip() != (metadata.requires_python or ""):
        raise InvalidUploadError(
            f"the form says requires_python {claimed!r}, the metadata in {claim.filename} {metadata.requires_python!r}"
        )
