"""What calls cost: list prices of AWS in US dollars (us-east-1, November 2026), and how DynamoDB counts its units.

No free tier, no storage, no traffic, no logs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

# For a million.
GATEWAYS = {"rest": 3.50, "http": 1.00}
_INVOCATIONS = 0.20
_READ_UNITS, _WRITE_UNITS = 0.125, 0.625
_S3_WRITES, _S3_READS = 5.00, 0.40
_MESSAGES = 0.40
_GIGABYTE_SECOND = 0.0000133334  # of Lambda on arm64
MEMORY_GIGABYTES = 1.0  # memorySize in serverless.yml
# Of others, for a million page hits: CodeArtifact's requests; the first elasticpypi's REST API and two Lambdas.
OTHERS = {"CodeArtifact": 5.00, "the first elasticpypi": 4.15}

_S3_FREE = {"DeleteObject", "AbortMultipartUpload"}
_S3_READING = {"GetObject", "HeadBucket", "HeadObject"}


@dataclass(slots=True)
class Bill:
    """What was used."""

    requests: int = 0  # of the gateway
    invocations: int = 0
    seconds: float = 0.0  # of Lambda, each invocation rounded up to a millisecond
    read_units: float = 0.0
    write_units: float = 0.0
    s3_writes: int = 0
    s3_reads: int = 0
    messages: int = 0  # requests to SQS
    calls: list[str] = field(default_factory=list)  # "dynamodb GetItem"

    def add_invocation(self, seconds: float) -> None:
        """Count an invocation that took so long."""
        self.invocations += 1
        self.seconds += math.ceil(seconds * 1000) / 1000

    def cost(self, gateway: str) -> float:
        """Return what it costs behind a gateway, in dollars."""
        millions = (
            self.requests * GATEWAYS[gateway]
            + self.invocations * _INVOCATIONS
            + self.read_units * _READ_UNITS
            + self.write_units * _WRITE_UNITS
            + self.s3_writes * _S3_WRITES
            + self.s3_reads * _S3_READS
            + self.messages * _MESSAGES
        )
        return millions / 1e6 + self.seconds * MEMORY_GIGABYTES * _GIGABYTE_SECOND

    def add_call(self, service: str, operation: str, parameters: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Count a call; the items that it has written cost as much as they have bytes (see `written_units`)."""
        self.calls.append(f"{service} {operation}")
        if service == "sqs":
            self.messages += 1
        elif service == "s3":
            self.s3_reads += operation in _S3_READING
            self.s3_writes += operation not in _S3_READING | _S3_FREE
        else:
            self.read_units += _read_units(operation, parameters, answer)
            self.write_units += written_units(operation, parameters)


def _read_units(operation: str, parameters: Mapping[str, Any], answer: Mapping[str, Any]) -> float:
    """Count one for 4 KB, half of that unless the read is consistent; items of a query together, of a batch each."""
    if operation == "GetItem":
        return _units_of([answer.get("Item", {})], consistent=parameters.get("ConsistentRead", False))
    if operation in ("Query", "Scan"):
        return _units_of(answer.get("Items", []), consistent=parameters.get("ConsistentRead", False))
    if operation == "BatchGetItem":
        return sum(
            _units_of([item], consistent=parameters["RequestItems"][table].get("ConsistentRead", False))
            for table, items in answer.get("Responses", {}).items()
            for item in items
        )
    return 0.0


def _units_of(items: Iterable[Mapping[str, Any]], *, consistent: bool) -> float:
    return max(1, math.ceil(sum(map(item_bytes, items)) / 4096)) * (1.0 if consistent else 0.5)


def written_units(operation: str, parameters: Mapping[str, Any]) -> float:
    """Return 1 for each kilobyte of an item, twice that in a transaction.

    What an update does not name of an item is not known here: updates count by the values that they bring, and
    deletions and conditions as one kilobyte. Our counters have less than that; rows of files are put as a whole.
    """
    if operation == "TransactWriteItems":
        actions = [action for item in parameters["TransactItems"] for action in item.values()]
        return 2 * sum(_written(action) for action in actions)
    if operation == "BatchWriteItem":
        requests = [request for several in parameters["RequestItems"].values() for request in several]
        return sum(_written(request.get("PutRequest", {})) for request in requests)
    return _written(parameters) if operation in ("PutItem", "UpdateItem", "DeleteItem") else 0.0


def _written(action: Mapping[str, Any]) -> int:
    item = action.get("Item") or {**action.get("Key", {}), **action.get("ExpressionAttributeValues", {})}
    return max(1, math.ceil(item_bytes(item) / 1024))


def item_bytes(item: Mapping[str, Any]) -> int:
    """Return an item's size: its names and its values ("Item sizes and formats" in DynamoDB's developer guide)."""
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S" | "B":
            return len(content.encode()) if isinstance(content, str) else len(content)
        case "N":
            return len(content) // 2 + 2
        case "M":
            return 3 + item_bytes(content) + len(content)
        case "L":
            return 3 + sum(_value_bytes(part) + 1 for part in content)
        case "SS" | "NS" | "BS":
            return sum(map(len, content))
    return 1
