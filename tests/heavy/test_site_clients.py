"""The slower clients install from an index that is written as files, whatever serves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aws import Cloud
from tests.clients import Desk
from tests.static_serving import nginx
from tests.static_shops import cloudfront, install, nginx_below_prefix, s3_website, shop_in_bucket, shop_in_directory

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]  # poetry and pdm ask for each file, with seconds for a start


@pytest.fixture(scope="module", params=["nginx", "nginx below a prefix", "S3 website", "CloudFront"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root, directory = tmp_path_factory.mktemp("shop"), tmp_path_factory.mktemp("server")
    if request.param.startswith("nginx"):
        with shop_in_directory(root) as shop:
            below = request.param != "nginx"
            server = nginx_below_prefix(shop, directory) if below else nginx(shop.output, shop.site.data, directory)
            with server as served:
                yield served
    else:
        cloud: Cloud = request.getfixturevalue("cloud")
        with shop_in_bucket(cloud, root) as shop:
            if request.param == "CloudFront":
                with cloudfront(cloud, shop, directory) as served:
                    yield served
            else:
                with s3_website(cloud, shop, directory) as (served, _, _):
                    yield served


@pytest.mark.parametrize("client", ["poetry", "pdm"])
def test_everything_is_installed(url: str, tmp_path: Path, client: str) -> None:
    install(Desk(tmp_path), client, url)
