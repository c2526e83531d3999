"""`/upload`: where people upload with a browser.

The page's script (templates/site/upload.js) sends files of any size as `/api/v1/uploads` takes them; without scripts
there is a plain form, which comes through us.
"""

from __future__ import annotations

from contextlib import ExitStack

from flask import Blueprint, Response, request

from elasticpypi.config import Permission
from elasticpypi.errors import (
    AlreadyExistsError,
    ForbiddenError,
    InvalidFilenameError,
    InvalidUploadError,
    NoFileError,
)
from elasticpypi.index import Added, Index, claim_by_filename
from elasticpypi.names import ParsedFilename, parse_filename
from elasticpypi.web.csrf import FIELD, check_token
from elasticpypi.web.errors import answer_error
from elasticpypi.web.file_form import receive_form
from elasticpypi.web.observe import note_added
from elasticpypi.web.people import render_page, show_errors
from elasticpypi.web.present import current_principal
from elasticpypi.web.upload import ANSWERS

# Which look for the CSRF token by themselves: this one stands in a form that must not be read before its time.
ENDPOINTS = frozenset({"upload_page.upload"})
_NO_FILE = "Choose a file first, with the name of a wheel, a source distribution or an egg."


def upload_pages(index: Index, *, has_gateway: bool) -> Blueprint:
    """Return the routes; with a gateway in front, which carries only so much, the plain form says so."""
    pages = Blueprint("upload_page", __name__)
    show_errors(pages)

    def show(status: int = 200, *, problem: str = "", done: str = "", project: str = "") -> Response:
        return render_page(
            "upload.html",
            status=status,
            connect_to=index.upload_origin,
            section="upload",
            has_gateway=has_gateway,
            overwrite=index.overwrite,
            problem=problem,
            done=done,
            project=project,
        )

    @pages.get("/upload")
    def form() -> Response:
        current_principal().require(Permission.UPLOAD)
        return show()

    @pages.post("/upload")
    def upload() -> Response:
        current_principal().require(Permission.UPLOAD)
        try:
            parsed, added = _receive(index)
        except NoFileError as error:
            return show(answer_error(error, request.path).status_code, problem=_NO_FILE)
        except (AlreadyExistsError, ForbiddenError, InvalidFilenameError, InvalidUploadError) as error:
            return show(answer_error(error, request.path).status_code, problem=f"Refused: {error}.")
        return show(done=ANSWERS[added].format(parsed.filename), project=parsed.project)

    return pages


def _receive(index: Index) -> tuple[ParsedFilename, Added]:
    principal = current_principal()
    with ExitStack() as stack:
        form, content = receive_form(index, stack)
        check_token(form.get(FIELD, ""))
        parsed = parse_filename(content.filename)
        principal.require(Permission.UPLOAD, parsed.project)
        claim = claim_by_filename(content.filename, content.sha256)
        added = index.add(content.incoming, claim, sha256=content.sha256, by=principal.actor)
    note_added(request.environ, added)
    return parsed, added
