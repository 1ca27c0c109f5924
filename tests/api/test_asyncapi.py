"""The WebSocket's description: valid, complete, and true of the code.

What the server sends in every other test of a socket is held to it by tests/asyncapi.py.
"""

import ast
import asyncio
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.test import Client
from jsonschema import Draft7Validator, ValidationError

from dex import tokens
from dex.types import Reason, Strategy
from dex.venues.registry import VENUES, route_names
from orders import consumers, events, openapi, serializers
from orders.models import FailureCode, OrderType, Status
from orders.problems import Problem
from tests import factories
from tests.api.sockets import Connect
from tests.asyncapi import DOCUMENT, HEARD, MESSAGES, SAID, SCHEMAS, check, resolved

EXAMPLE_ID = "ord_1732471110000_k3x9q2m7ab"
CHANNEL = DOCUMENT["channels"]["orders"]
[SERVER] = DOCUMENT["servers"].values()
EXAMPLES = [
    pytest.param(name, each["payload"], id=f"{name}: {each.get('name', '')}")
    for name, message in MESSAGES.items()
    for each in message["examples"]
]
SAID_EXAMPLES = [case for case in EXAMPLES if case.values[0] in SAID]


def walk(node: Any) -> Iterator[Any]:
    yield node
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, dict | list):
            yield from walk(child)


def frames_sent() -> list[dict[str, Any]]:
    """The constants of each `say(…)` in the consumer's source."""
    calls = ast.walk(ast.parse(Path(consumers.__file__).read_text()))
    return [
        {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
        for call in calls
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "self.say"
    ]


def properties(name: str) -> dict[str, Any]:
    """Of all forms of a schema."""
    schema = SCHEMAS[name]
    forms = [resolved(form["$ref"]) for form in schema["oneOf"]] if "oneOf" in schema else [schema]
    return {key: value for form in forms for key, value in form["properties"].items()}


# The document ------------------------------------------------------------------------------------


def test_it_is_served_to_anyone(client: Client) -> None:
    response = client.get("/api/asyncapi.yaml", headers={"Authorization": "Bearer nonsense"})

    assert response.status_code == 200
    assert response["Content-Type"] == "application/yaml"
    assert response.content.startswith(b"asyncapi: 3.0.0\n")


def test_its_server_is_the_one_that_was_asked(client: Client, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["orders.example.com"]

    text = client.get("/api/asyncapi.yaml", headers={"Host": "orders.example.com:8443"}).content

    [server] = yaml.safe_load(text)["servers"].values()
    assert (server["host"], server["protocol"]) == ("orders.example.com:8443", "ws")


def test_its_schemas_are_schemas_and_its_references_lead_somewhere() -> None:
    for schema in [*SCHEMAS.values(), CHANNEL["bindings"]["ws"]["query"]]:
        Draft7Validator.check_schema(schema)
    for node in walk(DOCUMENT):
        if isinstance(node, dict) and "$ref" in node:
            assert set(node) == {"$ref"}, f"what stands beside a $ref is not read: {node}"
            assert resolved(node["$ref"])


def test_no_object_has_room_for_an_undocumented_field() -> None:
    described = [s for name in SCHEMAS for s in walk(SCHEMAS[name]) if isinstance(s, dict)]
    objects = [schema for schema in described if schema.get("type") == "object"]

    assert len(objects) > 20
    assert [s for s in objects if s.get("additionalProperties") is not False] == []


def test_every_object_has_a_name() -> None:
    """Or a generator of types invents one."""
    inner = [node for schema in SCHEMAS.values() for node in [*walk(schema)][1:]]

    assert [n for n in inner if isinstance(n, dict) and ("properties" in n or "enum" in n)] == []


def test_every_message_is_in_the_channel_and_goes_one_way() -> None:
    in_channel = {resolved(each["$ref"])["name"] for each in CHANNEL["messages"].values()}

    assert in_channel == set(MESSAGES) == SAID | HEARD
    assert set() == SAID & HEARD
    for name, message in MESSAGES.items():
        assert message["examples"], f"{name} has no example"


@pytest.mark.parametrize(("name", "frame"), EXAMPLES)
def test_an_example_is_valid(name: str, frame: dict[str, Any]) -> None:
    assert frame["type"] == name
    check(frame, set(MESSAGES))


@pytest.mark.parametrize(("name", "frame"), EXAMPLES)
def test_a_field_that_is_not_described_is_red(name: str, frame: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        check({**frame, "surprise": 1}, set(MESSAGES))


@pytest.mark.parametrize("status", Status.values)
def test_the_data_of_every_status_is_described(status: str) -> None:
    examples = [each["payload"] for each in MESSAGES["order.status"]["examples"]]
    frames = [frame for frame in examples if frame["status"] == status]

    assert frames
    for frame in frames:
        with pytest.raises(ValidationError):
            check({**frame, "data": {**frame["data"], "surprise": 1}}, HEARD)


# The code ----------------------------------------------------------------------------------------


def test_every_frame_that_is_sent_is_described_and_the_other_way_round() -> None:
    event = events.Event(
        order_id="", owner_id=None, seq=1, status="", previous_status="", attempt=1,
        created_at=datetime.now(UTC), data={},
    )  # fmt: skip
    refusal = Problem(status=400, code="X", detail="x").as_frame()
    named = {frame["type"] for frame in frames_sent() if "type" in frame}

    assert named | {event.frame(replayed=True)["type"], refusal["type"]} == HEARD


def test_every_acknowledgement_is_described_and_the_other_way_round() -> None:
    sent = {frame["action"] for frame in frames_sent() if frame.get("type") == "ack"}
    sent |= {"subscribe", "unsubscribe"}  # acknowledged() takes these from the client's frame

    forms = [resolved(form["$ref"]) for form in SCHEMAS["Ack"]["oneOf"]]
    described = [bare(form, resolved)["properties"]["action"] for form in forms]
    assert {name for a in described for name in a.get("enum", [a.get("const")])} == sent


@pytest.mark.parametrize("name", sorted(serializers.FRAMES))
def test_a_client_frame_has_the_fields_that_are_read(name: str) -> None:
    reference = MESSAGES[name]["payload"]["$ref"].rpartition("/")[2]

    assert set(properties(reference)) == set(serializers.FRAMES[name]().fields)


def test_what_a_client_may_say_is_what_is_read() -> None:
    assert set(serializers.FRAMES) == SAID
    order = serializers.OrderRequestSerializer().fields
    assert set(properties("OrderRequest")) == set(order)
    assert SCHEMAS["OrderRequest"]["required"] == [
        n for n, field in order.items() if field.required
    ]
    query = CHANNEL["bindings"]["ws"]["query"]["properties"]
    assert set(query) == set(serializers.SocketQuerySerializer().fields)


def in_openapi(reference: str) -> Any:
    return openapi.document()["components"]["schemas"][reference.rpartition("/")[2]]


def bare(node: Any, look_up: Callable[[str], Any]) -> Any:
    """A schema with what it refers to in it, without its words."""
    if isinstance(node, list):
        return [bare(part, look_up) for part in node]
    if not isinstance(node, dict):
        return node
    if "required" in node:
        node = {**node, "required": sorted(node["required"])}
    if "$ref" in node:
        return bare(look_up(node["$ref"]), look_up)
    return {k: bare(v, look_up) for k, v in node.items() if k not in {"description", "default"}}


def fields(schema: Any) -> Any:
    """The names of an object's members and of theirs, and which are required."""
    if isinstance(schema, list):
        return [fields(part) for part in schema]
    if "properties" not in schema:
        parts = schema.get("items") or schema.get("oneOf") or schema.get("anyOf")
        return fields(parts) if parts else {}
    required = schema.get("required", [])
    return {(name, name in required): fields(part) for name, part in schema["properties"].items()}


def test_an_order_is_asked_for_alike_in_both_documents() -> None:
    there = bare(in_openapi("OrderRequest"), in_openapi)

    assert bare(SCHEMAS["OrderRequest"], resolved) == there


def test_an_event_has_the_same_fields_in_both_documents() -> None:
    names = [form["$ref"].rpartition("/")[2] for form in SCHEMAS["OrderStatus"]["oneOf"]]

    assert names == [form["$ref"].rpartition("/")[2] for form in in_openapi("Event")["oneOf"]]
    for name in names:
        here, there = bare(SCHEMAS[name], resolved), bare(in_openapi(name), in_openapi)
        assert fields(here) == fields(there), name
        for each in ("status", "previousStatus"):
            one, other = here["properties"][each], there["properties"][each]
            assert one.items() <= other.items()


def test_a_venue_without_a_quote_is_alike_in_both_documents() -> None:
    here, there = (
        bare(SCHEMAS["QuoteFailure"], resolved),
        bare(in_openapi("QuoteFailure"), in_openapi),
    )

    assert fields(here) == fields(there)
    here, there = (each["properties"]["error"]["properties"]["code"] for each in (here, there))
    assert here["enum"] == there["enum"]


def test_the_documents_have_one_version_and_the_same_credentials() -> None:
    described = openapi.document()
    named = {each["$ref"].rpartition("/")[2] for each in SERVER["security"]}

    assert DOCUMENT["info"]["version"] == described["info"]["version"]
    assert named == {*described["components"]["securitySchemes"], "ticket"}
    assert named == set(DOCUMENT["components"]["securitySchemes"])


def test_every_close_code_is_described() -> None:
    by_refusal = {*consumers.CLOSE_CODES.values(), consumers.TRY_AGAIN_LATER}

    by_daphne = {
        1002,
        1007,
        1008,
        1009,
    }  # it reads the frames: tests/integration/test_refused_frames.py
    described = by_refusal | by_daphne | {consumers.GOING_AWAY, 1000}
    assert set(CHANNEL["x-close-codes"]) == {str(code) for code in described}
    [table] = re.findall(r"\| close code .*?\n\n", Path("docs/api.md").read_text(), re.S)
    assert set(re.findall(r"\b\d{4}\b", table)) == set(CHANNEL["x-close-codes"])


def test_every_key_is_a_text() -> None:
    """AsyncAPI's own parser takes no other; PyYAML does."""
    assert all(
        isinstance(key, str) for node in walk(DOCUMENT) if isinstance(node, dict) for key in node
    )


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        ("Status", Status.values),
        ("FailureCode", FailureCode.values),
        ("OrderType", OrderType.values),
        ("RouteVenue", route_names()),
        ("Venue", list(VENUES)),
        ("Symbol", [token.symbol for token in tokens.TOKENS]),
    ],
)
def test_a_list_of_values_is_that_of_the_code(schema: str, values: list[str]) -> None:
    assert SCHEMAS[schema]["enum"] == values


def test_the_lists_of_a_route_are_those_of_the_code() -> None:
    assert SCHEMAS["Strategy"]["enum"] == list(Strategy)
    assert SCHEMAS["ReasonCode"]["enum"] == list(Reason)


def test_every_code_of_the_consumer_is_mentioned() -> None:
    codes = re.findall(r'code="([A-Z_]+)"', Path(consumers.__file__).read_text())

    assert codes
    described = properties("Error")["code"]["description"]
    assert [code for code in codes if code not in described] == []


@pytest.mark.usefixtures("no_orders")
@pytest.mark.parametrize(("name", "frame"), SAID_EXAMPLES)
async def test_an_example_of_a_client_frame_is_accepted(
    connect: Connect, name: str, frame: dict[str, Any]
) -> None:
    order_id = await asyncio.to_thread(factories.place)
    socket = await connect()
    await socket.hello()

    await socket.send_text(json.dumps(frame).replace(EXAMPLE_ID, order_id))

    answer = await socket.receive()
    assert (answer["type"], answer.get("action", name)) == (
        "pong" if name == "ping" else "ack",
        name,
    ), answer
