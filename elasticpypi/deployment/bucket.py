"""The bucket, as serverless.yml makes it: private, versioned, encrypted, and cleared of what uploads leave behind."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from elasticpypi.aws import AWS, error_code
from elasticpypi.deployment import DEPLOY, FIX, Deployment, Result, named_on_the_command_line
from elasticpypi.names import RESERVED_PREFIX

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import CORSRuleTypeDef, LifecycleRuleTypeDef, PublicAccessBlockConfigurationTypeDef

_Answer = TypeVar("_Answer")
_MISSING = {"404", "NoSuchBucket"}
BLOCKS: PublicAccessBlockConfigurationTypeDef = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
# By id, as `sls deploy` sets them for a bucket that it makes. What it does there with old versions of files is not
# asked for: in a bucket that was there before, some may be somebody else's.
LIFECYCLE: dict[str, dict[str, Any]] = {
    "elasticpypi-parts": {
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
    },
    "elasticpypi-uploads": {
        "Status": "Enabled",
        "Filter": {"Prefix": f"{RESERVED_PREFIX}uploads/"},
        "Expiration": {"Days": 2},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
    },
    "elasticpypi-pages": {
        "Status": "Enabled",
        "Filter": {"Prefix": f"{RESERVED_PREFIX}pages/"},
        "Expiration": {"Days": 30},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
    },
}

# Lets pages send what was signed for them: which one sends it does not matter, since no cookie goes along.
CORS: CORSRuleTypeDef = {
    "ID": "elasticpypi-uploads",
    "AllowedMethods": ["PUT"],
    "AllowedOrigins": ["*"],
    "AllowedHeaders": ["if-none-match", "x-amz-checksum-sha256", "x-amz-sdk-checksum-algorithm"],
    "MaxAgeSeconds": 3600,
}


def check_bucket(aws: AWS, names: Deployment) -> Result:
    """Look whether the bucket is there, and in which region."""
    try:
        answer = aws.s3.head_bucket(Bucket=names.bucket)
    except ClientError as error:
        if error_code(error) in _MISSING:
            made = f"{DEPLOY} makes it; if that was done"
            if names.take_over:
                where = named_on_the_command_line(names, aws.region)
                made = f"make it with `aws s3 mb s3://{names.bucket}{where}`; if there is one"
            remedy = f"{made}, correct 'bucket', or 'profile' for another account"
            return Result(f"there is no bucket {names.bucket!r}", remedy)
        if error_code(error) == "403":
            found = f"{names.bucket!r} belongs to another account, or these credentials may not s3:ListBucket there"
            return Result(found, "choose another name for 'bucket' (all accounts share them), or allow s3:ListBucket")
        raise
    # The client follows a bucket to its region, which costs a request; signed URLs are made for ours.
    region = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", aws.region)
    if region != aws.region:
        found = f"{names.bucket!r} lies in {region}, and this is configured for {aws.region}"
        return Result(found, f'write "region": "{region}" into the configuration')
    return Result(f"{names.bucket!r} in {region}")


def check_privacy(aws: AWS, names: Deployment) -> Result:
    """Look whether anything can make the bucket public."""
    blocks = _or_none(lambda: aws.s3.get_public_access_block(Bucket=names.bucket), "NoSuchPublicAccessBlock")
    if blocks is not None and blocks["PublicAccessBlockConfiguration"] == BLOCKS:
        return Result("nobody can make it public")
    status = _or_none(lambda: aws.s3.get_bucket_policy_status(Bucket=names.bucket), "NoSuchBucketPolicy")
    is_public = status is not None and status["PolicyStatus"]["IsPublic"]
    found = "its policy makes it public" if is_public else "a policy or an ACL could make it public"

    def mend() -> str:
        aws.s3.put_public_access_block(Bucket=names.bucket, PublicAccessBlockConfiguration=BLOCKS)
        return "public access is blocked now"

    return Result(found, f"run {FIX}, which blocks public access", mend)


def check_versioning(aws: AWS, names: Deployment) -> Result:
    """Look whether what is overwritten or deleted can be had back."""
    if aws.s3.get_bucket_versioning(Bucket=names.bucket).get("Status") == "Enabled":
        return Result("on")

    def mend() -> str:
        aws.s3.put_bucket_versioning(Bucket=names.bucket, VersioningConfiguration={"Status": "Enabled"})
        return "versioning is on now"

    return Result("off: what is overwritten or deleted is lost", f"run {FIX}, which switches it on", mend)


def check_encryption(aws: AWS, names: Deployment) -> Result:
    """Tell how objects are encrypted at rest; S3 does so by itself since January 2023.

    A key of the account's own is used only by whom its policy or a role allows it, and the roles of the stack do not.
    """
    answer = _or_none(lambda: aws.s3.get_bucket_encryption(Bucket=names.bucket), "ServerSideEncryptionConfiguration")
    rules = [] if answer is None else answer["ServerSideEncryptionConfiguration"]["Rules"]
    defaults = [rule.get("ApplyServerSideEncryptionByDefault") for rule in rules]
    default = next((each for each in defaults if each is not None), None)
    if default is None:
        return Result("AES256, as S3 does by itself")
    key = default.get("KMSMasterKeyID")
    if key is None or key.endswith("alias/aws/s3"):
        return Result(default["SSEAlgorithm"])
    remedy = (
        "make AES256 the bucket's default again; as long as objects are encrypted by that key, "
        "allow kms:Decrypt and kms:GenerateDataKey on it to the stack's three roles"
    )
    return Result(f"{default['SSEAlgorithm']} by the key {key}, which the functions' roles may not use", remedy)


def check_lifecycle(aws: AWS, names: Deployment) -> Result:
    """Look whether S3 clears what uploads and pages leave behind."""
    answer = _or_none(
        lambda: aws.s3.get_bucket_lifecycle_configuration(Bucket=names.bucket), "NoSuchLifecycleConfiguration"
    )
    present = [] if answer is None else list(answer["Rules"])
    same = {rule["ID"] for rule in present if rule.get("ID") in LIFECYCLE and _same(rule)}
    missing = sorted(LIFECYCLE.keys() - same)
    if not missing:
        return Result("what uploads and pages leave behind is cleared")
    # What is said of all rules at once; S3 takes its default where that is left out.
    others: Any = {key: value for key, value in (answer or {}).items() if key == "TransitionDefaultMinimumObjectSize"}

    def mend() -> str:
        rules: Any = {"Rules": merge_lifecycle(present)}
        aws.s3.put_bucket_lifecycle_configuration(Bucket=names.bucket, LifecycleConfiguration=rules, **others)
        return "they are set now; other rules are as they were"

    return Result(f"rules are missing or others: {', '.join(missing)}", f"run {FIX}, which sets them", mend)


def merge_lifecycle(present: list[Any]) -> list[LifecycleRuleTypeDef]:
    """Return the rules with ours among them; those with other ids stay, in their places.

    A rule may have its prefix outside of a filter, as S3 had it once, but only where all have.
    """
    merged = [_ours(rule["ID"]) if rule.get("ID") in LIFECYCLE else _filtered(rule) for rule in present]
    there = {rule.get("ID") for rule in present}
    return merged + [_ours(name) for name in LIFECYCLE if name not in there]


def check_cors(aws: AWS, names: Deployment) -> Result:
    """Look whether browsers may send files to the bucket, as the page for uploads has them do.

    Any rule that lets them will do: its owner may have named the pages that may.
    """
    if names.is_alone:
        return Result("there is no page that sends files to it")
    answer = _or_none(lambda: aws.s3.get_bucket_cors(Bucket=names.bucket), "NoSuchCORSConfiguration")
    present: list[Any] = [] if answer is None else answer.get("CORSRules", [])
    if any(_lets_pages_upload(rule) for rule in present):
        return Result("browsers may send files to it")

    def mend() -> str:
        others = [rule for rule in present if rule.get("ID") != CORS["ID"]]
        aws.s3.put_bucket_cors(Bucket=names.bucket, CORSConfiguration={"CORSRules": [*others, CORS]})
        return "they may now; other rules are as they were"

    return Result("browsers may not send files to it: uploading by a page fails", f"run {FIX}, which lets them", mend)


def _lets_pages_upload(rule: Any) -> bool:
    headers = {header.lower() for header in rule.get("AllowedHeaders", [])}
    needed = {*CORS["AllowedHeaders"]}
    return "PUT" in rule["AllowedMethods"] and all(any(fnmatchcase(name, of) for of in headers) for name in needed)


def _filtered(rule: Any) -> Any:
    if "Prefix" not in rule:
        return rule
    others = {key: value for key, value in rule.items() if key != "Prefix"}
    return {**others, "Filter": {"Prefix": rule["Prefix"]}}


def _ours(name: str) -> Any:
    return {"ID": name, **LIFECYCLE[name]}


def _same(rule: Any) -> bool:
    """Whether a rule says what ours with the same id says; a prefix may stand in three ways."""
    return _plain(rule) == _plain(_ours(rule["ID"]))


def _plain(rule: Any) -> dict[str, Any]:
    filtered = rule.get("Filter", {})
    others = {key: value for key, value in rule.items() if key not in ("Filter", "Prefix")}
    prefix = filtered.get("Prefix", rule.get("Prefix", ""))
    return {**others, "Prefix": prefix, "Filter": {key: filtered[key] for key in filtered if key != "Prefix"}}


def _or_none(ask: Callable[[], _Answer], missing: str) -> _Answer | None:
    """Return an answer; None where S3 says by a code that begins so that nothing of the kind is set."""
    try:
        return ask()
    except ClientError as error:
        if error_code(error).startswith(missing):
            return None
        raise
