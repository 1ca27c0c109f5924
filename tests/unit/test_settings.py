"""Settings as an environment makes them: safe in production, or refused with one clear line."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.core.exceptions import ImproperlyConfigured
from flower.command import apply_env_options
from tornado.options import options

from dex.venues.base import Venue
from dex.venues.registry import SIMULATED, VENUES
from orderengine import environment
from orderengine.embedded import Stack
from orderengine.files import STACK_FILE, write_env

ROOT = Path(__file__).parents[2]
SECRET_KEY = "wO3vTqk9ZkD1x0bNf7Ue5Yh2Rj8Lp4Sa6Gc_iMEXdHV-tKzQyBnCsFuWrJ"
PRODUCTION = {
    "DEBUG": "false",
    "SECRET_KEY": SECRET_KEY,
    "ALLOWED_HOSTS": "api.example.com",
    "DATABASE_URL": "postgres://orders:long-random@db.example.com:5432/orders",
    "REDIS_URL": "redis://redis.example.com:6379/0",
}


@pytest.fixture
def nowhere(tmp_path: Path) -> dict[str, str]:
    """An environment in which no stack runs, and that names nothing of this test run."""
    return {"DATA_DIR": str(tmp_path), "PATH": os.environ["PATH"]}


def settings(environ: dict[str, str]) -> dict[str, Any]:
    with mock.patch.dict(os.environ, environ, clear=True):
        return runpy.run_path(str(ROOT / "orderengine" / "settings.py"))


def refusal(environ: dict[str, str]) -> str:
    with pytest.raises(ImproperlyConfigured) as refused:
        settings(environ)
    message = str(refused.value)
    assert "\n" not in message
    return message


def without(environ: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name not in names}


# Production --------------------------------------------------------------------------------------


def test_production_is_closed_by_default(nowhere: dict[str, str]) -> None:
    made = settings({**nowhere, **PRODUCTION})

    assert made["DEVELOPMENT"] is False
    assert made["API_AUTH_REQUIRED"] is True
    permissions = made["REST_FRAMEWORK"]["DEFAULT_PERMISSION_CLASSES"]
    assert permissions == ["rest_framework.permissions.IsAuthenticated"]
    authentication = made["REST_FRAMEWORK"]["DEFAULT_AUTHENTICATION_CLASSES"]
    assert not [name for name in authentication if "Basic" in name]
    assert made["CORS_ALLOWED_ORIGINS"] == []
    assert made["SECURE_HSTS_SECONDS"] >= 31_536_000
    assert made["ALLOWED_HOSTS"] == ["api.example.com"]
    assert made["SESSION_COOKIE_SECURE"]
    assert made["CSRF_COOKIE_SECURE"]
    assert made["DATABASES"]["default"]["HOST"] == "db.example.com"
    assert made["CELERY_BROKER_URL"] == PRODUCTION["REDIS_URL"]


def test_production_limits_each_key_and_development_nobody(nowhere: dict[str, str]) -> None:
    production = settings({**nowhere, **PRODUCTION})
    development = settings(nowhere)

    assert production["API_RATE_LIMIT"] == (600, 60)
    assert production["REST_FRAMEWORK"]["DEFAULT_THROTTLE_CLASSES"] == ["orders.access.Throttle"]
    assert development["API_RATE_LIMIT"] is None
    assert development["REST_FRAMEWORK"]["DEFAULT_THROTTLE_CLASSES"] == []


@pytest.mark.parametrize(
    ("text", "limit"), [("5/s", (5, 1)), ("9/h", (9, 3600)), ("none", None), ("", (600, 60))]
)
def test_the_rate_limit_is_set_as_text(
    nowhere: dict[str, str], text: str, limit: tuple[int, int] | None
) -> None:
    made = settings({**nowhere, **PRODUCTION, "API_RATE_LIMIT": text})

    assert made["API_RATE_LIMIT"] == limit
    assert bool(made["REST_FRAMEWORK"]["DEFAULT_THROTTLE_CLASSES"]) is (limit is not None)


def test_with_both_urls_and_nothing_else_said_it_is_production(nowhere: dict[str, str]) -> None:
    assert settings({**nowhere, **without(PRODUCTION, "DEBUG")})["DEVELOPMENT"] is False


@pytest.mark.parametrize("name", ["SECRET_KEY", "DATABASE_URL", "REDIS_URL", "ALLOWED_HOSTS"])
def test_production_refuses_to_start_without(nowhere: dict[str, str], name: str) -> None:
    assert name in refusal({**nowhere, **without(PRODUCTION, name)})
    assert name in refusal({**nowhere, **PRODUCTION, name: ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", "short"),
        ("SECRET_KEY", "a" * 60),
        ("SECRET_KEY", "changeme" * 7),
        ("SECRET_KEY", "django-insecure-" + SECRET_KEY),
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", "api.example.com,*"),
        ("ALLOWED_HOSTS", " , "),
        ("API_AUTH_REQUIRED", "false"),
        ("DATABASE_URL", "mysql://orders@db.example.com/orders"),
        ("DATABASE_URL", "sqlite:///orders.sqlite3"),
    ],
)
def test_production_refuses_an_unsafe_value(nowhere: dict[str, str], name: str, value: str) -> None:
    assert name in refusal({**nowhere, **PRODUCTION, name: value})


@pytest.mark.parametrize("name", ["SECRET_KEY", "FLOWER_BASIC_AUTH"])
def test_a_refusal_does_not_show_a_secret(nowhere: dict[str, str], name: str) -> None:
    assert "hush" not in refusal({**nowhere, **PRODUCTION, name: "hush"})


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL"])
@pytest.mark.parametrize(
    "password",
    ["hu/sh", "hu?sh", "12/sh", "12?sh", "12?sh=x", "12/0?sh", "hu/s#h", "h/u@sh", "h[u/sh"],
)
def test_a_url_whose_password_is_not_encoded_is_refused_and_not_shown(
    nowhere: dict[str, str], name: str, password: str
) -> None:
    scheme, _, rest = PRODUCTION[name].partition("://")
    url = f"{scheme}://orders:{password}@{rest.rpartition('@')[2]}"

    told = refusal({**nowhere, **PRODUCTION, name: url})

    assert told.startswith(f"{name} cannot be read: expected {scheme}://user:password@host:port/")
    assert "percent-encoded" in told
    assert not [part for part in ("hu", "sh", "12", "example") if part in told]


@pytest.mark.parametrize(
    ("name", "password"),
    [
        # libpq names in its refusal what Django would take as it stands.
        *[("DATABASE_URL", password) for password in ("hu%sh", "hu@sh", "hu sh")],
        *[("REDIS_URL", password) for password in ("hu#sh", "12#sh", "hu[sh")],
    ],
)
def test_a_url_that_only_one_library_can_read_is_refused(
    nowhere: dict[str, str], name: str, password: str
) -> None:
    scheme, _, rest = PRODUCTION[name].partition("://")
    url = f"{scheme}://orders:{password}@{rest.rpartition('@')[2]}"

    assert "sh" not in refusal({**nowhere, **PRODUCTION, name: url})


@pytest.mark.parametrize(
    ("name", "url"),
    [
        (
            "DATABASE_URL",
            "postgresql://orders:a%2Fb%40c#d:e[f@db.example.com/orders?sslmode=require",
        ),
        ("DATABASE_URL", "postgres://orders@[::1]:5432/orders"),
        ("DATABASE_URL", "postgres://a:5432,b:5433/orders"),
        ("DATABASE_URL", "postgres:///orders?host=/run/postgresql"),
        ("REDIS_URL", "redis://:a%2Fb@c%d@redis.example.com:6379/0"),
        ("REDIS_URL", "rediss://[::1]:6379"),
        ("REDIS_URL", "rediss://:a@redis.example.com:6380/1?ssl_cert_reqs=required"),
    ],
)
def test_a_url_may_have_any_form_that_every_library_can_read(
    nowhere: dict[str, str], name: str, url: str
) -> None:
    assert settings({**nowhere, **PRODUCTION, name: url})[name] == url


def test_a_secret_may_begin_with_a_dollar(nowhere: dict[str, str]) -> None:
    url = "postgres://orders:$long-random@db.example.com:5432/orders"
    secrets = {"SECRET_KEY": f"${SECRET_KEY}", "DATABASE_URL": url, "FLOWER_BASIC_AUTH": "$u:$p"}

    made = settings({**nowhere, **PRODUCTION, **secrets})

    assert made["SECRET_KEY"] == f"${SECRET_KEY}"
    assert made["DATABASES"]["default"]["PASSWORD"] == "$long-random"
    assert made["FLOWER_BASIC_AUTH"] == "$u:$p"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEBUG", "maybe"),
        ("PORT", "http"),
        ("PORT", "0"),
        ("PORT", "70000"),
        ("LOG_LEVEL", "verbose"),
        ("LOG_LEVEL", "$LOG_LEVEL"),
        ("ALLOWED_HOSTS", "http://api.example.com"),
        ("QUEUE_CONCURRENCY", "ten"),
        ("QUEUE_CONCURRENCY", "-1"),
        ("QUEUE_CONCURRENCY", "2147483648"),
        ("QUEUE_RATE_LIMIT", "1.5"),
        ("QUEUE_RATE_LIMIT", "2147483648"),
        ("WORKER_RATE_LIMIT", "fast"),
        ("ORDER_MAX_ATTEMPTS", "0"),
        ("ORDER_MAX_ATTEMPTS", "32768"),
        ("ORDER_RETRY_BASE_SECONDS", "soon"),
        ("ORDER_RETRY_BASE_SECONDS", "nan"),
        ("ORDER_RETRY_BASE_SECONDS", "1e300"),
        ("ORDER_LEASE_SECONDS", "0"),
        ("ORDER_LEASE_SECONDS", "-1"),
        ("DEX_QUOTE_LATENCY_MS", "slow"),
        ("DEX_QUOTE_TIMEOUT_MS", "0"),
        ("DEX_QUOTE_TIMEOUT_MS", "999999999999999"),
        ("DEX_QUOTE_TIMEOUT_MS", "2000,nowhere=500"),
        ("DEX_QUOTE_TIMEOUT_MS", "2000,raydium"),
        ("DEX_QUOTE_TIMEOUT_MS", "2000,raydium=100"),
        ("DEX_RAYDIUM_CURVE", "dlmm"),
        ("DEX_METEORA_CURVE", "cpmm"),
        ("DEX_ROUTING", "worst"),
        ("DEX_VENUES", "raydium,nowhere"),
        ("DEX_VENUES", "raydium,raydium"),
        ("DEX_SWAP_LATENCY_MS", "3000-2000"),
        ("DEX_SWAP_LATENCY_MS", "some"),
        ("DEX_SWAP_LATENCY_MS", "2000-"),
        ("DEX_SWAP_LATENCY_MS", "-2000"),
        ("DEX_SWAP_LATENCY_MS", "999999999999999"),
        ("DEX_FAULTS", "rejected"),
        ("DEX_FAULTS", "rejected=2"),
        ("DEX_FAULTS", "rejected=0.1,rejected=0.2"),
        ("DEX_FAULTS", "explosion=0.1"),
        ("DEX_FAULTS", "nowhere.rejected=0.1"),
        ("API_AUTH_REQUIRED", "perhaps"),
        ("CORS_ALLOWED_ORIGINS", "*"),
        ("CORS_ALLOWED_ORIGINS", "app.example.com"),
        ("CORS_ALLOWED_ORIGINS", "https://app.example.com/"),
        ("API_RATE_LIMIT", "600"),
        ("API_RATE_LIMIT", "0/m"),
        ("API_RATE_LIMIT", "600/d"),
        ("API_RATE_LIMIT", "many"),
        ("FLOWER_URL", "javascript:alert(1)"),
        ("FLOWER_URL", "flower.example.com"),
        ("FLOWER_PORT", "x"),
        ("FLOWER_PORT", "70000"),
        ("FLOWER_PORT", "3000"),  # that of PORT
        ("FLOWER_BASIC_AUTH", "operator"),
        ("FLOWER_BASIC_AUTH", "operator:"),
        ("FLOWER_BASIC_AUTH", "operator:a,b"),
        ("DATABASE_URL", "junk"),
        ("DATABASE_URL", "postgres://orders@db.example.com:port/orders"),
        ("REDIS_URL", "junk"),
        ("REDIS_URL", "http://redis.example.com"),
        ("REDIS_URL", "redis://redis.example.com:6379/0x"),
        ("REDIS_URL", "redis://redis.example.com:6379/0?foo=1"),
        ("REDIS_URL", "redis://redis.example.com:6379/0?ssl_cert_reqs=none"),
        ("REDIS_URL", "redis://redis.example.com:6379?db=1"),
        ("REDIS_URL", "rediss://redis.example.com:6379/0?ssl_cert_reqs=none&db=1"),
        ("REDIS_URL", "rediss://redis.example.com:6379/0?ssl_cert_reqs=bogus"),
        ("REDIS_URL", "rediss://redis.example.com:6379/0?ssl_nope=1"),
        ("DATABASE_URL", "postgres://orders:long-random@db.example.com"),
        ("REDIS_URL", "unix:///run/redis.sock"),
        ("DATABASE_URL", "postgres://orders@db.example.com/orders?schema=public"),
        ("DATABASE_URL", "postgres://orders@db.example.com/orders?conn_max_age=60"),
    ],
)
@pytest.mark.parametrize("base", [PRODUCTION, {"DEBUG": "true"}], ids=["production", "development"])
def test_a_wrong_value_is_named_with_its_variable(
    nowhere: dict[str, str], base: dict[str, str], name: str, value: str
) -> None:
    assert name in refusal({**nowhere, **base, name: value})


def test_a_quote_that_takes_long_is_waited_for_unless_its_deadline_is_given(
    nowhere: dict[str, str],
) -> None:
    slow = {**nowhere, "DEX_QUOTE_LATENCY_MS": "3000"}

    assert settings(slow)["DEX"].quote_timeouts_ms == dict.fromkeys(VENUES, 4000)
    said = refusal({**slow, "DEX_QUOTE_TIMEOUT_MS": "2000"})
    assert "DEX_QUOTE_LATENCY_MS" in said
    assert "DEX_QUOTE_TIMEOUT_MS" in said


@pytest.mark.parametrize(
    ("given", "known"), [("WARN", "warning"), ("trace", "debug"), ("fatal", "critical")]
)
def test_levels_have_the_names_of_the_original_system_too(
    nowhere: dict[str, str], given: str, known: str
) -> None:
    assert settings({**nowhere, "LOG_LEVEL": given})["LOG_LEVEL"] == known


# Development -------------------------------------------------------------------------------------


def test_development_is_open_with_nothing_set(nowhere: dict[str, str]) -> None:
    made = settings(nowhere)

    assert made["DEVELOPMENT"] is True
    assert made["API_AUTH_REQUIRED"] is False
    permissions = made["REST_FRAMEWORK"]["DEFAULT_PERMISSION_CLASSES"]
    assert permissions == ["rest_framework.permissions.AllowAny"]
    assert "*" not in made["ALLOWED_HOSTS"]
    assert len(made["SECRET_KEY"]) >= 50


def test_the_defaults_are_those_of_the_contract(nowhere: dict[str, str]) -> None:
    made = settings(nowhere)

    assert (made["PORT"], made["LOG_LEVEL"]) == (3000, "info")
    assert (made["QUEUE_CONCURRENCY"], made["QUEUE_RATE_LIMIT"]) == (10, 100)
    assert made["WORKER_RATE_LIMIT"] == "20/s"
    assert (made["ORDER_MAX_ATTEMPTS"], made["ORDER_RETRY_BASE_SECONDS"]) == (3, 1)
    assert made["DEX"].quote_latency_ms == 200
    assert made["DEX"].swap_latency_ms == (2000, 3000)
    assert made["DEX"].quote_timeouts_ms == dict.fromkeys(VENUES, 2000)
    assert made["DEX"].venues == tuple(SIMULATED)
    assert {"raydium": "cpmm", "meteora": "damm_v2"}.items() <= made["DEX"].curves.items()
    assert made["DEX"].strategy == "auto"
    assert made["DEX"].keypair_file is None
    assert not made["DEX"].faults.thresholds


@pytest.mark.parametrize("name", SIMULATED)
def test_every_simulated_venue_may_have_each_of_its_curves(
    nowhere: dict[str, str], name: str
) -> None:
    for program in SIMULATED[name].programs:
        made = settings({**nowhere, f"DEX_{name.upper()}_CURVE": program.curve})

        assert made["DEX"].curves[name] == program.curve


def test_a_live_venue_needs_the_key_of_a_wallet(
    nowhere: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one each process would sign with a key of its own, of an empty wallet."""
    monkeypatch.setitem(VENUES, "orca", Venue)
    asked = {**nowhere, "DEX_VENUES": "raydium,orca"}

    assert "DEX_KEYPAIR_FILE" in refusal(asked)
    made = settings({**asked, "DEX_KEYPAIR_FILE": "/run/secrets/wallet.json"})
    assert made["DEX"].venues == ("raydium", "orca")


def test_keys_may_be_required_in_development(nowhere: dict[str, str]) -> None:
    assert settings({**nowhere, "API_AUTH_REQUIRED": "true"})["API_AUTH_REQUIRED"] is True


@pytest.mark.parametrize("base", [PRODUCTION, {"DEBUG": "true"}], ids=["production", "development"])
def test_django_never_shows_its_own_pages_for_what_goes_wrong(
    nowhere: dict[str, str], base: dict[str, str]
) -> None:
    assert settings({**nowhere, **base})["DEBUG"] is False


@pytest.mark.parametrize("forgotten", ["DATABASE_URL", "REDIS_URL"])
def test_one_url_alone_does_not_open_the_api(nowhere: dict[str, str], forgotten: str) -> None:
    """A real server with the other one forgotten is no development stack."""
    assert forgotten in refusal({**nowhere, **without(PRODUCTION, forgotten, "DEBUG")})


def test_a_running_stack_tells_where_it_is(nowhere: dict[str, str]) -> None:
    urls = {"DATABASE_URL": "postgres://orders@127.0.0.1:5999/orders"}
    urls["REDIS_URL"] = "redis://127.0.0.1:6999/0"
    write_env(Path(nowhere["DATA_DIR"]) / STACK_FILE, urls)

    made = settings(nowhere)

    assert made["DATABASES"]["default"]["PORT"] == 5999
    assert made["REDIS_URL"] == urls["REDIS_URL"]
    assert made["DEVELOPMENT"] is True


@pytest.mark.parametrize(
    ("own", "known"),
    [
        ({"DEBUG": "true", "REDIS_URL": "redis://redis.example.com:6379/0"}, True),
        ({"DEBUG": "false", **PRODUCTION}, False),
    ],
)
def test_so_does_one_with_one_server_of_its_own(
    nowhere: dict[str, str], own: dict[str, str], known: bool
) -> None:
    told = {"DATABASE_URL": "postgres://orders@127.0.0.1:5999/orders", "REDIS_URL": "redis://other"}
    write_env(Path(nowhere["DATA_DIR"]) / STACK_FILE, told)

    made = settings({**nowhere, **own})

    assert (made["DATABASES"]["default"]["PORT"] == 5999) is known
    assert made["REDIS_URL"] == own["REDIS_URL"]


def test_what_a_stack_tells_is_readable_or_refused(nowhere: dict[str, str]) -> None:
    (Path(nowhere["DATA_DIR"]) / "stack.env").write_bytes(b"DEX_SEED=caf\xe9")

    assert "set DATA_DIR to a directory of your own" in refusal(nowhere)


def test_what_is_empty_does_not_hide_what_a_stack_tells(nowhere: dict[str, str]) -> None:
    """As after `cp .env.example .env`."""
    told = {"DATABASE_URL": "postgres://orders@127.0.0.1:5999/orders", "DEX_SEED": "7"}
    write_env(Path(nowhere["DATA_DIR"]) / STACK_FILE, told)

    made = settings({**nowhere, "DATABASE_URL": "", "REDIS_URL": "", "DEX_SEED": ""})

    assert made["DATABASES"]["default"]["PORT"] == 5999
    assert made["DEX"].seed == "7"


def test_a_stack_tells_what_it_does(tmp_path: Path) -> None:
    asked = {"QUEUE_RATE_LIMIT": "0", "DEX_SEED": "7", "ORDER_MAX_ATTEMPTS": "", "PORT": "8001"}

    told = Stack(tmp_path, asked).env

    assert (told["QUEUE_RATE_LIMIT"], told["DEX_SEED"]) == ("0", "7")
    assert not told.keys() & {"ORDER_MAX_ATTEMPTS", "PORT"}


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        (b"# all of it\n\nPORT=8001\nexport LOG_LEVEL=debug\n  # more\n", ""),
        (b"PORT=8001\nQUEUE_CONCURRENCY = 5\n", "line 2: expected NAME=value"),
        (b"nonsense", "line 1: expected NAME=value"),
        (b"PORT=8001\n# caf\xe9", "cannot be read"),
        (b"LOG_LEVEL=de\0bug\n", "line 1: a NUL"),
    ],
)
def test_a_line_of_dot_env_that_says_nothing_is_refused(
    tmp_path: Path, text: bytes, refused: str
) -> None:
    (tmp_path / ".env").write_bytes(text)

    with mock.patch.dict(os.environ, {}, clear=True):
        if refused:
            with pytest.raises(ImproperlyConfigured, match=refused):
                environment.dot_env(tmp_path / ".env")
        else:
            environment.dot_env(tmp_path / ".env")
            assert os.environ == {"PORT": "8001", "LOG_LEVEL": "debug"}


def test_a_slip_in_a_name_of_dot_env_is_refused_and_other_programs_names_are_not(
    tmp_path: Path,
) -> None:
    (tmp_path / ".env.example").write_text((ROOT / ".env.example").read_text())
    (tmp_path / ".env").write_text("POSTGRES_PASSWORD=a\nREST_PROCESSES=2\nQUEUE_CONCURENCY=3\n")

    with mock.patch.dict(os.environ, {}, clear=True):
        refused = "line 3: there is no setting QUEUE_CONCURENCY: is QUEUE_CONCURRENCY meant"
        with pytest.raises(ImproperlyConfigured, match=refused):
            environment.dot_env(tmp_path / ".env")


def test_no_setting_is_a_slip_of_another(tmp_path: Path) -> None:
    for name in (".env.example", ".env"):
        (tmp_path / name).write_text((ROOT / ".env.example").read_text())

    with mock.patch.dict(os.environ, {}, clear=True):
        environment.dot_env(tmp_path / ".env")  # does not raise

        assert "QUEUE_CONCURRENCY" in os.environ


def test_what_a_stack_tells_is_not_what_the_user_has_set(nowhere: dict[str, str]) -> None:
    """Else a stack that was killed would name the servers of the next, or undo what it is told."""
    told = {"DATABASE_URL": "postgres://gone/orders", "DEX_SEED": "7", "DEBUG": "true"}
    write_env(Path(nowhere["DATA_DIR"]) / STACK_FILE, told)

    made = settings({**nowhere, "DEX_SEED": "7"})

    assert told.keys() & made["SET_BY_USER"].keys() == {"DEX_SEED"}


# The command line --------------------------------------------------------------------------------


def run(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=50, check=False
    )


@pytest.mark.fleet
def test_a_good_production_environment_passes_the_deployment_check(
    nowhere: dict[str, str],
) -> None:
    done = run(
        {**nowhere, **PRODUCTION}, "manage.py", "check", "--deploy", "--fail-level", "WARNING"
    )

    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout + done.stderr


@pytest.mark.fleet
@pytest.mark.parametrize(
    ("name", "value"), [("SECRET_KEY", "short"), ("DEX_FAULTS", "nowhere.rejected=0.1")]
)
def test_a_refusal_is_one_line_and_no_traceback(
    nowhere: dict[str, str], name: str, value: str
) -> None:
    assert name in one_line({**nowhere, **PRODUCTION, name: value}, "manage.py", "check")


@pytest.mark.fleet
@pytest.mark.parametrize(
    "program",
    [
        ("lean", "daphne", "orderengine.asgi:application"),
        ("lean", "celery", "-A", "orderengine", "worker"),
        ("celery", "-A", "orderengine", "flower"),
    ],
)
def test_web_worker_and_flower_refuse_in_one_line_too(
    nowhere: dict[str, str], program: tuple[str, ...]
) -> None:
    assert "PORT='70000'" in one_line({**nowhere, "PORT": "70000"}, "-m", *program)


@pytest.mark.parametrize(("limit", "places"), [("0", 100), ("3", 3)])
def test_a_worker_has_places_where_the_fleet_has_no_limit(
    nowhere: dict[str, str], limit: str, places: int
) -> None:
    made = settings({**nowhere, "DEBUG": "true", "QUEUE_CONCURRENCY": limit})

    assert made["CELERY_WORKER_CONCURRENCY"] == places


def test_flower_does_not_keep_every_task() -> None:
    with mock.patch.object(options.mockable(), "max_tasks", 100_000):
        apply_env_options()

        assert options.max_tasks == 10_000


def test_flower_has_no_buttons_that_a_worker_refuses() -> None:
    with mock.patch.object(options.mockable(), "read_only", False):
        apply_env_options()

        assert options.read_only is True


@pytest.mark.fleet
def test_flower_finds_in_the_environment_what_dot_env_has(nowhere: dict[str, str]) -> None:
    loaded = """
import os, sys
from orderengine import environment
environment.dot_env = lambda path: os.environ.update(FLOWER_BASIC_AUTH="boss:secret")
sys.argv = ["celery", "-A", "orderengine", "flower"]
del sys.modules["orderengine"], sys.modules["orderengine.celery"]
import orderengine  # as `-A` does, before it runs Flower
print(os.environ.get("FLOWER_BASIC_AUTH"))
"""
    python = [sys.executable, "-c", loaded]
    done = subprocess.run(
        python, cwd=ROOT, env=nowhere, capture_output=True, text=True, check=False
    )

    assert done.stdout == "boss:secret\n", done.stderr


@pytest.mark.fleet
def test_flower_without_a_sign_in_does_not_start_in_production(nowhere: dict[str, str]) -> None:
    flower = ("-m", "celery", "-A", "orderengine", "flower")

    assert "FLOWER_BASIC_AUTH" in one_line({**nowhere, **PRODUCTION}, *flower)


@pytest.mark.fleet
@pytest.mark.parametrize(
    "arguments",
    [
        ("trading", "status"),
        ("apikey", "list"),
        ("partitions", "status"),
        ("quote", "SOL", "USDC", "1"),
    ],
)
def test_without_a_database_a_command_says_so_in_one_line(
    nowhere: dict[str, str], arguments: tuple[str, ...]
) -> None:
    assert "start the stack with `make up`" in one_line(nowhere, "manage.py", *arguments)


@pytest.mark.fleet
@pytest.mark.parametrize("arguments", [("trading", "status"), ("apikey", "list")])
def test_without_tables_a_command_says_so_in_one_line(
    nowhere: dict[str, str], database_url: str, arguments: tuple[str, ...]
) -> None:
    environ = {**nowhere, "DEBUG": "true", "DATABASE_URL": database_url}

    assert re.fullmatch(
        r'PostgreSQL: relation "orders_\w+" does not exist: make the tables with'
        r" `manage\.py migrate`\n",
        one_line(environ, "manage.py", *arguments),
    )


def one_line(environ: dict[str, str], *arguments: str) -> str:
    """All that a command says, which fails."""
    done = run(environ, *arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_a_lease_is_as_long_as_a_quote_may_take(nowhere: dict[str, str]) -> None:
    said = refusal({**nowhere, "DEX_QUOTE_LATENCY_MS": "16000"})

    assert "ORDER_LEASE_SECONDS=15: " in said
    assert "17000 ms at most by DEX_QUOTE_TIMEOUT_MS" in said


def test_pgbouncer_reads_the_options_of_a_connection(nowhere: dict[str, str]) -> None:
    """It refuses a blank at their end."""
    sent = settings({**nowhere, **PRODUCTION})["DATABASES"]["default"]["OPTIONS"]["options"]

    assert re.fullmatch(r"-c \S+=\S+( -c \S+=\S+)*", sent)
