"""What moto 5.2's CloudFormation leaves out of a template, done by the same server's own APIs.

Bucket settings, policies, gateway responses, aliases, HTTP APIs and the table's settings; of CloudFront the names; what
is retained stays when it leaves a stack; a delete marker is an event; functions are not run (the tests do that, moto
would in Docker); templates with mere warnings pass.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import boto3

Properties = Mapping[str, Any]


class Gaps:
    """Closes the gaps of the server that runs in this process."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._closed = False

    def close_when_needed(self) -> None:
        """Close them at the first request to CloudFormation: its models are slow to import."""
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication

        get_application = DomainDispatcherApplication.get_application

        def dispatch(application: Any, environ: dict[str, Any]) -> Any:
            if "/cloudformation/" in environ.get("HTTP_AUTHORIZATION", "") and not self._closed:
                self._closed = True
                self._close()
            return get_application(application, environ)

        DomainDispatcherApplication.get_application = dispatch  # type: ignore[method-assign,assignment]

    def client(self, service: str, region: str) -> Any:
        return boto3.client(
            service,  # type: ignore[call-overload]
            region_name=region,
            endpoint_url=self._url,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def _close(self) -> None:
        from moto.awslambda.models import LambdaBackend, LambdaFunction
        from moto.cloudformation import models
        from moto.cloudformation.parsing import ResourceMap
        from moto.dynamodb.models.table import Table
        from moto.iam.models import Role
        from moto.s3.models import FakeBucket, S3Backend
        from moto.s3.notifications import S3NotificationEvent, send_event

        lint: Any = getattr(models, "validate_template_cfn_lint")  # noqa: B009 -- not exported

        def only_errors(template: str) -> list[Any]:
            return [match for match in lint(template) if match.rule.severity == "error"]

        setattr(models, "validate_template_cfn_lint", only_errors)  # noqa: B010
        delete = ResourceMap._delete_resource  # noqa: SLF001

        def delete_unless_retained(resources: Any, resource: Any, definition: dict[str, Any]) -> None:
            if definition.get("DeletionPolicy") not in ("Retain", "RetainExceptOnCreate"):
                delete(resources, resource, definition)

        ResourceMap._delete_resource = delete_unless_retained  # type: ignore[method-assign,assignment]  # noqa: SLF001
        apply = models.ChangeSet.apply

        def apply_and_take_over(change_set: Any) -> None:
            """Have the stack know its new template and outputs, too."""
            apply(change_set)
            change_set.stack.template = change_set.template
            change_set.stack._parse_template()  # noqa: SLF001
            change_set.stack.output_map = change_set.stack._create_output_map()  # noqa: SLF001

        models.ChangeSet.apply = apply_and_take_over  # type: ignore[method-assign,assignment]
        mark = S3Backend._set_delete_marker  # noqa: SLF001

        def mark_and_tell(backend: Any, bucket_name: str, key_name: str) -> Any:
            marker = mark(backend, bucket_name, key_name)
            event = S3NotificationEvent.OBJECT_REMOVED_DELETE_MARKER_CREATED_EVENT
            gone = SimpleNamespace(name=key_name, etag="", size=0)
            send_event(backend.account_id, event, backend.get_bucket(bucket_name), gone)
            return marker

        S3Backend._set_delete_marker = mark_and_tell  # type: ignore[method-assign,assignment]  # noqa: SLF001
        put_policy = Role.put_policy

        def put_as_json(role: Any, name: str, policy: Any) -> None:
            put_policy(role, name, policy if isinstance(policy, str) else json.dumps(policy))

        Role.put_policy = put_as_json  # type: ignore[method-assign,assignment]
        # No message is taken away from those who run the functions.
        LambdaBackend.send_sqs_batch = lambda *_, **__: False  # type: ignore[method-assign]
        LambdaBackend.invoke = lambda *_, **__: "{}"  # type: ignore[method-assign]
        self._extend(FakeBucket, self._set_bucket)
        self._extend(Table, self._set_table)
        self._extend(LambdaFunction, _set_function)
        for type_name, create in (
            ("AWS::S3::BucketPolicy", self._put_bucket_policy),
            ("AWS::SQS::QueuePolicy", self._put_queue_policy),
            ("AWS::ApiGateway::GatewayResponse", self._put_gateway_response),
            ("AWS::Lambda::Alias", self._put_alias),
            ("AWS::ApiGatewayV2::Api", self._put_http_api),
            ("AWS::ApiGatewayV2::Integration", self._put_integration),
            ("AWS::ApiGatewayV2::Route", self._put_route),
            ("AWS::ApiGatewayV2::Stage", self._put_stage),
            ("AWS::CloudWatch::Alarm", self._put_alarm),
            *((f"AWS::CloudFront::{kind}", _name) for kind in ("CachePolicy", "Function", "OriginAccessControl")),
            ("AWS::CloudFront::Distribution", lambda *_: f"E{uuid.uuid4().hex[:13].upper()}"),
        ):
            _add_model(type_name, create)

    def _extend(self, model: Any, then: Callable[[Any, Properties, str], None]) -> None:
        """Have a model of moto's do something more when it is created and updated."""
        create = model.create_from_cloudformation_json
        update = model.update_from_cloudformation_json

        def created(name: str, definition: Any, account: str, region: str, **more: Any) -> Any:
            made = create(name, definition, account, region, **more)
            then(made, definition.get("Properties", {}), region)
            return made

        def updated(*, original_resource: Any, cloudformation_json: Any, region_name: str, **more: Any) -> Any:
            named = {"cloudformation_json": cloudformation_json, "region_name": region_name, **more}
            # A model that cannot be updated returns None.
            changed = update(original_resource=original_resource, **named) or original_resource
            then(changed, cloudformation_json.get("Properties", {}), region_name)
            return changed

        model.create_from_cloudformation_json = created
        model.update_from_cloudformation_json = updated

    def _set_bucket(self, bucket: Any, properties: Properties, region: str) -> None:
        s3 = self.client("s3", region)
        name = bucket.name
        if versioning := properties.get("VersioningConfiguration"):
            s3.put_bucket_versioning(Bucket=name, VersioningConfiguration=versioning)
        if block := properties.get("PublicAccessBlockConfiguration"):
            blocked = {key: _boolean(value) for key, value in block.items()}
            s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=blocked)
        if lifecycle := properties.get("LifecycleConfiguration"):
            rules = [_lifecycle_rule(rule) for rule in lifecycle["Rules"]]
            s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})
        if cors := properties.get("CorsConfiguration"):
            rules = [_cors_rule(rule) for rule in cors["CorsRules"]]
            s3.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": rules})
        if website := properties.get("WebsiteConfiguration"):
            documents = {
                "IndexDocument": {"Suffix": website["IndexDocument"]},
                "ErrorDocument": {"Key": website["ErrorDocument"]},
            }
            s3.put_bucket_website(Bucket=name, WebsiteConfiguration=documents)
        if notification := properties.get("NotificationConfiguration"):
            queues = [
                {"QueueArn": entry["Queue"], "Events": [entry["Event"]]}
                for entry in notification["QueueConfigurations"]
            ]
            configuration = {"QueueConfigurations": queues}
            s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration=configuration)

    def _set_table(self, table: Any, properties: Properties, region: str) -> None:
        dynamodb = self.client("dynamodb", region)
        if point_in_time := properties.get("PointInTimeRecoverySpecification"):
            enabled = {"PointInTimeRecoveryEnabled": _boolean(point_in_time["PointInTimeRecoveryEnabled"])}
            dynamodb.update_continuous_backups(TableName=table.name, PointInTimeRecoverySpecification=enabled)
        if time_to_live := properties.get("TimeToLiveSpecification"):
            specification = {"AttributeName": time_to_live["AttributeName"], "Enabled": True}
            dynamodb.update_time_to_live(TableName=table.name, TimeToLiveSpecification=specification)

    def _put_bucket_policy(self, properties: Properties, region: str) -> str:
        # moto refuses what a statement names whatever its condition and whomever it is about; nor is there TLS here.
        statements = properties["PolicyDocument"]["Statement"]
        allowed = [entry for entry in statements if "Condition" not in entry and entry["Principal"] == "*"]
        if allowed:
            policy = json.dumps({**properties["PolicyDocument"], "Statement": allowed})
            self.client("s3", region).put_bucket_policy(Bucket=properties["Bucket"], Policy=policy)
        return f"{properties['Bucket']}-policy"

    def _put_queue_policy(self, properties: Properties, region: str) -> str:
        for url in properties["Queues"]:
            policy = json.dumps(properties["PolicyDocument"])
            self.client("sqs", region).set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        return f"policy-{uuid.uuid4().hex[:12]}"

    def _put_gateway_response(self, properties: Properties, region: str) -> str:
        self.client("apigateway", region).put_gateway_response(
            restApiId=properties["RestApiId"],
            responseType=properties["ResponseType"],
            statusCode=properties["StatusCode"],
            responseParameters=properties.get("ResponseParameters", {}),
            responseTemplates=properties.get("ResponseTemplates", {}),
        )
        return f"answer-{properties['ResponseType']}"

    def _put_alias(self, properties: Properties, region: str) -> str:
        alias = {name: str(properties[name]) for name in ("FunctionName", "FunctionVersion", "Name")}
        functions = self.client("lambda", region)
        try:
            arn: str = functions.create_alias(**alias)["AliasArn"]
        except functions.exceptions.ResourceConflictException:
            arn = functions.update_alias(**alias)["AliasArn"]
        return arn

    def _put_http_api(self, properties: Properties, region: str) -> str:
        api = self.client("apigatewayv2", region).create_api(
            Name=properties["Name"], ProtocolType=properties["ProtocolType"]
        )
        return str(api["ApiId"])

    def _put_integration(self, properties: Properties, region: str) -> str:
        integration = self.client("apigatewayv2", region).create_integration(
            **{
                name: properties[name]
                for name in ("ApiId", "IntegrationType", "IntegrationUri", "PayloadFormatVersion")
            }
        )
        return str(integration["IntegrationId"])

    def _put_route(self, properties: Properties, region: str) -> str:
        route = self.client("apigatewayv2", region).create_route(
            **{name: properties[name] for name in ("ApiId", "RouteKey", "Target")}
        )
        return str(route["RouteId"])

    def _put_stage(self, properties: Properties, region: str) -> str:
        self.client("apigatewayv2", region).create_stage(ApiId=properties["ApiId"], StageName=properties["StageName"])
        return str(properties["StageName"])

    def _put_alarm(self, properties: Properties, region: str) -> str:
        numbers: dict[str, type] = {"Period": int, "EvaluationPeriods": int, "Threshold": float}
        alarm = {name: numbers.get(name, lambda value: value)(value) for name, value in properties.items()}
        self.client("cloudwatch", region).put_metric_alarm(**alarm)
        return str(properties["AlarmName"])


def _add_model(type_name: str, put: Callable[[Properties, str], str]) -> None:
    """Make a resource that moto knows through its own API only known to its CloudFormation."""
    from moto.core.common_models import CloudFormationModel

    class Model(CloudFormationModel):
        def __init__(self, physical_id: str) -> None:
            self.physical_resource_id = physical_id

        @staticmethod
        def cloudformation_name_type() -> str:
            return ""

        @staticmethod
        def cloudformation_type() -> str:
            return type_name

        @classmethod
        def has_cfn_attr(cls, attr: str) -> bool:
            return attr in ("ApiId", "AliasArn", "Arn", "DomainName", "FunctionARN", "Id")

        def get_cfn_attribute(self, attribute: str) -> str:
            return self.physical_resource_id

        @classmethod
        def create_from_cloudformation_json(  # type: ignore[override]
            cls, _: str, definition: Any, __: str, region: str, **___: Any
        ) -> Any:
            return cls(put(definition["Properties"], region))

        @classmethod
        def update_from_cloudformation_json(  # type: ignore[override]
            cls, *, cloudformation_json: Any, region_name: str, **_: Any
        ) -> Any:
            return cls(put(cloudformation_json["Properties"], region_name))

        @classmethod
        def delete_from_cloudformation_json(cls, *_: Any) -> None:
            """Leave it: whatever it belonged to goes, too."""

        def is_created(self) -> bool:
            return True

    _models.append(Model)


def _name(properties: Properties, _: str) -> str:
    """Make nothing of what the tests do themselves, but a name."""
    return str(properties.get("Name", uuid.uuid4().hex))


_models: list[type] = []  # moto finds them as subclasses, as long as somebody holds them


def _set_function(function: Any, properties: Properties, _: str) -> None:
    function.architectures = properties.get("Architectures", ["x86_64"])


def _boolean(value: Any) -> bool:
    return value is True or str(value).lower() == "true"


def _cors_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule of a template as the API has it."""
    names = {"Id": "ID", "MaxAge": "MaxAgeSeconds"}
    made: dict[str, Any] = {names.get(name, name): value for name, value in rule.items()}
    return {**made, "MaxAgeSeconds": int(made["MaxAgeSeconds"])}


def _lifecycle_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule of a template as the API has it."""
    made: dict[str, Any] = {"ID": rule["Id"], "Status": rule["Status"], "Filter": {"Prefix": rule.get("Prefix", "")}}
    if days := rule.get("ExpirationInDays"):
        made["Expiration"] = {"Days": int(days)}
    elif rule.get("ExpiredObjectDeleteMarker"):
        made["Expiration"] = {"ExpiredObjectDeleteMarker": True}
    for name in ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"):
        if name in rule:
            made[name] = {key: int(value) for key, value in rule[name].items()}
    return made
