"""`/account`: who one is here, and the tokens that one has handed out."""

from __future__ import annotations

from flask import Blueprint, Response, request

from elasticpypi.config import Permission
from elasticpypi.errors import ElasticpypiError, ForbiddenError, InvalidRequestError
from elasticpypi.index import Index, Token
from elasticpypi.web.errors import answer_error
from elasticpypi.web.mount import root_url
from elasticpypi.web.people import as_sentence, render_page, show_errors
from elasticpypi.web.present import current_principal
from elasticpypi.web.token_requests import create_token, find_tokens, may_create_tokens, revoke_token

_FORM_BYTES = 16 * 1024
_DAYS = ("7", "30", "90", "365", "")  # after which a token expires; "": never
_REVOKED = "revoked"
# What is said of a field that was filled in wrong, to those who do not know what programs call it.
_PROBLEMS = {
    "name": "Say what the token is for, in at most 100 characters.",
    "permission": "Choose one of the permissions.",
    "projects": "Give at most 100 names of lowercase letters, digits and single '-'; '*', '?' and '[…]' are patterns.",
    "days": "Choose one of the times.",
}


def account_pages(index: Index, url: str | None) -> Blueprint:
    """Return the routes; `url` is where clients find the index, if that is configured."""
    pages = Blueprint("account", __name__)
    show_errors(pages)

    def show(
        *, status: int = 200, problem: str = "", wrong: str = "", made: Token | None = None, secret: str = ""
    ) -> Response:
        principal = current_principal()
        return render_page(
            "account.html",
            status=status,
            section="account",
            tokens=find_tokens(index, principal),
            permissions=[permission for permission in Permission if principal.permission.includes(permission)],
            may_create=may_create_tokens(principal),
            days=_DAYS,
            problem=problem,
            wrong=wrong,
            made=made,
            secret=secret,
            root=root_url(request.environ, url),
            has_url=url is not None,
            was_revoked=request.args.get("done") == _REVOKED,
            given=request.form,
        )

    @pages.get("/account")
    def account() -> Response:
        return show()

    @pages.post("/account/tokens")
    def create() -> Response:
        request.max_content_length = _FORM_BYTES
        try:
            made, secret = create_token(index, current_principal(), _read_form())
        except (ForbiddenError, InvalidRequestError) as error:
            return _show_problem(error)
        return show(made=made, secret=secret)  # in the answer itself: nobody can ask for it again

    @pages.post("/account/tokens/<token_id>/revoke")
    def revoke(token_id: str) -> Response:
        revoke_token(index, current_principal(), token_id)
        location = f"../../../account?done={_REVOKED}"
        return Response(status=303, headers={"Location": location, "Cache-Control": "no-store"})

    def _show_problem(error: ElasticpypiError) -> Response:
        status = answer_error(error, request.path).status_code
        wrong = (error.field or "") if isinstance(error, InvalidRequestError) else ""
        return show(status=status, problem=_PROBLEMS.get(wrong) or as_sentence(str(error)), wrong=wrong)

    return pages


def _read_form() -> dict[str, object]:
    """Return what the form says as a program would say it."""
    form = request.form
    days = form.get("days", "")
    return {
        "name": form.get("name", ""),
        "permission": form.get("permission", ""),
        "projects": form.get("projects", "").replace(",", " ").split() or ["*"],
        "days": int(days) if days.isascii() and days.isdigit() and len(days) < 10 else days or None,
    }
