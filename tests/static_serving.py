"""What serves an index that is written as files: nginx with the example, S3 as a website, and a small CloudFront.

Each is started on loopback and yields its URL, without a slash at the end.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import unquote_plus, urlsplit

import requests
from botocore.exceptions import ClientError

from tests.aws import Cloud
from tests.policies import is_allowed
from tests.programs import require
from tests.running import bare_environment, free_port, wait_for

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
HARNESS = Path(__file__).parent / "cloudfront.js"
_STOP_SECONDS = 30.0
_NGINX_PATHS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


# nginx ---------------------------------------------------------------------------------------------------------------


@contextmanager
def nginx(site: Path, data: Path, directory: Path, *, users: str = "", before: str = "") -> Iterator[str]:
    """Run nginx with the example, without TLS.

    `site` is what was built, `data` where the index lies, `users` the lines of a password file.
    `before` is the block of a server that stands in front of it and hands requests on; then its URL is yielded.
    """
    program, port, front = require("nginx"), free_port(), free_port()
    (directory / "users").write_text(users)
    protected = {"# auth_basic": "auth_basic"} if users else {}
    example = with_replaced(
        without_tls((EXAMPLES / "static-site.nginx.conf").read_text()),
        {
            "listen 443 ssl": f"listen 127.0.0.1:{port}",
            "/srv/elasticpypi": str(site),
            "/var/lib/elasticpypi": str(data),
            **protected,
            "/etc/nginx/elasticpypi.htpasswd": str(directory / "users"),
        },
    )
    if before:
        ports = {"listen 443 ssl": f"listen 127.0.0.1:{front}", "127.0.0.1:8080": f"127.0.0.1:{port}"}
        example += with_replaced(without_tls(before), ports)
    paths = "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in _NGINX_PATHS)
    # As who runs the tests, and not as "nobody", who may not read their files.
    head = f"daemon off;\nmaster_process off;\npid {directory}/pid;\nerror_log stderr;\nevents {{}}\n"
    configuration = directory / "nginx.conf"
    configuration.write_text(f"{head}http {{\naccess_log off;\n{paths}{example}}}\n")
    log = directory / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [program, "-p", directory, "-e", "stderr", "-c", configuration],
            env=bare_environment(directory / "home"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{front if before else port}"
    try:
        wait_for(lambda: process.poll() is not None or _answers(url))
        assert process.poll() is None, log.read_text()
        assert "[warn]" not in log.read_text()
        yield url
    finally:
        process.terminate()
        process.wait(_STOP_SECONDS)


def with_replaced(text: str, pairs: Mapping[str, str]) -> str:
    """Replace what a test needs otherwise, each at least once."""
    for old, new in pairs.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def without_tls(text: str) -> str:
    """Leave out the lines of a server that name its certificate."""
    return "".join(line for line in text.splitlines(keepends=True) if "ssl_certificate" not in line)


def _answers(url: str) -> bool:
    try:
        return fetch(url + "/").status_code < 500
    except requests.ConnectionError:
        return False


def fetch(url: str, *, method: str = "GET", **headers: str) -> requests.Response:
    """Ask without following redirects; keyword arguments are headers, `if_none_match` for If-None-Match."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with requests.Session() as session:
        session.trust_env = False
        session.headers.clear()
        session.headers["Accept-Encoding"] = "identity"
        return session.request(method, url, headers=named, timeout=60, allow_redirects=False)


# S3 ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """What a server answers."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


_HANDED_ON = {"range": "Range", "if-none-match": "IfNoneMatch"}
_ERROR = {"Content-Type": "application/xml"}
_SHOWN = ("ContentType", "CacheControl", "ContentRange", "ContentEncoding")


class Server(Protocol):
    """What answers requests; names of headers are in lower case."""

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> Found: ...


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket as its REST endpoint gives it out: one path is one object, for whom its policy lets in."""

    cloud: Cloud
    name: str
    allowed: Sequence[str] | None = None  # to us, on all of it; None: what its policy allows to everybody

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> Found:
        # S3 takes a "+" in a path for a space, as in a form.
        return self.get(unquote_plus(path.removeprefix("/")), headers)

    def get(self, key: str, headers: Mapping[str, str]) -> Found:
        """Return an object, or that there is none, or that we may not know."""
        if key == "" or not self.may("s3:GetObject", key):
            return Found(403, _ERROR)
        asked = {name: headers[header] for header, name in _HANDED_ON.items() if header in headers}
        try:
            found: Any = self.cloud.aws.s3.get_object(Bucket=self.name, Key=key, **cast(Any, asked))
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            return Found(403 if status == 404 and not self.may("s3:ListBucket") else status, _ERROR)
        with found["Body"] as body:
            shown = {_header(name): found[name] for name in _SHOWN if name in found}
            status = found["ResponseMetadata"]["HTTPStatusCode"]
            return Found(status, {"ETag": found["ETag"], "Accept-Ranges": "bytes", **shown}, body.read())

    def may(self, action: str, key: str | None = None) -> bool:
        """Whether we may do something with the bucket, or with an object."""
        if self.allowed is not None:
            return action in self.allowed
        arn = f"arn:aws:s3:::{self.name}" + ("" if key is None else f"/{key}")
        policy = json.loads(self.cloud.aws.s3.get_bucket_policy(Bucket=self.name)["Policy"])
        for_everybody = [each for each in policy["Statement"] if each.pop("Principal") == "*"]
        return is_allowed(for_everybody, action, arn)


def _header(name: str) -> str:
    return "".join(f"-{letter}" if letter.isupper() and at else letter for at, letter in enumerate(name))


@dataclass(frozen=True, slots=True)
class Website:
    """A bucket as its website endpoint serves it.

    Source: S3's user guide, "Configuring an index document", "Configuring a custom error document".
    """

    bucket: Bucket

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> Found:
        configuration = self.bucket.cloud.aws.s3.get_bucket_website(Bucket=self.bucket.name)
        suffix = configuration["IndexDocument"]["Suffix"]
        key = unquote_plus(path.removeprefix("/"))
        directory = key == "" or key.endswith("/")
        found = self.bucket.get(f"{key}{suffix}" if directory else key, headers)
        if found.status < 400:
            return found
        if not directory and self.bucket.get(f"{key}/{suffix}", {}).status == 200:
            return Found(302, {"Location": f"{path}/"})
        error = self.bucket.get(configuration["ErrorDocument"]["Key"], {})
        return Found(found.status, error.headers, error.body)


# CloudFront ----------------------------------------------------------------------------------------------------------


class Function:
    """The viewer-request function, as it stands in a file, running in Node with no more than CloudFront gives it."""

    def __init__(self, code: str, directory: Path) -> None:
        source = directory / "function.js"
        source.write_text(code)
        self._turn = threading.Lock()
        self._process = subprocess.Popen(
            [require("node"), HARNESS, source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def call(self, method: str, uri: str, headers: Mapping[str, str]) -> dict[str, Any]:
        """Return the request as the function has changed it, or the response that it has made."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        event = {
            "version": "1.0",
            "context": {"eventType": "viewer-request", "distributionId": "EXAMPLE", "requestId": "EXAMPLE"},
            "viewer": {"ip": "192.0.2.1"},
            "request": {
                "method": method,
                "uri": uri,
                "querystring": {},
                "headers": {name.lower(): {"value": value} for name, value in headers.items()},
                "cookies": {},
            },
        }
        with self._turn:
            self._process.stdin.write(json.dumps(event) + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert "thrown" not in answer, answer["thrown"]
        return answer

    def stop(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(_STOP_SECONDS)


@contextmanager
def function(code: str, directory: Path) -> Iterator[Function]:
    """Run the function until the context ends."""
    running = Function(code, directory)
    try:
        yield running
    finally:
        running.stop()


@dataclass(frozen=True, slots=True)
class CloudFront:
    """A distribution with two origins: `/packages/…` is the source, all else and `….metadata` the output."""

    function: Function
    output: Bucket
    source: Bucket
    prefix: str = ""

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> Found:
        # The behaviour is chosen by what the viewer has asked for, not by what the function makes of it.
        is_file = path.startswith(f"{self.prefix}/packages/") and not path.endswith(".metadata")
        result = self.function.call(method, path, headers)
        if "statusCode" in result:
            made = {name: value["value"] for name, value in result.get("headers", {}).items()}
            return Found(result["statusCode"], made, result.get("body", {}).get("data", "").encode())
        origin = self.source if is_file else self.output
        return origin.answer(method, result["uri"], headers)


# Serving -------------------------------------------------------------------------------------------------------------


@contextmanager
def listening(server: Server) -> Iterator[str]:
    """Answer requests on a free port until the context ends."""
    with _Listener(server) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.server_port}"
        finally:
            listener.shutdown()
            thread.join()


class _Listener(ThreadingHTTPServer):
    def __init__(self, server: Server) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answering = server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        found = cast(_Listener, self.server).answering.answer(self.command, urlsplit(self.path).path, headers)
        self.send_response_only(found.status)
        for name, value in found.headers.items():
            self.send_header(name, value)
        if found.status != 304:
            self.send_header("Content-Length", str(len(found.body)))
        self.end_headers()
        if self.command == "GET" and found.status != 304:
            self.wfile.write(found.body)

    do_HEAD = do_GET  # noqa: N815  # the name that http.server looks for

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # as the base class has it
        """Say nothing."""
