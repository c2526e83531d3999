"""Trusted publishers: CI jobs that may publish some projects without any secret of ours, by showing whose they are.

One document in the storage, `.elasticpypi/publishers.json`: the publishers, and the audience for which a CI system has
to make its ID tokens. Who shows a token of such a job gets an upload token of ours for a quarter of an hour.

Specifications: what GitHub (OpenID Connect reference) and GitLab (ID token authentication) say in their ID tokens.
"""

from elasticpypi.publishers.jobs import fits
from elasticpypi.publishers.publisher import Provider, Publisher, describe_publisher, make_publisher
from elasticpypi.publishers.registry import KEY, Publishers

__all__ = ["KEY", "Provider", "Publisher", "Publishers", "describe_publisher", "fits", "make_publisher"]
