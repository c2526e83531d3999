"""The application that `npx sls wsgi serve` runs here, over the bucket and the table that the configuration names."""

from __future__ import annotations

import os
from pathlib import Path

import elasticpypi
from elasticpypi.auth import Authenticator
from elasticpypi.config import load_settings
from elasticpypi.errors import ConfigError
from elasticpypi.index import open_index
from elasticpypi.web.app import create_app

_settings = load_settings(environ=os.environ, default_path=Path(elasticpypi.__file__).with_name("config.json"))
if _settings.bucket is None:
    raise ConfigError(
        "there is no bucket to serve: name 'bucket' and 'table' in elasticpypi/config.json, or serve a directory with "
        "`make serve`"
    )
_index = open_index(_settings, data=Path())
app = create_app(
    _index, Authenticator(_settings.all_users, tokens=_index.tokens), url=_settings.url, title=_settings.title
)
