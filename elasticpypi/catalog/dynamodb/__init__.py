"""The catalog in one DynamoDB table (docs/design.md has its keys)."""

from elasticpypi.catalog.dynamodb.adapter import DynamoDBCatalog

__all__ = ["DynamoDBCatalog"]
