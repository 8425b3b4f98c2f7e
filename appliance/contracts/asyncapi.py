"""The AsyncAPI document: every topic, who sends what on it, and how, as the appliance sees it."""

from __future__ import annotations

from copy import deepcopy
from importlib.metadata import version
from typing import Any

from appliance.cloud_events import TYPES
from appliance.contracts.language import Schema
from appliance.contracts.schemas import COMPONENT, DOCUMENTS, components
from appliance.frames import MEDIA_TYPES
from appliance.messages import Status
from appliance.topics import Topics

SPECIFICATION = "3.1.0"
BINDING = "0.2.0"

PREFIX = "delen/v1"

_MESSAGES_OF_DOCUMENTS = (
    "command",
    "result",
    "rejection",
    "policy-state",
    "tenant-telemetry",
    "appliance-telemetry",
)

_TOPICS = Topics(PREFIX)

_CHANNELS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "request": (_TOPICS.request("{tenant}"), ("frame",), "A tenant's frames."),
    "requestOnStream": (
        _TOPICS.request("{tenant}", "{stream}"),
        ("frame",),
        "Frames of one of a tenant's streams.",
    ),
    "result": (
        _TOPICS.result("{tenant}"),
        ("result", "rejection"),
        "Replies to requests without a stream and without a Response Topic.",
    ),
    "resultOnStream": (
        _TOPICS.result("{tenant}", "{stream}"),
        ("result", "rejection"),
        "Replies to requests with a stream and without a Response Topic.",
    ),
    "policySet": (_TOPICS.policy_set("{tenant}"), ("policy", "noPolicy"), "A tenant's policy."),
    "policyState": (
        _TOPICS.policy_state("{tenant}", "{appliance}"),
        ("policyState",),
        "What is in force for a tenant on an appliance.",
    ),
    "tenantTelemetry": (
        _TOPICS.telemetry("{tenant}", "{appliance}"),
        ("tenantTelemetry",),
        "What a tenant's last seconds on an appliance came to.",
    ),
    "status": (
        _TOPICS.appliance_status("{appliance}"),
        ("status",),
        "Whether an appliance is there; the last word is the broker's, by Last Will.",
    ),
    "applianceTelemetry": (
        _TOPICS.appliance_telemetry("{appliance}"),
        ("applianceTelemetry",),
        "What an appliance's last seconds came to.",
    ),
    "command": (
        _TOPICS.appliance_command("{appliance}"),
        ("command",),
        "What the appliance itself is to do.",
    ),
}
"""Each topic's address, its messages and what it is for."""

_PARAMETERS = {
    "tenant": "Whose it is; the broker's access list makes it true. One level of a topic.",
    "stream": "One of the tenant's sensors, cameras or whatever it tells apart.",
    "appliance": "The appliance's `DELEN_APPLIANCE_ID`.",
}


def asyncapi() -> dict[str, Any]:
    """The document, in the order in which it is to be read."""
    return {
        "asyncapi": SPECIFICATION,
        "info": _info(),
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "messages": _messages(),
            "schemas": _schemas(),
            "parameters": {
                name: {"description": sentence} for name, sentence in _PARAMETERS.items()
            },
            "securitySchemes": {
                "password": {
                    "type": "userPassword",
                    "description": "A tenant's user name is its own name.",
                }
            },
        },
    }


def _info() -> Schema:
    return {
        "title": "Dělen",
        "version": version("delen"),
        "description": (
            "An edge appliance that answers requests of several tenants from one accelerator."
            f" All topics start with `{PREFIX}` unless DELEN_TOPIC_PREFIX says otherwise."
            " MQTT 3.1.1 clients work, too: they see no properties, and get their replies on"
            " `result`. This document is generated from the appliance's own models."
        ),
        "license": {"name": "MIT"},
    }


def _servers() -> Schema:
    will = {
        "topic": _TOPICS.appliance_status("{appliance}"),
        "qos": 1,
        "message": Status.OFFLINE.value,
        "retain": True,
    }
    mqtt = {"lastWill": will, "cleanSession": False, "keepAlive": 30, "bindingVersion": BINDING}
    return {
        "local": {
            "host": "localhost:1883",
            "protocol": "mqtt",
            "protocolVersion": "5.0",
            "description": "The broker beside the appliance; how the appliance connects to it.",
            "bindings": {"mqtt": mqtt},
        },
        "tls": {
            "host": "localhost:8883",
            "protocol": "secure-mqtt",
            "protocolVersion": "5.0",
            "description": "The same as `compose.yaml` runs it: TLS, with passwords.",
            "security": [{"$ref": "#/components/securitySchemes/password"}],
            "bindings": {"mqtt": mqtt},
        },
    }


def _channels() -> Schema:
    channels: Schema = {
        name: {
            "address": address,
            "description": sentence,
            "messages": {m: {"$ref": f"#/components/messages/{m}"} for m in messages},
            "parameters": {
                parameter: {"$ref": f"#/components/parameters/{parameter}"}
                for parameter in _PARAMETERS
                if f"{{{parameter}}}" in address
            },
        }
        for name, (address, messages, sentence) in _CHANNELS.items()
    }
    channels["responseTopic"] = {
        "address": None,
        "description": "The request's Response Topic: `{tenant}/result`, or anything below it.",
        "messages": {m: {"$ref": f"#/components/messages/{m}"} for m in ("result", "rejection")},
    }
    return channels


def _operations() -> Schema:
    reply = {
        "address": {
            "location": "$message.header#/responseTopic",
            "description": "The MQTT 5 Response Topic; without one it is `result`.",
        },
        "channel": {"$ref": "#/channels/responseTopic"},
        "messages": [
            {"$ref": f"#/channels/responseTopic/messages/{m}"} for m in ("result", "rejection")
        ],
    }
    return {
        "answer": _operation("receive", "request", "Answers a frame.") | {"reply": reply},
        "answerOnStream": _operation("receive", "requestOnStream", "Answers a stream's frame.")
        | {"reply": reply},
        "sendResult": _operation("send", "result", "Says what was seen, or why nothing was."),
        "sendResultOnStream": _operation("send", "resultOnStream", "The same, for a stream."),
        "takePolicy": _operation("receive", "policySet", "Puts a policy in force, or removes it."),
        "sendPolicyState": _operation("send", "policyState", "Says what is in force.", retain=True),
        "sendTenantTelemetry": _operation("send", "tenantTelemetry", "Tells of a tenant.", qos=0),
        "sendStatus": _operation("send", "status", "Says that it is there.", retain=True),
        "sendApplianceTelemetry": _operation(
            "send", "applianceTelemetry", "Tells of itself.", qos=0
        ),
        "obey": _operation("receive", "command", "Carries out a command."),
    }


def _operation(
    action: str, channel: str, summary: str, *, qos: int = 1, retain: bool = False
) -> Schema:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "bindings": {"mqtt": {"qos": qos, "retain": retain, "bindingVersion": BINDING}},
        "messages": [
            {"$ref": f"#/channels/{channel}/messages/{message}"}
            for message in _CHANNELS[channel][1]
        ],
    }


def _messages() -> Schema:
    json_messages = {_camel(name): _json_message(name) for name in _MESSAGES_OF_DOCUMENTS}
    for name in ("result", "rejection"):
        json_messages[name] |= {
            "correlationId": {"location": "$message.header#/correlationData"},
            "headers": {"$ref": COMPONENT.format("ReplyProperties")},
        }
    return {
        "frame": _frame(),
        **json_messages,
        "policy": {
            "name": "policy",
            "title": "A policy, YAML or JSON",
            "contentType": "application/yaml",
            "payload": {"$ref": COMPONENT.format("PolicyPush")},
        },
        "noPolicy": {
            "name": "noPolicy",
            "title": "Nothing: the tenant's policy is removed",
            "contentType": "text/plain",
            "payload": {"type": "string", "maxLength": 0},
        },
        "status": {
            "name": "status",
            "title": "How an appliance stands",
            "contentType": "text/plain",
            "payload": {"type": "string", "enum": [status.value for status in Status]},
        },
    }


def _json_message(name: str) -> Schema:
    document = DOCUMENTS[name]
    return {
        "name": _camel(name),
        "title": document.title,
        "contentType": "application/json",
        "payload": {"$ref": COMPONENT.format(document.model.__name__)},
    }


def _frame() -> Schema:
    return {
        "name": "frame",
        "title": "A frame",
        "summary": "The bytes of an image, a tensor or a sound.",
        "description": "Not to be retained. Without a Content Type the first bytes tell what it is"
        f": one of {', '.join(MEDIA_TYPES)}.",
        "contentType": "application/octet-stream",
        "headers": {"$ref": COMPONENT.format("RequestProperties")},
        "correlationId": {"location": "$message.header#/correlationData"},
        "payload": {"type": "string", "format": "binary"},
        "bindings": {
            "mqtt": {
                "responseTopic": {"type": "string"},
                "correlationData": {"type": "string", "format": "binary"},
                "bindingVersion": BINDING,
            }
        },
    }


def _schemas() -> dict[str, Schema]:
    schemas = components(("policy", *_MESSAGES_OF_DOCUMENTS))
    push = deepcopy(schemas.pop("Policy"))
    push["required"].remove("tenant")
    push["description"] += " Its tenant is the topic's, and need not be named."
    return {
        **schemas,
        "PolicyPush": push,
        "RequestProperties": _request_properties(),
        "ReplyProperties": _reply_properties(),
    }


def _request_properties() -> Schema:
    return {
        "type": "object",
        "description": "MQTT 5 properties of a request; each may be left out.",
        "properties": {
            "responseTopic": {
                "type": "string",
                "description": "Where the reply goes: `{tenant}/result`, or below it.",
            },
            "correlationData": {
                "type": "string",
                "format": "binary",
                "description": "Comes back with the reply. The same data on the same frame is"
                " answered again from the log.",
            },
            "contentType": {"type": "string", "enum": list(MEDIA_TYPES)},
            "messageExpiryInterval": {
                "type": "integer",
                "minimum": 1,
                "description": "Seconds after which nobody wants the reply; shortens the bound.",
            },
        },
    }


def _reply_properties() -> Schema:
    return {
        "type": "object",
        "description": "MQTT 5 properties of a reply. With DELEN_CLOUDEVENTS the user properties"
        " are those of a CloudEvent in binary mode.",
        "properties": {
            "correlationData": {
                "type": "string",
                "format": "binary",
                "description": "The request's own.",
            },
            "contentType": {"type": "string", "const": "application/json"},
            "messageExpiryInterval": {
                "type": "integer",
                "minimum": 1,
                "description": "What was left of the request's.",
            },
            "specversion": {"type": "string", "const": "1.0"},
            "id": {"type": "string", "description": "The reply's `id`."},
            "source": {"type": "string", "format": "uri", "description": "The appliance."},
            "type": {"type": "string", "enum": list(TYPES)},
            "time": {"type": "string", "format": "date-time"},
            "subject": {"type": "string", "description": "`{tenant}` or `{tenant}/{stream}`."},
        },
    }


def _camel(name: str) -> str:
    first, *rest = name.split("-")
    return first + "".join(word.title() for word in rest)
