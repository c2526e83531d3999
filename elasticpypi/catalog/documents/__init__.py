"""The catalog in documents of a bucket, for an index without a table (docs/design.md has their keys)."""

from elasticpypi.catalog.documents.adapter import DocumentsCatalog
from elasticpypi.catalog.documents.store import Documents, FoundDocument

__all__ = ["Documents", "DocumentsCatalog", "FoundDocument"]
