"""The storage in an S3 bucket."""

from elasticpypi.storage.s3.storage import S3Storage

__all__ = ["S3Storage"]
