"""What `manage.py up` tells the processes it starts."""

from typing import Any

import pytest
from pytest_django import Settings

from orderengine.management.commands import up


class NoServers:
    servers: tuple[Any, ...] = ()
    env = {"DEBUG": "true"}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The environment of each process."""
    found: list[dict[str, str]] = []
    monkeypatch.setattr(up, "command", lambda argv, env, cwd: found.append(env))
    return found


@pytest.mark.parametrize(
    ("port", "given", "known"),
    [
        (5556, "", "http://127.0.0.1:5556/"),
        (5556, "https://flower.example.com/", "https://flower.example.com/"),
        (0, "", None),
    ],
)
def test_every_process_knows_where_flower_is(
    told: list[dict[str, str]], settings: Settings, port: int, given: str, known: str | None
) -> None:
    settings.FLOWER_URL = given

    up.children(NoServers(), up.default_web(), 1, port)  # type: ignore[arg-type]

    assert {env.get("FLOWER_URL") for env in told} == {known}
