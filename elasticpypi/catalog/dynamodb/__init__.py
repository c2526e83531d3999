"""The catalog and the ledger in one DynamoDB table (docs/design.md has its keys)."""

from elasticpypi.catalog.dynamodb.adapter import DynamoDBCatalog
from elasticpypi.catalog.dynamodb.ledger import DynamoDBLedger

__all__ = ["DynamoDBCatalog", "DynamoDBLedger"]
