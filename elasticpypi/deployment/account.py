"""Who we are for AWS."""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from elasticpypi.aws import AWS, error_code
from elasticpypi.deployment import Result

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_UNKNOWN = {"InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException", "AuthFailure"}


def check_credentials(aws: AWS) -> Result:
    """Ask AWS who we are, which everybody may."""
    try:
        answer = aws.client("sts").get_caller_identity()
    except NoCredentialsError:
        remedy = "name a profile of ~/.aws/config in 'profile', make one with `aws configure`, or set AWS_PROFILE"
        return Result("there are none", remedy)
    except ClientError as error:
        if error_code(error) in _EXPIRED:
            return Result("they have expired", "log in anew, for example with `aws sso login`")
        if error_code(error) in _UNKNOWN:
            return Result("AWS does not know them", "correct the key and its secret in ~/.aws/credentials")
        raise
    except BotoCoreError as error:
        if "Token" not in type(error).__name__ and "Credential" not in type(error).__name__:
            raise  # the network, for example
        return Result(f"they cannot be had ({error})", "log in anew, for example with `aws sso login`")
    return Result(f"those of {answer['Arn']}")
