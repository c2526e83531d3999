"""The calls to DynamoDB: paginated, repeated where that helps, their errors translated.

Source: Amazon DynamoDB Developer Guide, "Error handling with DynamoDB", "Amazon DynamoDB Transactions: How it works".
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, TokenRetrievalError

from elasticpypi.aws import AWS, error_code
from elasticpypi.catalog.dynamodb.items import Item, Key, as_key, batches, key_of
from elasticpypi.errors import CatalogError

KEYS_PER_READ = 100
_ITEMS_PER_WRITE = 25
# API Gateway waits for 29 seconds, and the client repeats by itself before we do: a table that throttles and then
# never answers is given up after these 6 and the 15 of one call (see `aws`).
_PATIENCE_SECONDS = 6.0
_SHORTEST_PAUSE = 0.02  # seconds
_LONGEST_PAUSE = 0.5
_CONDITION_FAILED = "ConditionalCheckFailedException"
_CANCELED = "TransactionCanceledException"
# What passes by itself, as whole answers and as reasons why a transaction was canceled.
_THROTTLED = {"ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded"}
_PASSING = _THROTTLED | {"TransactionConflictException", "TransactionInProgressException"}
PASSING_REASONS = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
_chance = random.SystemRandom()  # a generator in memory is the same in every copy of a snapshot (SnapStart)
_NO_CREDENTIALS = {
    "ExpiredTokenException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "UnrecognizedClientException",
}


class Patience:
    """Pauses between attempts, longer each time and by chance, so that those who met do not meet again."""

    def __init__(self, given_up: str, seconds: float | None = None) -> None:
        self._given_up = given_up
        self._until = time.monotonic() + (_PATIENCE_SECONDS if seconds is None else seconds)
        self._pause = _SHORTEST_PAUSE

    @property
    def is_over(self) -> bool:
        """Whether it has lasted too long."""
        return time.monotonic() >= self._until

    def wait(self) -> None:
        """Pause; raise CatalogError with the sentence where it has lasted too long."""
        if self.is_over:
            raise CatalogError(self._given_up)
        time.sleep(_chance.uniform(0, self._pause))
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)


class Table:
    """One table. What reads, reads strongly consistently; every method may raise CatalogError."""

    def __init__(self, aws: AWS, name: str) -> None:
        self._aws = aws
        self.name = name

    @property
    def busy(self) -> str:
        """What to say where others are in the way for too long."""
        return f"the table {self.name!r} is too busy: try again in a moment"

    def get(self, key: Key) -> Item | None:
        """Return an item; None where there is none."""
        item: Item | None = self._call("get_item", TableName=self.name, Key=as_key(key), ConsistentRead=True).get(
            "Item"
        )
        return item

    def get_all(self, keys: Iterable[Key]) -> dict[Key, Item]:
        """Return those items that there are."""
        found: dict[Key, Item] = {}
        for batch in batches(dict.fromkeys(keys), KEYS_PER_READ):
            wanted, patience = [as_key(key) for key in batch], Patience(self.busy)
            while wanted:
                answer = self._call(
                    "batch_get_item", RequestItems={self.name: {"Keys": wanted, "ConsistentRead": True}}
                )
                items = answer["Responses"].get(self.name, [])
                found |= {key_of(item): item for item in items}
                wanted = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
                if wanted and not items:
                    patience.wait()
        return found

    def query(self, pk: str, beginning: str | None = None) -> Iterator[Item]:
        """Yield the items of a partition by sort key, those only that begin so."""
        condition, names, values = "#pk = :pk", {"#pk": "pk"}, {":pk": {"S": pk}}
        if beginning is not None:
            condition += " AND begins_with(#sk, :sk)"
            names, values = names | {"#sk": "sk"}, values | {":sk": {"S": beginning}}
        yield from self._pages(
            "query",
            KeyConditionExpression=condition,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=values,
        )

    def query_backwards(self, pk: str, first: str, end: str, *, at_once: int) -> Iterator[Item]:
        """Yield the items of a partition whose sort keys are from `first` on and before `end`, the last one first.

        `at_once` is how many items a request is to read at most.
        """
        if first >= end:
            return  # a range that DynamoDB refuses
        for item in self._pages(
            "query",
            KeyConditionExpression="#pk = :pk AND #sk BETWEEN :first AND :end",
            ExpressionAttributeNames={"#pk": "pk", "#sk": "sk"},
            ExpressionAttributeValues={":pk": {"S": pk}, ":first": {"S": first}, ":end": {"S": end}},
            ScanIndexForward=False,
            Limit=at_once,
        ):
            if item["sk"]["S"] != end:
                yield item

    def scan_rows(self, beginning: str) -> Iterator[Item]:
        """Yield key, fingerprint and parts' names of every live row whose sort key begins so: it reads all items."""
        yield from self._pages(
            "scan",
            # A record of the ledger may have any sort key, but it has no `key`.
            FilterExpression="begins_with(#sk, :sk) AND attribute_exists(#key) AND attribute_not_exists(#expires)",
            ProjectionExpression="#pk, #key, #f, #t",
            ExpressionAttributeNames={
                "#pk": "pk",
                "#sk": "sk",
                "#expires": "expires",
                "#key": "key",
                "#f": "f",
                "#t": "t",
            },
            ExpressionAttributeValues={":sk": {"S": beginning}},
        )

    def put(self, item: Item, *, condition: Item) -> bool:
        """Write an item; false where the condition (see `when`) does not hold."""
        return self._write("put_item", TableName=self.name, Item=item, **condition)

    def put_signed(self, item: Item, *, condition: Item) -> bool:
        """Write an item with a signature of its own, as `w`; false where the condition does not hold.

        The condition no longer holds for a request that is repeated because its answer was lost. That it is our item
        which lies there then, and not the same one of somebody else, is told by its signature.
        """
        signature = {"S": secrets.token_hex(8)}
        try:
            self._call(
                "put_item",
                raising=_CONDITION_FAILED,
                TableName=self.name,
                Item=item | {"w": signature},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **condition,
            )
        except ClientError as error:
            there: Item = error.response.get("Item", {})  # type: ignore[assignment]
            return there.get("w") == signature
        return True

    def delete(self, key: Key, *, condition: Item) -> bool:
        """Delete an item; false where the condition does not hold."""
        return self._write("delete_item", TableName=self.name, Key=as_key(key), **condition)

    def add(self, key: Key, numbers: Mapping[str, int], changes: Item, *, condition: Item) -> bool:
        """Add to numbers of an item and set other attributes of it; false where the condition does not hold."""
        adding, setting = add_to_attributes(**numbers), set_attributes(changes)
        both = {"UpdateExpression": f"{adding['UpdateExpression']} {setting['UpdateExpression']}"}
        action = _merged(_merged(adding, setting) | both, condition)
        return self._write("update_item", TableName=self.name, Key=as_key(key), **action)

    def update(self, key: Key, changes: Item, *, condition: Item) -> bool:
        """Set attributes of an item; false where the condition (see `when`) does not hold."""
        action = _merged(set_attributes(changes), condition)
        return self._write("update_item", TableName=self.name, Key=as_key(key), **action)

    def transact(self, actions: Sequence[Item]) -> list[str]:
        """Do all actions or none; return nothing where they are done, else a reason (or "None") for each.

        An action is of the form {"Put": {"Item": …}}; the table is added. Whether a request that is repeated, by
        the client or by us, has been carried out already is told by its token.
        """
        token = secrets.token_hex(16)
        named = [{verb: {"TableName": self.name, **action}} for each in actions for verb, action in each.items()]
        try:
            self._call("transact_write_items", raising=_CANCELED, TransactItems=named, ClientRequestToken=token)
        except ClientError as error:
            reasons = [str(reason.get("Code")) for reason in error.response.get("CancellationReasons", [])]
            if len(reasons) != len(actions):
                raise self._translated(error, "transact_write_items") from error
            return reasons
        return []

    def write_all(self, items: Iterable[Item]) -> None:
        """Write items, each by itself."""
        self._change_all({"PutRequest": {"Item": item}} for item in items)

    def delete_all(self, keys: Iterable[Key]) -> None:
        """Delete items, each by itself."""
        self._change_all({"DeleteRequest": {"Key": as_key(key)}} for key in keys)

    def _change_all(self, requests: Iterable[Item]) -> None:
        for batch in batches(requests, _ITEMS_PER_WRITE):
            left, patience = batch, Patience(self.busy)
            while left:
                answer = self._call("batch_write_item", RequestItems={self.name: left})
                left = answer.get("UnprocessedItems", {}).get(self.name, [])
                if left:
                    patience.wait()

    def _pages(self, operation: str, **arguments: Any) -> Iterator[Item]:
        start: Item = {}
        while True:
            answer = self._call(operation, TableName=self.name, ConsistentRead=True, **arguments, **start)
            yield from answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def _write(self, operation: str, **arguments: Any) -> bool:
        try:
            self._call(operation, raising=_CONDITION_FAILED, **arguments)
        except ClientError:
            return False
        return True

    def _call(self, operation: str, *, raising: str = "", **arguments: Any) -> Any:
        """Call DynamoDB, again where that helps; an error with the code `raising` is the caller's."""
        patience = Patience(self.busy)
        while True:
            try:
                return getattr(self._aws.dynamodb, operation)(**arguments)
            except ClientError as error:
                code = error_code(error)
                if code == raising:
                    raise
                if code not in _PASSING:
                    raise self._translated(error, operation) from error
                patience.wait()
            except BotoCoreError as error:
                raise self._translated(error, operation) from error

    def _translated(self, error: ClientError | BotoCoreError, operation: str) -> CatalogError:
        if isinstance(error, NoCredentialsError | TokenRetrievalError):
            return CatalogError("there are no AWS credentials: sign in, or name another 'profile'")
        if not isinstance(error, ClientError):
            return CatalogError(
                f"the table {self.name!r} cannot be reached in {self._aws.region}: {error}; try again in a moment"
            )
        code = error_code(error)
        if code == "ResourceNotFoundException":
            return CatalogError(
                f"there is no table {self.name!r} in {self._aws.region}: run `elasticpypi doctor`, which says how "
                "it is made, or correct 'table' or 'region' in the configuration"
            )
        if code == "AccessDeniedException":
            return CatalogError(
                f"the credentials do not allow {operation} on the table {self.name!r}: extend their policy"
            )
        if code == "ValidationException":
            return CatalogError(
                f"the table {self.name!r} does not take {operation}, probably because it has other keys than ours: "
                "run `elasticpypi doctor`"
            )
        if code in _NO_CREDENTIALS:
            return CatalogError(f"AWS does not accept the credentials ({code}): sign in, or name another 'profile'")
        return CatalogError(
            f"the table {self.name!r} cannot be used now: {code} from {operation}; try again in a moment"
        )


def when(**expected: Item | None) -> Item:
    """Return the condition that attributes have these values; None: that there is none, of `pk` therefore no item."""
    terms = [
        f"attribute_not_exists(#{name})" if value is None else f"#{name} = :{name}_was"
        for name, value in expected.items()
    ]
    values = {f":{name}_was": value for name, value in expected.items() if value is not None}
    return {
        "ConditionExpression": " AND ".join(terms),
        "ExpressionAttributeNames": {f"#{name}": name for name in expected},
    } | ({"ExpressionAttributeValues": values} if values else {})


def set_attributes(changes: Item) -> Item:
    """Return the update that sets attributes."""
    return {
        "UpdateExpression": "SET " + ", ".join(f"#{name} = :{name}" for name in changes),
        "ExpressionAttributeNames": {f"#{name}": name for name in changes},
        "ExpressionAttributeValues": {f":{name}": value for name, value in changes.items()},
    }


def add_to_attributes(**numbers: int) -> Item:
    """Return the update that adds to numbers, of which those that are not there are 0."""
    return {
        "UpdateExpression": "ADD " + ", ".join(f"#{name} :{name}" for name in numbers),
        "ExpressionAttributeNames": {f"#{name}": name for name in numbers},
        "ExpressionAttributeValues": {f":{name}": {"N": str(value)} for name, value in numbers.items()},
    }


def _merged(first: Item, second: Item) -> Item:
    return (
        first
        | second
        | {
            name: first.get(name, {}) | second.get(name, {})
            for name in ("ExpressionAttributeNames", "ExpressionAttributeValues")
        }
    )
