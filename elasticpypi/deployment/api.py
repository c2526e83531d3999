"""The deployed API, asked from here as a client asks it."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

from botocore.exceptions import ClientError

from elasticpypi.aws import AWS, error_code
from elasticpypi.deployment import DEPLOY, Deployment, Result
from elasticpypi.deployment.stack import how_to_deploy

_OUTPUT = "IndexUrl"  # of the stack
_TIMEOUT_SECONDS = 30.0  # API Gateway waits for 29
_MOST_BYTES = 64  # a healthy index says less


def check_api(aws: AWS, names: Deployment) -> Result:
    """Ask whether the index can do its work, at the configured address or else at that of the stack."""
    try:
        url = names.url or _url_of_stack(aws, names)
    except ClientError as error:
        if error_code(error) != "ValidationError":
            raise
        return Result(f"there is no stack {names.stack!r}", how_to_deploy(aws, names))
    if url is None:
        return Result(f"the stack {names.stack!r} does not say where its API is", f"run {DEPLOY}")
    return _ask(f"{url.rstrip('/')}/", names)


def _url_of_stack(aws: AWS, names: Deployment) -> str | None:
    (stack,) = aws.client("cloudformation").describe_stacks(StackName=names.stack)["Stacks"]
    found = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
    return found.get(_OUTPUT)


def _ask(url: str, names: Deployment) -> Result:
    try:
        with urllib.request.urlopen(f"{url}health", timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - configured, or the stack's own
            if answer.read(_MOST_BYTES).strip() == b"ok":
                return Result(f"{url} answers")
            return Result(f"{url} is answered by something else", "correct 'url', or look at the proxy in between")
    except urllib.error.HTTPError as error:
        error.close()
        logs = f"/aws/lambda/{names.stack}-api"
        remedy = f"do what is said of catalog and storage here; else read in the log group {logs} why"
        if error.code not in (500, 502, 503, 504):
            remedy = f"correct 'url' if there is one, and its mapping to the API; else run {DEPLOY}"
        return Result(f"{url} answers {error.code}", remedy)
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return Result(f"{url} cannot be reached from here ({reason})", "look at 'url', network, proxy and firewall")
