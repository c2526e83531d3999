"""Clients for AWS, made the way in which everything here wants them: few retries, short waits, SigV4.

Making one takes tens of milliseconds of a cold start, so each is made when it is first needed and then kept.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from elasticpypi.errors import ConfigError

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_s3 import S3Client
    from types_boto3_sqs import SQSClient

# API Gateway waits for 29 seconds: what has not come by then must have been answered as a 503 of ours.
_CONFIG: dict[str, Any] = {
    "connect_timeout": 2,  # seconds
    "read_timeout": 8,
    "retries": {"mode": "standard", "total_max_attempts": 4},
}
_S3: dict[str, Any] = {
    "signature_version": "s3v4",  # in some regions boto3 signs URLs by the second version still
    "s3": {"addressing_style": "virtual"},  # of the region's own host, which no redirect leads to
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}


class AWS:
    """The clients of one account and region."""

    def __init__(self, *, profile: str | None = None, region: str | None = None) -> None:
        """Where they are None, profile and region are those of the environment; ConfigError for unknown ones."""
        try:
            self._session = boto3.session.Session(profile_name=profile, region_name=region)
        except BotoCoreError as error:
            raise ConfigError(f"AWS cannot be used: {error}; correct 'profile' or 'region'") from error
        if self._session.region_name is None:
            raise ConfigError('AWS cannot be used: no region is named; add for example "region": "eu-central-1"')
        self._clients: dict[str, Any] = {}
        self._making = threading.Lock()

    @property
    def region(self) -> str:
        """The region's name."""
        return self._session.region_name

    @property
    def dynamodb(self) -> DynamoDBClient:
        """Of DynamoDB."""
        client: DynamoDBClient = self.client("dynamodb")
        return client

    @property
    def s3(self) -> S3Client:
        """Of S3."""
        client: S3Client = self.client("s3", **_S3)
        return client

    @property
    def sqs(self) -> SQSClient:
        """Of SQS."""
        client: SQSClient = self.client("sqs")
        return client

    def client(self, service: str, **config: Any) -> Any:
        """Return the client of a service, always the same one."""
        client = self._clients.get(service)
        if client is None:
            with self._making:
                client = self._clients.get(service)
                if client is None:
                    client = self._session.client(service, config=Config(**_CONFIG, **config))  # type: ignore[call-overload]
                    self._clients[service] = client
        return client


def error_code(error: ClientError) -> str:
    """Return what AWS calls an error."""
    return str(error.response.get("Error", {}).get("Code", ""))
