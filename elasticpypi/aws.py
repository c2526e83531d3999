"""Clients for AWS, made the way in which everything here wants them: few retries, short waits, SigV4.

Making one takes tens of milliseconds of a cold start, so each is made when it is first needed and then kept. botocore
makes the same clients as boto3, whose own part (resources, transfers) is a sixth of the API's start and used nowhere.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from elasticpypi.errors import ConfigError

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_s3 import S3Client
    from types_boto3_sqs import SQSClient

# API Gateway waits for 29 seconds: what has not come by then must have been answered as a 503 of ours. A service that
# never answers costs 3 attempts of 4 seconds and pauses of at most 1 and 2 seconds between them, 15 seconds in all (9
# where it cannot even be connected to). Before the last of such calls, adapters have waited for at most 12 seconds.
_CONFIG: dict[str, Any] = {
    "connect_timeout": 2,  # seconds
    "read_timeout": 4,  # for the beginning of an answer, then for each piece of it
    "retries": {"mode": "standard", "total_max_attempts": 3},
    "max_pool_connections": 32,  # as many as a local server or an indexer has threads
}
# What makes S3 copy, check or put together much is answered when all of it is done. The API does so with up to 512 MiB
# by itself: 2 attempts of 12 seconds and a pause of at most 1 are 25. What has more is done by the indexer, which has
# 900 seconds: 3 attempts of 240 and 3 for pauses are 723.
_WRITING: dict[str, Any] = {"read_timeout": 12, "retries": {"mode": "standard", "total_max_attempts": 2}}
_COPYING: dict[str, Any] = {"read_timeout": 240}
_S3: dict[str, Any] = {
    "signature_version": "s3v4",  # in some regions boto3 signs URLs by the second version still
    "s3": {"addressing_style": "virtual"},  # of the region's own host, which no redirect leads to
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}
# Where to look for an endpoint that is not Amazon's: name in the configuration file, variables, default, conversion.
_S3_ENDPOINT = ("endpoint_url", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"], None, None)
# And for the region, as `sls` and AWS's other SDKs do; botocore by itself ignores AWS_REGION.
_REGION = ("region", ["AWS_REGION", "AWS_DEFAULT_REGION"], None, None)


class AWS:
    """The clients of one account and region."""

    def __init__(self, *, profile: str | None = None, region: str | None = None) -> None:
        """Where they are None, profile and region are those of the environment; ConfigError for unknown ones."""
        variables = {"s3_endpoint": _S3_ENDPOINT, "region": _REGION}
        self._session = botocore.session.Session(profile=profile, session_vars=variables)
        try:
            self._session.get_scoped_config()  # fails for an unknown profile
            self.s3_endpoint: str | None = self._session.get_config_variable("s3_endpoint")  # None: Amazon's own
            found: str | None = region or self._session.get_config_variable("region")
        except BotoCoreError as error:
            raise ConfigError(f"AWS cannot be used: {error}; correct 'profile' or 'region'") from error
        if not found:
            raise ConfigError('AWS cannot be used: no region is named; add for example "region": "eu-central-1"')
        self.region = found
        self._clients: dict[str, Any] = {}
        self._making = threading.Lock()

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
    def s3_writing(self) -> S3Client:
        """Of S3, for requests that make it read or write some hundred megabytes."""
        client: S3Client = self._client("s3-writing", "s3", {**_S3, **_WRITING})
        return client

    @property
    def s3_copying(self) -> S3Client:
        """Of S3, for requests that make it read or write more than that."""
        client: S3Client = self._client("s3-copying", "s3", {**_S3, **_COPYING})
        return client

    @property
    def sqs(self) -> SQSClient:
        """Of SQS."""
        client: SQSClient = self.client("sqs")
        return client

    def credentials(self) -> ReadOnlyCredentials | None:
        """Return what requests are signed with now, as clients find and renew it; None where there is nothing."""
        found = self._session.get_credentials()
        return None if found is None else found.get_frozen_credentials()

    def client(self, service: str, **config: Any) -> Any:
        """Return the client of a service, always the same one."""
        return self._client(service, service, config)

    def _client(self, name: str, service: str, config: Mapping[str, Any]) -> Any:
        client = self._clients.get(name)
        if client is None:
            with self._making:
                client = self._clients.get(name)
                if client is None:
                    chosen = Config(**{**_CONFIG, **config})
                    client = self._session.create_client(service, region_name=self.region, config=chosen)
                    self._clients[name] = client
        return client


def error_code(error: ClientError) -> str:
    """Return what AWS calls an error."""
    return str(error.response.get("Error", {}).get("Code", ""))
