"""The container files say what they should; `docker compose` itself is not needed.

compose-spec.json is schema/compose-spec.json of github.com/compose-spec/compose-spec (Apache-2.0,
https://www.apache.org/licenses/LICENSE-2.0), unchanged, from the wheel check-jsonschema 0.39.0.
"""

import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from orderengine import proxy
from orderengine.management.commands.up import DISPATCHER, FLOWER, WORKER, daphne
from orders.dispatcher import LEADER_LOCK
from tests.unit.test_env_example import LISTED

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "tests" / "compose-spec.json").read_text())
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
FINAL_STAGE = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]

ENGINE = {"web", "worker", "dispatcher", "flower"}
SCALE = {"rest", "more-workers", "proxy"}  # of the profile `scale`
PRODUCTION = {
    "DEBUG": "false",
    "SECRET_KEY": secrets.token_urlsafe(50),
    "ALLOWED_HOSTS": "orders.example",
    "POSTGRES_PASSWORD": "strong",
    "FLOWER_BASIC_AUTH": "operator:strong",
}


def instruction(name: str) -> str:
    """What the final stage of the Dockerfile says after the name, the last time."""
    return re.findall(rf"^{name} (.*)$", FINAL_STAGE, re.MULTILINE)[-1]


def options(argv: list[str]) -> list[str]:
    """The command without the interpreter and without where to listen."""
    text = " ".join(argv[argv.index("-m") :])
    return re.sub(r"--(port|address)[= ]\S+ ?|interface=[\d.]+", "", text).split()


def environment(service: str, dot_env: dict[str, str]) -> dict[str, str]:
    """What the service is started with when `.env` holds these; "" where it is told nothing."""

    def interpolate(text: str) -> str:
        return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: dot_env.get(m[1]) or m[2], text)

    return {
        name: dot_env.get(name, "") if value is None else interpolate(str(value))
        for name, value in SERVICES[service]["environment"].items()
    }


def check(service: str, dot_env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`manage.py check`, which the image runs before anything else."""
    return subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment(service, dot_env)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_compose_file_follows_the_compose_specification() -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(COMPOSE)


def test_the_schema_notices_a_misspelt_key() -> None:
    services = {**SERVICES, "web": {**SERVICES["web"], "heathcheck": {}}}

    with pytest.raises(jsonschema.ValidationError, match="heathcheck"):
        jsonschema.Draft202012Validator(SCHEMA).validate({**COMPOSE, "services": services})


def test_all_services_are_there() -> None:
    assert set(SERVICES) == {"postgres", "redis", "migrate"} | ENGINE | SCALE
    assert {name for name, each in SERVICES.items() if each.get("profiles")} == SCALE


def test_scale_serves_rest_as_up_fast_does() -> None:
    command = SERVICES["rest"]["command"]

    assert command[1 : len(proxy.UVICORN)] == proxy.UVICORN[1:]
    assert command[-1] == "orderengine.rest:application"


def test_every_name_of_the_proxy_is_given() -> None:
    names = set(re.findall(r"\$\{(\w+)\}", proxy.TEMPLATE.read_text()))

    assert names <= set(SERVICES["proxy"]["environment"])


@pytest.mark.parametrize("name", sorted(ENGINE))
def test_engine_waits_for_healthy_servers_and_the_migrated_database(name: str) -> None:
    conditions = {on: how["condition"] for on, how in SERVICES[name]["depends_on"].items()}

    assert conditions == {
        "postgres": "service_healthy",
        "redis": "service_healthy",
        "migrate": "service_completed_successfully",
    }


def test_migrate_runs_once_on_a_healthy_database() -> None:
    migrate = SERVICES["migrate"]

    assert migrate["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert migrate["restart"] == "no"
    assert migrate["command"] == ["python", "manage.py", "migrate", "--noinput"]


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"migrate", "web", "rest"}))
def test_service_has_a_health_check_of_its_own(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}


@pytest.mark.parametrize("name", ["web", "rest"])
def test_web_is_checked_by_the_image(name: str) -> None:
    """Which asks by a name that ALLOWED_HOSTS has."""
    assert "healthcheck" not in SERVICES[name]
    assert "/health/live" in instruction("HEALTHCHECK")
    assert "127.0.0.1:3000" in instruction("HEALTHCHECK")


@pytest.mark.parametrize(
    ("hosts", "host"),
    [("", "localhost"), ("a.example,b.example", "a.example"), (".a.example", "a.example")],
)
def test_the_proxy_is_asked_by_a_name_that_the_engine_knows(
    tmp_path: Path, hosts: str, host: str
) -> None:
    (tmp_path / "wget").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "wget").chmod(0o755)
    _, script = SERVICES["proxy"]["healthcheck"]["test"]
    env = {"ALLOWED_HOSTS": hosts, "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    asked = subprocess.run(
        ["sh", "-c", script.replace("$$", "$")], env=env, capture_output=True, text=True, check=True
    )

    assert f"--header Host: {host} http://127.0.0.1:8080/health/live" in asked.stdout


def test_dispatcher_is_healthy_while_the_leader_lock_is_held() -> None:
    assert f"objid = {LEADER_LOCK} " in SERVICES["dispatcher"]["healthcheck"]["test"][-1]


def test_postgres_is_not_taken_for_ready_while_it_is_initialised() -> None:
    assert "127.0.0.1" in SERVICES["postgres"]["healthcheck"]["test"]


def test_postgres_18_keeps_its_data_in_a_volume() -> None:
    assert SERVICES["postgres"]["image"] == "postgres:18"
    assert SERVICES["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]
    assert "postgres" in COMPOSE["volumes"]


def test_only_what_people_reach_is_published_and_on_loopback() -> None:
    published = {name: each["ports"] for name, each in SERVICES.items() if "ports" in each}

    assert published == {
        "web": ["127.0.0.1:${PORT:-3000}:3000"],
        "flower": ["127.0.0.1:${FLOWER_PORT:-5555}:5555"],
        "proxy": ["127.0.0.1:${SCALE_PORT:-8080}:8080"],
    }


def test_images_are_pinned() -> None:
    for name in ("postgres", "redis"):
        assert re.search(r":\d", SERVICES[name]["image"])
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {
        "python:3.11-slim-bookworm"
    }


def test_one_service_builds_the_image_that_all_run() -> None:
    assert [name for name, each in SERVICES.items() if "build" in each] == ["migrate"]
    assert len({SERVICES[name]["image"] for name in {"migrate"} | ENGINE}) == 1


def test_processes_run_as_they_do_locally() -> None:
    worker = [*WORKER, "-n", "worker1@%h"]
    flower = [*FLOWER, "--logging=warning"]

    web = [*daphne(3000), "orderengine.asgi:application"]
    assert options(json.loads(instruction("CMD"))) == options(web)
    assert options(SERVICES["worker"]["command"]) == options(worker)
    assert options(SERVICES["flower"]["command"]) == options(flower)
    assert options(SERVICES["dispatcher"]["command"]) == options(DISPATCHER)


def test_worker_has_time_to_finish_its_orders() -> None:
    assert SERVICES["worker"]["stop_grace_period"] == "20s"


def test_all_processes_share_one_environment() -> None:
    flower = environment("flower", {})

    assert flower.pop("FLOWER_BASIC_AUTH").partition(":")[2]
    for name in ENGINE - {"flower"}:
        assert environment(name, {}) == flower


def test_every_variable_of_the_example_reaches_the_containers() -> None:
    elsewhere = {
        *("PORT", "DATA_DIR", "API_KEY"),  # of `make up`, and of clients
        *("FLOWER_PORT", "FLOWER_BASIC_AUTH"),  # of the service flower
    }

    assert set(LISTED) - elsewhere <= set(COMPOSE["x-environment"])


def test_nothing_opens_flower_to_everyone() -> None:
    assert "UNAUTHENTICATED" not in json.dumps(COMPOSE)


@pytest.mark.fleet
@pytest.mark.parametrize("dot_env", [{}, PRODUCTION], ids=["nothing set", "production"])
def test_stack_starts(dot_env: dict[str, str]) -> None:
    done = check("web", dot_env)

    assert done.returncode == 0, done.stderr


@pytest.mark.fleet
@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("SECRET_KEY", "SECRET_KEY"),
        ("ALLOWED_HOSTS", "ALLOWED_HOSTS"),
        ("POSTGRES_PASSWORD", "DATABASE_URL"),
        ("FLOWER_BASIC_AUTH", "FLOWER_BASIC_AUTH"),
    ],
)
def test_production_refuses_to_start_without(missing: str, named: str) -> None:
    done = check("flower", {**PRODUCTION, missing: ""})

    assert done.returncode == 1
    assert named in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_image_is_built_for_production() -> None:
    assert "DEBUG=false" in instruction("ENV")
    assert "requirements-dev" not in DOCKERFILE
    assert set(re.findall(r"^COPY (?!--from)(.+) \S+$", FINAL_STAGE, re.MULTILINE)) == {
        "manage.py",
        "lean.py",
        "orderengine",
        "desk",
        "orders",
        "dex",
    }


def test_image_does_not_run_as_root() -> None:
    assert instruction("USER") == "10001:10001"


def test_build_context_holds_only_what_is_copied() -> None:
    everything, *kept = (ROOT / ".dockerignore").read_text().split()

    assert everything == "*"
    assert {line for line in kept if line.startswith("!")} == {
        "!requirements.txt",
        "!constraints.txt",
        "!manage.py",
        "!lean.py",
        "!orderengine",
        "!desk",
        "!orders",
        "!dex",
    }
