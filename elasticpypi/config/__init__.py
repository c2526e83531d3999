"""What an index is told: the settings, from a JSON file and from variables, checked before anything runs."""

from elasticpypi.config.given import VARIABLE_PREFIX, check_projects
from elasticpypi.config.loading import CONFIG_VARIABLE, check_packages_url, check_reference, load_settings
from elasticpypi.config.settings import (
    ARCHITECTURES,
    CORE_METADATA_PLACES,
    RUNTIMES,
    TOKEN_USERNAME,
    Gateway,
    OutputAccess,
    Permission,
    Settings,
    Upstream,
    UpstreamMode,
    User,
)
from elasticpypi.config.upstreams import write_upstream

__all__ = [
    "ARCHITECTURES",
    "CONFIG_VARIABLE",
    "CORE_METADATA_PLACES",
    "RUNTIMES",
    "TOKEN_USERNAME",
    "VARIABLE_PREFIX",
    "Gateway",
    "OutputAccess",
    "Permission",
    "Settings",
    "Upstream",
    "UpstreamMode",
    "User",
    "check_packages_url",
    "check_projects",
    "check_reference",
    "load_settings",
    "write_upstream",
]
