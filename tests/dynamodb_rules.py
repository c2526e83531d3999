"""What moto lets pass and DynamoDB refuses, and the faults of DynamoDB that moto never has.

Source: Amazon DynamoDB Developer Guide, "Constraints in Amazon DynamoDB", "Reserved words", "Error handling".
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from types import SimpleNamespace
from typing import Any

_EXPRESSIONS = (
    "ConditionExpression",
    "FilterExpression",
    "KeyConditionExpression",
    "ProjectionExpression",
    "UpdateExpression",
)
_FUNCTIONS = {"attribute_exists", "attribute_not_exists", "attribute_type", "begins_with", "contains", "size"}
_KEYWORDS = {"AND", "OR", "NOT", "IN", "BETWEEN", "SET", "ADD", "REMOVE", "DELETE"}
_UPDATE_FUNCTIONS = {"if_not_exists", "list_append"}
_RESERVED = set((files("moto.dynamodb") / "parsing/reserved_keywords.txt").read_text().split())
_KEY_BYTES = {"pk": 2048, "sk": 1024}
_ITEM_BYTES = 400 << 10
_TRANSACTION_BYTES = 4 << 20
_BATCH_BYTES = 16 << 20


class RefusedError(Exception):
    """DynamoDB would answer with a ValidationException."""


def enforce(client: Any) -> None:
    """Make a client of DynamoDB refuse what DynamoDB does."""
    client.meta.events.register("before-parameter-build.dynamodb", _check, unique_id="dynamodb-rules")


@contextmanager
def small_pages(client: Any, size: int) -> Iterator[None]:
    """Let queries and scans answer with few items at a time."""

    def limit(params: dict[str, Any], **_: Any) -> None:
        params["Limit"] = size

    event = "before-parameter-build.dynamodb."
    with _handling(client, f"{event}Query", limit), _handling(client, f"{event}Scan", limit):
        yield


@contextmanager
def faults(client: Any, *, every: int = 1, code: str | None = None) -> Iterator[list[str]]:
    """Let every nth call fail, with this code or as an overloaded DynamoDB does; yield a list of what has failed.

    The errors are those that are left when botocore has tried again in vain.
    """
    failed: list[str] = []
    calls, kinds = itertools.count(1), itertools.count()

    def fail(model: Any, params: Mapping[str, Any], **_: Any) -> Any:
        if next(calls) % every:
            return None
        failed.append(model.name)
        if code is not None:
            return _error(code)
        kind = next(kinds) % 2
        if model.name == "TransactWriteItems" and kind:
            actions = json.loads(params["body"])["TransactItems"]
            reasons = [{"Code": "None"} for _ in actions]
            reasons[-1] = {"Code": "TransactionConflict"}
            return _error("TransactionCanceledException", CancellationReasons=reasons)
        if model.name == "BatchGetItem" and kind:
            return SimpleNamespace(status_code=200), {
                "Responses": {},
                "UnprocessedKeys": json.loads(params["body"])["RequestItems"],
            }
        return _error("ThrottlingException" if kind else "ProvisionedThroughputExceededException")

    with _handling(client, "before-call.dynamodb", fail):
        yield failed


@contextmanager
def half_answers(client: Any) -> Iterator[None]:
    """Let every BatchGetItem answer for some of the keys only, as long as there are several."""

    def withhold(parsed: dict[str, Any], **_: Any) -> None:
        for table, items in parsed.get("Responses", {}).items():
            withheld = items[: len(items) // 2]
            if withheld:
                parsed["Responses"][table] = items[len(withheld) :]
                keys = [{name: item[name] for name in _KEY_BYTES} for item in withheld]
                parsed["UnprocessedKeys"] = {table: {"Keys": keys, "ConsistentRead": True}}

    with _handling(client, "after-call.dynamodb.BatchGetItem", withhold):
        yield


@contextmanager
def _handling(client: Any, event: str, handler: Any) -> Iterator[None]:
    client.meta.events.register_first(event, handler)
    try:
        yield
    finally:
        client.meta.events.unregister(event, handler)


def _error(code: str, **more: Any) -> tuple[Any, dict[str, Any]]:
    return SimpleNamespace(status_code=400), {"Error": {"Code": code, "Message": "injected"}, **more}


def _check(params: dict[str, Any], model: Any, **_: Any) -> None:
    match model.name:
        case "Scan":
            _require(_is_called_by("known_keys"), "a scan outside `known_keys`")
            _check_expressions(params)
        case "GetItem" | "Query" | "PutItem" | "UpdateItem" | "DeleteItem":
            _check_action(params)
        case "BatchGetItem":
            for request in params["RequestItems"].values():
                _check_batch([request["Keys"]], 100)
        case "BatchWriteItem":
            for requests in params["RequestItems"].values():
                actions = [action for request in requests for action in request.values()]
                for action in actions:
                    _check_action(action)
                _check_batch([[action.get("Key") or _key(action["Item"]) for action in actions]], 25)
                _require(sum(map(_action_bytes, actions)) <= _BATCH_BYTES, "a batch over 16 MB")
        case "TransactWriteItems":
            actions = [action for each in params["TransactItems"] for action in each.values()]
            for action in actions:
                _check_action(action)
            _check_batch([[action.get("Key") or _key(action["Item"]) for action in actions]], 100)
            _require(sum(map(_action_bytes, actions)) <= _TRANSACTION_BYTES, "a transaction over 4 MB")


def _check_batch(batches: Iterable[list[Any]], most: int) -> None:
    for keys in batches:
        _require(0 < len(keys) <= most, f"{len(keys)} keys where 1 to {most} may be")
        for key in keys:
            _check_key(key)
        _require(len({json.dumps(key, sort_keys=True) for key in keys}) == len(keys), "a key twice")


def _check_action(action: Mapping[str, Any]) -> None:
    _check_expressions(action)
    if "Key" in action:
        _check_key(action["Key"])
        _require(set(action["Key"]) == set(_KEY_BYTES), "a key that has not just pk and sk")
    if "Item" in action:
        _check_key(action["Item"])
        size = _bytes({"M": action["Item"]})
        _require(size <= _ITEM_BYTES, f"an item of {size} bytes")


def _check_key(key: Mapping[str, Any]) -> None:
    for name, most in _KEY_BYTES.items():
        value: dict[str, Any] = key.get(name) or {}
        _require(list(value) == ["S"], f"{name} is no string: {value}")
        _require(0 < len(value["S"].encode()) <= most, f"{name} has not 1 to {most} bytes: {value}")


def _check_expressions(action: Mapping[str, Any]) -> None:
    text = " ".join(action.get(name, "") for name in _EXPRESSIONS)
    for placeholder, attribute in (("#", "ExpressionAttributeNames"), (":", "ExpressionAttributeValues")):
        defined = action.get(attribute)
        _require(defined != {}, f"{attribute} is empty")
        used = set(re.findall(rf"{placeholder}\w+", text))
        _require(used == set(defined or {}), f"{attribute} has {set(defined or {})}, but {used} is used")
    for value in (action.get("ExpressionAttributeValues") or {}).values():
        _bytes(value)
    for name, placeholder in re.findall(r"\b(pk|sk)\b[^:]*:(\w+)", action.get("KeyConditionExpression", "")):
        size = _bytes(action["ExpressionAttributeValues"][f":{placeholder}"])
        _require(0 < size <= _KEY_BYTES[name], f"a condition that {name} has {size} bytes")
    words = set(re.findall(r"(?<![#:\w])[A-Za-z_]\w*", text)) - _FUNCTIONS - _UPDATE_FUNCTIONS - _KEYWORDS
    _require(not {word.upper() for word in words} & _RESERVED, f"a reserved word among {words}")
    changed = {(action.get("ExpressionAttributeNames") or {}).get(name, name) for name in _changed(action)}
    _require(not changed & set(_KEY_BYTES), "an update of a key")


def _changed(action: Mapping[str, Any]) -> list[str]:
    """Return the attributes (or placeholders) that an update names on the left."""
    update = re.sub(r"\([^)]*\)", "", action.get("UpdateExpression", ""))
    return re.findall(r"(?:SET|ADD|REMOVE|DELETE|,)\s+(#?\w+)", update)


def _key(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item[name] for name in _KEY_BYTES}


def _action_bytes(action: Mapping[str, Any]) -> int:
    values = action.get("Item") or action.get("ExpressionAttributeValues") or {}
    return _bytes({"M": values})


def _bytes(attribute: Mapping[str, Any]) -> int:
    """Return the size of an attribute as DynamoDB counts; refuse one that is none."""
    _require(len(attribute) == 1, f"an attribute of several types: {attribute}")
    ((kind, value),) = attribute.items()
    match kind:
        case "S":
            return len(value.encode())
        case "B":
            return len(value)
        case "N":
            _require(re.fullmatch(r"-?\d{1,38}", value), f"no number: {value!r}")
            return len(value) // 2 + 2
        case "BOOL" | "NULL":
            return 1
        case "L":
            return 3 + sum(1 + _bytes(each) for each in value)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _bytes(each) for name, each in value.items())
    raise RefusedError(f"the type {kind} is not used here")


def _is_called_by(name: str) -> bool:
    frame = sys._getframe()  # noqa: SLF001
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == name:
            return True
    return False


def _require(condition: object, what: str) -> None:
    if not condition:
        raise RefusedError(f"DynamoDB refuses {what}")
