"""Holds what a socket hears and says to orders/asyncapi.yaml."""

from functools import cache
from typing import Any

import yaml
from jsonschema import Draft7Validator
from referencing import Registry
from referencing.jsonschema import DRAFT7

from orders import asyncapi
from orders.openapi_components import FIELD_CODES

ADDRESS = "urn:asyncapi"
DOCUMENT: dict[str, Any] = yaml.safe_load(asyncapi.document())
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
# By name: the type of the frame.
MESSAGES = {each["name"]: each for each in DOCUMENT["components"]["messages"].values()}
REGISTRY = Registry().with_resource(ADDRESS, DRAFT7.create_resource(DOCUMENT))


def resolved(reference: str) -> Any:
    """What `#/…` names in the document."""
    return REGISTRY.resolver(ADDRESS).lookup(reference).contents


@cache
def validator(reference: str) -> Draft7Validator:
    return Draft7Validator({"$ref": ADDRESS + reference}, registry=REGISTRY)


def of_operation(name: str) -> set[str]:
    """The types of the frames that go one way."""
    messages = DOCUMENT["operations"][name]["messages"]
    return {resolved(resolved(each["$ref"])["$ref"])["name"] for each in messages}


SAID, HEARD = of_operation("say"), of_operation("hear")


def check(frame: dict[str, Any], known: set[str]) -> None:
    """Raises jsonschema.ValidationError, AssertionError for a frame the document does not have."""
    assert frame["type"] in known, f"{frame['type']} is not in asyncapi.yaml"
    validator(MESSAGES[frame["type"]]["payload"]["$ref"]).validate(frame)


def heard(frame: dict[str, Any]) -> dict[str, Any]:
    """The frame, which the server has sent and the document describes."""
    check(frame, HEARD)
    if frame["type"] == "error":
        assert frame["code"] in SCHEMAS["Error"]["properties"]["code"]["description"]
        assert {error["code"] for error in frame["errors"]} <= set(FIELD_CODES)
    return frame
