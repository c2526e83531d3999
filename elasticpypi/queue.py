"""The queue that the indexer reads, for those who have work for it. The bucket puts its events there by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from elasticpypi.aws import AWS, error_code
from elasticpypi.errors import QueueError


def send_message(aws: AWS, queue_url: str, message: Mapping[str, Any]) -> None:
    """Send a message, which arrives at least once; raise QueueError where the queue does not take it."""
    try:
        aws.sqs.send_message(QueueUrl=queue_url, MessageBody=json.dumps(message))
    except ClientError as error:
        raise QueueError(
            f"the queue takes no messages ({error_code(error)}): check that it is there, and that this function may "
            "send to it (sqs:SendMessage)"
        ) from error
    except BotoCoreError as error:
        raise QueueError(f"the queue cannot be reached: {error}; try again in a moment") from error
