"""API Gateway on loopback: HTTP in, events out, with the limits and the oddities of the real ones.

    with RestGateway(handler, stage="dev") as gateway:   # a REST API, payload format 1.0
        get(f"{gateway.url}/simple/")
    with HttpGateway(handler) as gateway:                # an HTTP API on its `$default` stage, payload format 2.0

`handler(event, context)` answers as a Lambda function does; it may live in this process or hand the event to another.
What a function raises, and what is larger than Lambda carries, is the gateway's own failure, as there.

Sources: the API Gateway developer guide ("Important notes", "Gateway response types", "Set up Lambda proxy
integrations", "Working with AWS Lambda proxy integrations for HTTP APIs", "Quotas") and the Lambda developer guide
("Lambda quotas"). Where they say nothing, captures that people have published decide:
- A REST API hands the path over as it was sent, an HTTP API decoded, and cut where that makes a "?" of it.
- A request between Lambda's 6 MB and the gateway's 10 MB is 413 "Request Too Long" behind a REST API. Whether the
  gateway response REQUEST_TOO_LARGE covers it, as it does those above 10 MB, is not known: here it does.
- Whether an HTTP API renames WWW-Authenticate is not known: here it does not.
- Which headers with the same name an HTTP API sends on where a function gives two spellings: here both.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace, TracebackType
from typing import Any, Self, cast
from urllib.parse import parse_qsl, unquote

Handler = Callable[[dict[str, Any], Any], Any]
Headers = Sequence[tuple[str, str]]

LAMBDA_BYTES = 6_291_556  # of an event or an answer, as Lambda's own message says
GATEWAY_BYTES = 10 * 2**20  # of a request's body
_REST_SECONDS = 29.0
_HTTP_SECONDS = 30.0
_DOMAIN = "abcdef1234.execute-api.eu-central-1.amazonaws.com"
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect"})
# What a REST API takes for its own on the way back, and sends on under another name.
_REMAPPED = frozenset({"connection", "content-length", "date", "server", "www-authenticate"})
_TEXT_TYPES = ("application/json", "application/xml", "application/javascript")  # an HTTP API encodes all but these


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it has come in."""

    method: str
    path: str  # as sent, percent-encoded, with the stage
    query: str
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the client."""

    status: int
    headers: Headers = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class GatewayResponse:
    """What a REST API says by itself, as `AWS::ApiGateway::GatewayResponse` defines it; None: as it would anyway."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    template: str | None = None


# Type -> status, message.
_REST_FAILURES = {
    "ACCESS_DENIED": (403, "Forbidden"),
    "API_CONFIGURATION_ERROR": (500, "Internal server error"),
    "INTEGRATION_FAILURE": (504, "Network error communicating with endpoint"),
    "INTEGRATION_TIMEOUT": (504, "Endpoint request timed out"),
    "QUOTA_EXCEEDED": (429, "Limit Exceeded"),
    "REQUEST_TOO_LARGE": (413, "HTTP content length exceeded 10485760 bytes."),
    "THROTTLED": (429, "Too Many Requests"),
    # What has no type of its own falls under the default of its class.
    "FUNCTION_FAILED": (502, "Internal server error"),
    "UNKNOWN_STAGE": (403, "Forbidden"),
}
_HTTP_FAILURES = {
    "INTEGRATION_FAILURE": (503, "Service Unavailable"),
    "INTEGRATION_TIMEOUT": (503, "Service Unavailable"),
    "REQUEST_TOO_LARGE": (413, "Request Entity Too Large"),
    "THROTTLED": (429, "Too Many Requests"),
    "FUNCTION_FAILED": (500, "Internal Server Error"),
}


def read_gateway_responses(template: Mapping[str, Any]) -> dict[str, GatewayResponse]:
    """Return the gateway responses of a CloudFormation template, by type."""
    found = {}
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::ApiGateway::GatewayResponse":
            properties = resource["Properties"]
            templates = dict(properties.get("ResponseTemplates", {}))
            content_type = next(iter(templates), "application/json")
            status = properties.get("StatusCode")
            found[properties["ResponseType"]] = GatewayResponse(
                None if status is None else int(status),
                {
                    name.removeprefix("gatewayresponse.header."): value.strip("'")
                    for name, value in properties.get("ResponseParameters", {}).items()
                },
                content_type,
                templates.get(content_type),
            )
    return found


# Events --------------------------------------------------------------------------------------------------------------


def rest_event(
    *,
    method: str = "GET",
    path: str = "/",
    query: str = "",
    headers: Headers = (),
    body: bytes = b"",
    stage: str = "dev",
    domain: str = _DOMAIN,
    whole_path: str | None = None,
    base64_encoded: bool = True,
) -> dict[str, Any]:
    """Return the event of a REST API; `path` is without the stage, percent-encoded.

    `whole_path` is the URL's (None: the stage and `path`). Without `base64_encoded`, the API has no binary types.
    """
    headers = [
        *headers,
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-Port", "443"),
        ("X-Forwarded-Proto", "https"),
    ]
    pairs = parse_qsl(query, keep_blank_values=True)
    return {
        "resource": "/" if path == "/" else "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": dict(headers),
        "multiValueHeaders": _group(headers),
        "queryStringParameters": dict(pairs) or None,
        "multiValueQueryStringParameters": _group(pairs) or None,
        "pathParameters": None if path == "/" else {"proxy": path[1:]},
        "stageVariables": None,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": domain.partition(".")[0],
            "domainName": domain,
            "domainPrefix": domain.partition(".")[0],
            "extendedRequestId": "JKJaXmPLvHcESHA=",
            "httpMethod": method,
            "identity": {"sourceIp": "203.0.113.7", "userAgent": dict(headers).get("User-Agent")},
            "path": f"/{stage}{path}" if whole_path is None else whole_path,
            "protocol": "HTTP/1.1",
            "requestId": str(uuid.uuid4()),
            "requestTimeEpoch": int(time.time() * 1000),
            "resourcePath": "/" if path == "/" else "/{proxy+}",
            "stage": stage,
        },
        "body": None if not body else base64.b64encode(body).decode() if base64_encoded else body.decode(),
        "isBase64Encoded": bool(body) and base64_encoded,
    }


def http_event(
    *,
    method: str = "GET",
    path: str = "/",
    query: str = "",
    headers: Headers = (),
    body: bytes = b"",
    stage: str = "$default",
    domain: str = _DOMAIN,
) -> dict[str, Any]:
    """Return the event of an HTTP API; `path` is the URL's, percent-encoded."""
    raw_path = unquote(path).partition("?")[0]
    joined = {name.lower(): ",".join(values) for name, values in _group(_lower(headers)).items()}
    cookies = joined.pop("cookie", None)
    content_type = joined.get("content-type", "").partition(";")[0]
    is_text = content_type.startswith("text/") or content_type in _TEXT_TYPES
    moment = time.time()
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": raw_path,
        "rawQueryString": query,
        "headers": {
            **joined,
            "x-forwarded-for": "203.0.113.7",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": domain.partition(".")[0],
            "domainName": domain,
            "domainPrefix": domain.partition(".")[0],
            "http": {
                "method": method,
                "path": raw_path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": joined.get("user-agent", ""),
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "$default",
            "stage": stage,
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(moment)),
            "timeEpoch": int(moment * 1000),
        },
        "isBase64Encoded": bool(body) and not is_text,
    }
    if cookies is not None:
        event["cookies"] = cookies.split("; ")
    if query:
        event["queryStringParameters"] = {name: ",".join(values) for name, values in _group(parse_qsl(query)).items()}
    if body:
        event["body"] = body.decode() if is_text else base64.b64encode(body).decode()
    return event


def _group(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name, value in pairs:
        grouped.setdefault(name, []).append(value)
    return grouped


def _lower(headers: Headers) -> Headers:
    return [(name.lower(), value) for name, value in headers]


# Gateways ------------------------------------------------------------------------------------------------------------


class _Gateway(ABC):
    """A server on loopback in front of a handler, until the context ends."""

    prefix = ""  # of every path
    seconds = 0.0  # that a function has

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._server = _Server(self)
        self._functions = ThreadPoolExecutor(max_workers=32, thread_name_prefix="lambda")
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.to_fail: deque[str] = deque()  # failures of the gateway's own, by type, that the next requests meet
        self.seen: list[tuple[Request, Answer]] = []

    @property
    def url(self) -> str:
        """Where the application is, without a slash at its end."""
        return f"http://127.0.0.1:{self._server.server_port}{self.prefix}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._functions.shutdown(wait=False, cancel_futures=True)

    def answer(self, request: Request) -> Answer:
        """Answer a request as the real one does, with the function's help."""
        answer = self._answer(request)
        self.seen.append((request, answer))
        return answer

    def _answer(self, request: Request) -> Answer:
        if self.to_fail:
            return self.fail(self.to_fail.popleft())
        if len(request.body) > GATEWAY_BYTES:
            return self.fail("REQUEST_TOO_LARGE")
        if f"{request.path}/".startswith(f"{self.prefix}/"):
            return self._invoke(self.make_event(request))
        return self.fail("UNKNOWN_STAGE")

    def _invoke(self, event: dict[str, Any]) -> Answer:
        sent = json.dumps(event)
        if len(sent) > LAMBDA_BYTES:
            return self.fail("REQUEST_TOO_LARGE", "Request Too Long")
        running = self._functions.submit(self._handler, json.loads(sent), _context(self.seconds))
        try:
            returned = json.dumps(running.result(self.seconds))
        except FutureTimeoutError:
            return self.fail("INTEGRATION_TIMEOUT")
        except Exception:  # noqa: BLE001  # whatever a function raises
            return self.fail("FUNCTION_FAILED")
        if len(returned) > LAMBDA_BYTES:
            return self.fail("FUNCTION_FAILED")
        document = json.loads(returned)
        if not isinstance(document, dict) or not isinstance(document.get("statusCode"), int):
            return self.fail("FUNCTION_FAILED")
        body = (document.get("body") or "").encode()
        if document.get("isBase64Encoded"):
            body = base64.b64decode(body, validate=True)
        return Answer(document["statusCode"], self.read_headers(document), body)

    @abstractmethod
    def make_event(self, request: Request) -> dict[str, Any]:
        """Return the event that a request becomes."""

    @abstractmethod
    def read_headers(self, document: Mapping[str, Any]) -> Headers:
        """Return the headers that go to the client."""

    @abstractmethod
    def fail(self, kind: str, message: str | None = None) -> Answer:
        """Return what the gateway says where it fails by itself."""


class RestGateway(_Gateway):
    """A REST API with a stage, `*/*` as its binary media type, and a proxy resource."""

    seconds = _REST_SECONDS

    def __init__(
        self,
        handler: Handler,
        *,
        stage: str = "dev",
        responses: Mapping[str, GatewayResponse] | None = None,
        seconds: float = _REST_SECONDS,
    ) -> None:
        super().__init__(handler)
        self.stage = stage
        self.prefix = f"/{stage}"
        self.seconds = seconds
        self._responses = responses or {}

    def make_event(self, request: Request) -> dict[str, Any]:
        kept = [(name, value) for name, value in request.headers if name.lower() not in _HOP_BY_HOP]
        return _with_scheme_of_loopback(
            rest_event(
                method=request.method,
                path=request.path.removeprefix(self.prefix) or "/",
                whole_path=request.path,
                query=request.query,
                headers=kept,
                body=request.body,
                stage=self.stage,
                domain=dict(request.headers).get("Host", _DOMAIN),
            )
        )

    def read_headers(self, document: Mapping[str, Any]) -> Headers:
        several = dict(document.get("multiValueHeaders") or {})
        given = {name: [value] for name, value in (document.get("headers") or {}).items() if name not in several}
        headers = [
            (f"x-amzn-Remapped-{name}" if name.lower() in _REMAPPED else name, str(value))
            for name, values in {**given, **several}.items()
            for value in values
        ]
        known = {name.lower() for name, _ in headers}
        added = [] if "content-type" in known else [("Content-Type", "application/json")]
        return [*headers, *added, ("x-amzn-RequestId", str(uuid.uuid4()))]

    def fail(self, kind: str, message: str | None = None) -> Answer:
        status, usual = _REST_FAILURES[kind]
        default = "DEFAULT_4XX" if status < 500 else "DEFAULT_5XX"
        response = self._responses.get(kind, self._responses.get(default, GatewayResponse()))
        said = message or usual
        template = response.template or '{"message":$context.error.messageString}'
        body = template.replace("$context.error.messageString", json.dumps(said))
        body = body.replace("$context.error.message", said)
        headers = [("Content-Type", response.content_type), *response.headers.items()]
        return Answer(response.status or status, headers, body.encode())


class HttpGateway(_Gateway):
    """An HTTP API on its `$default` stage, whose failures nobody can word."""

    def __init__(self, handler: Handler, *, seconds: float = _HTTP_SECONDS) -> None:
        super().__init__(handler)
        self.seconds = seconds

    def make_event(self, request: Request) -> dict[str, Any]:
        kept = [(name, value) for name, value in request.headers if name.lower() not in _HOP_BY_HOP]
        return _with_scheme_of_loopback(
            http_event(method=request.method, path=request.path, query=request.query, headers=kept, body=request.body)
        )

    def read_headers(self, document: Mapping[str, Any]) -> Headers:
        assert "multiValueHeaders" not in document, "payload format 2.0 has no such thing"
        headers = [(name.lower(), str(value)) for name, value in (document.get("headers") or {}).items()]
        cookies = [("set-cookie", cookie) for cookie in document.get("cookies", [])]
        known = {name for name, _ in headers}
        added = [] if "content-type" in known else [("content-type", "text/plain;charset=utf-8")]
        return [*((name, value) for name, value in headers if name != "content-length"), *cookies, *added]

    def fail(self, kind: str, message: str | None = None) -> Answer:
        status, usual = _HTTP_FAILURES[kind]
        return Answer(status, [("content-type", "application/json")], json.dumps({"message": usual}).encode())


def _with_scheme_of_loopback(event: dict[str, Any]) -> dict[str, Any]:
    """Say that the client has come by http, as it has: absolute URLs must lead here again."""
    for name in [name for name in event["headers"] if name.lower() == "x-forwarded-proto"]:
        event["headers"][name] = "http"
    for name in [name for name in event.get("multiValueHeaders", ()) if name.lower() == "x-forwarded-proto"]:
        event["multiValueHeaders"][name] = ["http"]
    return event


def _context(seconds: float) -> SimpleNamespace:
    """Return as much of Lambda's context object as anybody looks at."""
    until = time.monotonic() + seconds
    return SimpleNamespace(
        aws_request_id=str(uuid.uuid4()),
        function_name="api",
        get_remaining_time_in_millis=lambda: max(0, int((until - time.monotonic()) * 1000)),
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, gateway: _Gateway) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.gateway = gateway

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that have gone away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def _handle(self) -> None:
        path, _, query = self.path.partition("?")
        request = Request(self.command, path, query, list(self.headers.items()), self._read_body())
        answer = cast(_Server, self.server).gateway.answer(request)
        self.send_response_only(answer.status)
        self.send_header("Date", self.date_time_string())  # as every server does; caches go by it
        for name, value in answer.headers:
            self.send_header(name, value)
        has_body = self.command != "HEAD" and answer.status not in (204, 304)
        if answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if has_body:
            self.wfile.write(answer.body)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        pieces = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    do_DELETE = do_GET = do_HEAD = do_OPTIONS = do_PATCH = do_POST = do_PUT = _handle  # noqa: N815  # http.server's names

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # as the base class has it
        """Say nothing."""
