"""The catalog and the ledger in one SQLite file each (WAL mode), which several processes and threads may share."""

from elasticpypi.catalog.sqlite.adapter import SqliteCatalog
from elasticpypi.catalog.sqlite.connections import SQLITE_VERSION
from elasticpypi.catalog.sqlite.ledger import SqliteLedger

__all__ = ["SQLITE_VERSION", "SqliteCatalog", "SqliteLedger"]
