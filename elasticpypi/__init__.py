"""elasticpypi: a private Python package index that you own."""

__version__ = "0.1.0"
