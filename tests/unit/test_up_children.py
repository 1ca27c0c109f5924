"""What `manage.py up` tells the processes it starts, and what it does not start with."""

import asyncio
import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from orderengine.embedded import EmbeddedError
from orderengine.embedded.server import free_port
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


@pytest.mark.parametrize("free", [True, False])
def test_flower_has_the_port_that_is_set_while_it_is_free(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, free: bool
) -> None:
    port = settings.FLOWER_PORT = free_port()
    monkeypatch.setattr(up, "port_is_free", lambda port: free)

    with ExitStack() as ports:
        assert (up.choose_flower_port(ports) == port) is free


def test_flower_does_not_have_the_port_of_the_web(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.PORT = settings.FLOWER_PORT = 5555
    monkeypatch.setattr(up, "port_is_free", lambda port: True)

    with ExitStack() as ports:
        assert up.choose_flower_port(ports) != 5555


def test_two_stacks_that_start_have_two_ports(settings: Settings) -> None:
    port = free_port()
    with ExitStack() as first, ExitStack() as second:
        assert up.hold_port(port, first)
        assert not up.hold_port(port, second)
        settings.FLOWER_PORT = port
        assert up.choose_flower_port(second) != port
    with ExitStack() as third:
        assert up.hold_port(port, third)


@pytest.mark.parametrize(
    ("name", "reason"), [("none.json", "No such file"), ("", "Is a directory")]
)
def test_nothing_starts_without_the_key_that_is_named(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path, name: str, reason: str
) -> None:
    settings.PORT = free_port()
    settings.DEX = replace(settings.DEX, keypair_file=tmp_path / name)
    monkeypatch.setattr(up, "run_stack", lambda *_, **__: pytest.fail("it was started"))

    with pytest.raises(CommandError, match=f"^DEX_KEYPAIR_FILE: .*{reason}"):
        call_command("up")


@pytest.mark.parametrize("development", [True, False])
def test_the_banner_has_a_login_in_development_only(settings: Settings, development: bool) -> None:
    settings.DEVELOPMENT, settings.API_AUTH_REQUIRED = development, True

    shown = up.banner({"FLOWER_BASIC_AUTH": "ops:their-secret"}, 5555, {})

    assert ("their-secret" in shown) is development
    assert ("apikey create ops)" in shown) is development
    assert ("apikey create NAME --new-user)" in shown) is not development


def test_without_flower_the_banner_has_no_gap() -> None:
    addresses, *_ = up.banner({"FLOWER_BASIC_AUTH": "a:b"}, 0, {}).strip().split("\n\n")

    assert [line.split()[0] for line in addresses.splitlines()] == [
        *("desk", "API", "admin", "health")
    ]


async def test_ready_is_said_when_every_process_behind_the_proxy_answers(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.PORT = 3000
    ready = {3000, 3001}
    said: list[str] = []

    async def readiness(port: int) -> str:
        return "200" if port in ready else "503"

    monkeypatch.setattr(up, "readiness", readiness)
    supervisor = SimpleNamespace(say=said.append)
    behind = {"rest": 3001, "sockets": 3002}
    announcing = asyncio.create_task(up.announce(supervisor, "ready", behind))  # type: ignore[arg-type]
    await asyncio.sleep(0.1)
    assert said == []

    ready.add(3002)
    await asyncio.wait_for(announcing, 2)

    assert said == ["ready"]


def test_a_stack_is_told_what_the_user_has_set_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.SET_BY_USER = {"DEX_SEED": "7"}
    told: list[Any] = []

    def no_stack(data_dir: Path, environ: Any) -> None:
        told.append(environ)
        raise EmbeddedError("not here")

    monkeypatch.setattr(up, "Stack", no_stack)
    with mock.patch.dict(os.environ), pytest.raises(EmbeddedError):
        up.run_stack(1, 0)

    assert told == [{"DEX_SEED": "7"}]


@pytest.mark.parametrize("planted", ["folder", "lock"])
def test_what_is_in_the_place_of_a_lock_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    ports = tmp_path / "ports"
    monkeypatch.setattr(up, "PORTS", ports)
    if planted == "folder":
        ports.touch(mode=0o600)
    else:
        ports.mkdir(mode=0o700)
        (ports / "1.lock").symlink_to(tmp_path / "elsewhere")

    with ExitStack() as held, pytest.raises(CommandError, match=r"ports.*: remove it, or set TMP"):
        up.hold_port(1, held)


def test_the_lines_to_paste_are_quoted(settings: Settings, tmp_path: Path) -> None:
    with mock.patch.dict(os.environ, {"DATA_DIR": "/data five"}):
        assert up.manage_line("watch").startswith("DATA_DIR='/data five' ")


@pytest.mark.parametrize("planted", ["link", "open to others"])
def test_a_folder_of_locks_that_others_may_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    ports = tmp_path / "ports"
    monkeypatch.setattr(up, "PORTS", ports)
    if planted == "link":
        (tmp_path / "elsewhere").mkdir()
        ports.symlink_to(tmp_path / "elsewhere")
    else:
        ports.mkdir()
        ports.chmod(0o777)

    with ExitStack() as held, pytest.raises(CommandError, match="not ours alone"):
        up.hold_port(1, held)


def test_what_a_stack_that_was_killed_has_told_is_not_told_again(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.SET_BY_USER = {"PATH": "/bin"}
    with mock.patch.dict(os.environ, {"QUEUE_RATE_LIMIT": "7", "DATABASE_URL": "postgres://gone"}):
        monkeypatch.setattr(up, "Stack", mock.Mock(side_effect=EmbeddedError))
        with pytest.raises(EmbeddedError):
            up.run_stack(1, 0)

        assert dict(os.environ) == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        ([], up.HOST),
        (["api.example.com", up.HOST], up.HOST),
        (["*"], up.HOST),
        (["api.example.com", "b.example.com"], "api.example.com"),
        ([".example.com"], "example.com"),
    ],
)
def test_a_stack_is_asked_by_a_name_that_it_answers_to(
    settings: Settings, names: list[str], asked: str
) -> None:
    settings.ALLOWED_HOSTS = names

    assert up.served_as() == asked
