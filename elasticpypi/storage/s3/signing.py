"""URLs that let somebody without credentials make one request to S3.

Specification: the S3 API reference, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)". Signed
here and not by a client of boto3, because making one takes a good part of a cold start, and because it always signs for
this very second: the same URL must come again for a while, since pip and browsers keep what they got by its URL.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote, urlsplit

from elasticpypi.storage import NO_HEADERS

_ALGORITHM = "AWS4-HMAC-SHA256"
# What hosts end in where regions begin so, in AWS's partitions (botocore/data/partitions.json, which a test compares).
_DOMAINS = {
    "cn-": "amazonaws.com.cn",
    "eu-isoe-": "cloud.adc-e.uk",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "us-isof-": "csp.hci.ic.gov",
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Whose permissions a signed URL carries; it dies with the token, where there is one."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False, default=None)


def object_url(bucket: str, key: str, *, region: str, endpoint: str | None) -> str:
    """Return where an object lies, without a signature; `endpoint` is one that is not Amazon's."""
    path = quote(key, safe="/-_.~")
    if endpoint is not None:
        return f"{endpoint.rstrip('/')}/{bucket}/{path}"
    host = f"s3.{region}.{_domain(region)}"
    if "." in bucket:  # of which no certificate knows the host
        return f"https://{host}/{bucket}/{path}"
    return f"https://{bucket}.{host}/{path}"


def _domain(region: str) -> str:
    return next((domain for beginning, domain in _DOMAINS.items() if region.startswith(beginning)), "amazonaws.com")


def sign_url(
    method: str,
    url: str,
    *,
    region: str,
    credentials: Credentials,
    at: datetime,
    valid_seconds: int,
    headers: Mapping[str, str] = NO_HEADERS,
    query: Mapping[str, str] = NO_HEADERS,
) -> str:
    """Return the URL by which a request with just these headers is allowed from `at` (aware, UTC) on."""
    parts = urlsplit(url)
    time = f"{at:%Y%m%dT%H%M%SZ}"
    scope = f"{time[:8]}/{region}/s3/aws4_request"
    signed = {"host": parts.netloc} | {name.lower(): value for name, value in headers.items()}
    parameters = {
        **query,
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key}/{scope}",
        "X-Amz-Date": time,
        "X-Amz-Expires": str(valid_seconds),
        "X-Amz-SignedHeaders": ";".join(sorted(signed)),
    }
    if credentials.token is not None:
        parameters["X-Amz-Security-Token"] = credentials.token
    encoded = "&".join(f"{_quote(name)}={_quote(parameters[name])}" for name in sorted(parameters))
    lines = [f"{name}:{signed[name]}" for name in sorted(signed)]
    request = "\n".join(
        [method, parts.path, encoded, *lines, "", parameters["X-Amz-SignedHeaders"], "UNSIGNED-PAYLOAD"]
    )
    text = "\n".join([_ALGORITHM, time, scope, hashlib.sha256(request.encode()).hexdigest()])
    signature = hmac.new(_signing_key(credentials.secret_key, scope), text.encode(), hashlib.sha256).hexdigest()
    return f"{url}?{encoded}&X-Amz-Signature={signature}"


def _signing_key(secret_key: str, scope: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _quote(text: str) -> str:
    return quote(text, safe="-_.~")
