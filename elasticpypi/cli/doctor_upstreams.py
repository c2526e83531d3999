"""What `elasticpypi doctor` looks at outside: the other indexes that are asked for names that are not ours."""

from __future__ import annotations

from collections.abc import Iterator

from elasticpypi.config import Settings, Upstream, UpstreamMode
from elasticpypi.errors import UpstreamError
from elasticpypi.finding import Finding
from elasticpypi.index import Index


def check_upstreams(settings: Settings, index: Index) -> Iterator[Finding]:
    """Yield whether each upstream answers, asked from this machine, and whether anything keeps names of ours in."""
    if not settings.upstreams:
        return
    yield _check_own_names(settings)
    errors = index.upstreams.check()
    for upstream in settings.upstreams:
        yield _describe(upstream, errors[upstream.name], is_here=settings.bucket is None)


def _check_own_names(settings: Settings) -> Finding:
    if settings.own_names:
        return Finding("own names", f"nobody else is asked for {', '.join(settings.own_names)}")
    return Finding(
        "own names",
        "upstreams are asked for every name under which nothing has been uploaded yet",
        advice='name yours by a pattern, such as "own_names": ["acme-*"]: then nobody else can have one of them first',
    )


def _describe(upstream: Upstream, error: UpstreamError | None, *, is_here: bool) -> Finding:
    check = f"upstream {upstream.name!r}"
    if error is None:
        return Finding(check, "it answers" if is_here else "it answers this machine")
    meanwhile = (
        "clients are sent there all the same"
        if upstream.mode is UpstreamMode.REDIRECT
        else "what has not been asked for lately is answered with 503"
    )
    remedy = f"mend that there, or change its entry in 'upstreams'; until then {meanwhile}"
    return Finding(check, f"it {error.reason}", remedy)
