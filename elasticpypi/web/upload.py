"""`POST /legacy/` and `/simple/`: the upload API as twine, uv, poetry, pdm and hatch speak it.

Specification: warehouse's documentation, "Upload API".
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from flask import Blueprint, request
from werkzeug.wrappers import Response

from elasticpypi.config import Permission
from elasticpypi.errors import InvalidUploadError
from elasticpypi.index import Added, Claim, Index
from elasticpypi.names import parse_filename
from elasticpypi.web.errors import sentence
from elasticpypi.web.file_form import receive_form
from elasticpypi.web.observe import note_added
from elasticpypi.web.present import current_principal

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

_PATHS = ("/legacy/", "/legacy", "/simple/", "/simple")  # no uploader follows a redirect to the slash
_DIGESTS = {"sha256": "sha256_digest", "blake2_256": "blake2_256_digest", "md5": "md5_digest"}
ANSWERS = {
    Added.CREATED: "{} is stored and listed.",
    Added.UNCHANGED: "{} was there already with the same bytes; nothing has changed.",
    Added.REPLACED: "{} has replaced other bytes.",
}


def file_uploads(index: Index) -> Blueprint:
    """Return the routes that take uploads."""
    uploads = Blueprint("upload", __name__)

    def upload() -> Response:
        principal = current_principal()
        principal.require(Permission.UPLOAD)
        with ExitStack() as stack:
            form, content = receive_form(index, stack)
            claim = _claim(form, content.filename)
            principal.require(Permission.UPLOAD, parse_filename(claim.filename).project)
            added = index.add(content.incoming, claim, sha256=content.sha256, by=principal.actor)
        note_added(request.environ, added)
        return sentence(200, ANSWERS[added].format(claim.filename))

    for path in _PATHS:
        uploads.add_url_rule(path, view_func=upload, methods=["POST"])
    return uploads


def _claim(form: MultiDict[str, str], filename: str) -> Claim:
    if form.get(":action") != "file_upload":
        raise InvalidUploadError(f"':action' in the form is {form.get(':action')!r}, not 'file_upload'")
    for field in ("name", "version", "filetype"):
        if not form.get(field):
            raise InvalidUploadError(f"{field!r} is missing in the form")
    return Claim(
        filename=filename,
        name=form["name"],
        version=form["version"],
        filetype=form["filetype"],
        digests={algorithm: form[field] for algorithm, field in _DIGESTS.items() if form.get(field)},
        requires_python=form.get("requires_python") or None,
    )
