"""What `elasticpypi doctor` looks at on AWS."""

from __future__ import annotations

from collections.abc import Iterator

from elasticpypi.config import Settings
from elasticpypi.errors import ConfigError
from elasticpypi.finding import Finding
from elasticpypi.index import connect_aws


def check_deployment(settings: Settings, *, bucket: str, table: str | None, fix: bool) -> Iterator[Finding]:
    """Yield what was found about bucket, table and queue, with `fix` after mending what can be mended.

    Without a table there is no API either, and only what there is is looked at.
    """
    try:
        aws = connect_aws(settings)
    except ConfigError as error:
        yield Finding("AWS", str(error), "correct that, and run `elasticpypi doctor` again")
        return
    from elasticpypi.deployment import deployment_of
    from elasticpypi.deployment.examine import examine  # it needs boto3

    yield Finding("region", aws.region)
    yield from examine(aws, deployment_of(settings, bucket=bucket, table=table), fix=fix)
