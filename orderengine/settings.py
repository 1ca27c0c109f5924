"""All configuration. The only reader of the environment; `.env.example` explains each name."""

import os
import secrets
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import make_conninfo

from dex.exchange import ExchangeConfig
from dex.postgres import IN_UTC
from dex.simulation.faults import Faults
from dex.types import Strategy
from dex.venues.registry import SIMULATED, VENUES
from orderengine import environment as read
from orderengine.files import STACK_FILE, read_env
from orderengine.logs import logging_config
from orderengine.pool import PooledConnection

BASE_DIR = Path(__file__).resolve().parent.parent
read.dot_env(BASE_DIR / ".env")
DATA_DIR = Path(os.environ.get("DATA_DIR") or BASE_DIR / ".data").absolute()

# Both URLs unset: on the embedded servers of `manage.py up`.
EMBEDDED = not (read.isset("DATABASE_URL") or read.isset("REDIS_URL"))
SET_BY_USER = dict(os.environ)
# A running stack tells other commands where its servers are, in development one of them as well.
SOME_EMBEDDED = not (read.isset("DATABASE_URL") and read.isset("REDIS_URL"))
if EMBEDDED or (SOME_EMBEDDED and read.flag("DEBUG", default=False)):
    read.take(read_env(DATA_DIR / STACK_FILE))

DEVELOPMENT = read.flag("DEBUG", default=EMBEDDED)
# Django's own: with it a page for its developers takes the place of a refusal of problems.py.
DEBUG = False
PORT = read.integer("PORT", 3000, minimum=1, maximum=65_535)
LEVELS = {name: name for name in ("debug", "info", "warning", "error", "critical")}
# The last three are the original system's.
LEVELS |= {"trace": "debug", "warn": "warning", "fatal": "critical"}
LOG_LEVEL = LEVELS[read.choice("LOG_LEVEL", "info", tuple(LEVELS))]


def required(name: str, *, development: str) -> str:
    """The variable; in production it must be set."""
    if not DEVELOPMENT and not read.isset(name):
        raise ImproperlyConfigured(f"{name} is not set and DEBUG is off: set it for production")
    return os.environ.get(name) or development


SECRET_KEY = required("SECRET_KEY", development=secrets.token_urlsafe(48))
ALLOWED_HOSTS = read.hosts(
    "ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]", "testserver"] if DEVELOPMENT else []
)
API_AUTH_REQUIRED = read.flag("API_AUTH_REQUIRED", default=not DEVELOPMENT)
BEHIND_PROXY = read.flag("BEHIND_PROXY", default=False)
CORS_ALLOWED_ORIGINS = read.origins("CORS_ALLOWED_ORIGINS")
# (requests, seconds), or None: no limit.
API_RATE_LIMIT = read.allowance("API_RATE_LIMIT", None if DEVELOPMENT else (600, 60))
API_KEY = os.environ.get("API_KEY", "")  # of the client commands
FLOWER_URL = read.address("FLOWER_URL")
FLOWER_PORT = read.integer("FLOWER_PORT", 5555, minimum=1, maximum=65_535)
FLOWER_BASIC_AUTH = read.credentials("FLOWER_BASIC_AUTH")
if read.isset("FLOWER_PORT") and FLOWER_PORT == PORT:
    raise ImproperlyConfigured(f"FLOWER_PORT={FLOWER_PORT} is PORT as well: set another one")

if not DEVELOPMENT:
    repeated = SECRET_KEY in (SECRET_KEY * 2)[1:-1]
    if len(SECRET_KEY) < 50 or repeated or "insecure" in SECRET_KEY:
        raise ImproperlyConfigured(
            "SECRET_KEY is too weak for production: set at least 50 random characters, for "
            "example from `python -c 'import secrets; print(secrets.token_urlsafe(50))'`"
        )
    if not ALLOWED_HOSTS or "*" in ALLOWED_HOSTS:
        raise ImproperlyConfigured(
            f"ALLOWED_HOSTS={','.join(ALLOWED_HOSTS)!r}: name the hosts this API is served under"
        )
    for name in ("DATABASE_URL", "FLOWER_BASIC_AUTH"):
        if "insecure" in os.environ.get(name, ""):
            raise ImproperlyConfigured(
                f"{name} has the password of the development stack: set another for production"
            )
    if not API_AUTH_REQUIRED:
        raise ImproperlyConfigured(
            "API_AUTH_REQUIRED=false would open the API to everyone: only with DEBUG=true"
        )

METRICS_ALLOW = read.read(
    "METRICS_ALLOW",
    tuple[IPv4Network | IPv6Network, ...](),
    lambda text: tuple(ip_network(part.strip()) for part in text.split(",")),
    "addresses and networks such as 10.1.0.0/16,127.0.0.1",
)

# What the engine does ---------------------------------------------------------------------------

QUEUE_CONCURRENCY = read.integer("QUEUE_CONCURRENCY", 10)
QUEUE_RATE_LIMIT = read.integer("QUEUE_RATE_LIMIT", 100)
WORKER_RATE_LIMIT = read.rate("WORKER_RATE_LIMIT", "20/s")
ORDER_MAX_ATTEMPTS = read.integer("ORDER_MAX_ATTEMPTS", 3, minimum=1, maximum=20)
ORDER_RETRY_BASE_SECONDS = read.number("ORDER_RETRY_BASE_SECONDS", 1.0, minimum=0, maximum=3600)
ORDER_LEASE_SECONDS = read.number("ORDER_LEASE_SECONDS", 15.0, minimum=1, maximum=3600)

# Databases --------------------------------------------------------------------------------------

NOT_RUNNING = "postgres://orders@127.0.0.1:1/orders"
DATABASE_URL = required("DATABASE_URL", development=NOT_RUNNING)
REDIS_URL = required("REDIS_URL", development="redis://127.0.0.1:1/0")

# An @ further on shows that what was read as the host is the beginning of a password.
DATABASE_FORM = r"postgres(ql)?://((%[0-9A-Fa-f]{2}|[^/?@%\s])*@)?[^@]*"
# Of options and schemes only what each of its clients knows.
REDIS_PLACE = r"([^/?#]*@)?[^/?#@]+(/\d*)?"
SSL_OPTION = (
    r"ssl_(cert_reqs=(none|optional|required)|check_hostname=(true|false)"
    r"|(ca_certs|ca_path|certfile|keyfile)=[^@&]*)"
)
REDIS_FORM = rf"redis://{REDIS_PLACE}|rediss://{REDIS_PLACE}(\?({SSL_OPTION}(&|$))+)?"


def database_config(url: str) -> dict[str, Any]:
    config: dict[str, Any] = environ.Env.db_url_config(url)
    if not config["NAME"]:
        raise ImproperlyConfigured("DATABASE_URL names no database: set …@host:port/name")
    try:
        make_conninfo(url)
    except psycopg.ProgrammingError as error:
        raise ImproperlyConfigured(
            f"DATABASE_URL: {str(error).strip()}: behind its ? are options of libpq, such as "
            "sslmode=require"
        ) from None
    return config


DATABASES = {
    "default": read.server_url(
        "DATABASE_URL",
        DATABASE_URL,
        DATABASE_FORM,
        database_config,
        "postgres://user:password@host:port/name",
    )
}
read.server_url(
    "REDIS_URL",
    REDIS_URL,
    REDIS_FORM,
    lambda url: urlsplit(url).port,
    "redis://user:password@host:port/number, or rediss://… with no options but ssl_ca_certs, "
    "ssl_ca_path, ssl_certfile, ssl_keyfile, ssl_check_hostname (true or false) and ssl_cert_reqs "
    "(none, optional or required)",
)
url_options = DATABASES["default"].get("OPTIONS", {})
DATABASES["default"] |= {
    # Under Daphne a view's thread does not live on: connections are pooled, never kept.
    "CONN_MAX_AGE": 0,
    "CONN_HEALTH_CHECKS": True,
    "OPTIONS": {
        "connect_timeout": 2,
        # Of several hosts the one that takes writes.
        "target_session_attrs": "read-write",
        # A connection that something between has forgotten is found out while nobody uses it.
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "pool": {
            "connection_class": PooledConnection,
            "min_size": 1,
            "max_size": 12,
            "timeout": 2,
            "reconnect_timeout": 5,
        },
        **url_options,
        # Less than the client waits (dex.postgres): what is given up is not carried out later.
        "options": f"-c statement_timeout=2000 {IN_UTC} {url_options.get('options', '')}".strip(),
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "orderengine.channel_layer.ChannelLayer",
        "CONFIG": {
            "hosts": [{"address": REDIS_URL, "socket_connect_timeout": 0.5}],
            # Redis's databases share its pub/sub: the number keeps two engines apart.
            "prefix": f"orders.{urlsplit(REDIS_URL).path.strip('/') or 0}",
        },
    }
}

# Venues -----------------------------------------------------------------------------------------


def require_venues(names: Iterable[str]) -> None:
    if unknown := set(names) - VENUES.keys():
        raise ValueError(f"no such venue: {', '.join(sorted(unknown))}")


def faults(text: str) -> Faults:
    parsed = Faults.parse(text)
    require_venues(parsed.venues)
    return parsed


def curves_of(venue: str) -> tuple[str, tuple[str, ...]]:
    """(the default, all of them)"""
    curves = tuple(program.curve for program in SIMULATED[venue].programs)
    return curves[0], curves


def timeouts(text: str) -> dict[str, int]:
    """`2000` for every venue, or with exceptions: `2000,raydium=500`."""
    every, *exceptions = text.split(",")
    own = (part.partition("=")[::2] for part in exceptions)
    found = dict.fromkeys(VENUES, int(every)) | {name.strip(): int(ms) for name, ms in own}
    require_venues(found)
    return {name: read.within(ms, 1, read.LONGEST_MS) for name, ms in found.items()}


def venue_names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    require_venues(names)
    if len({*names}) < len(names):
        raise ValueError("a venue is given twice")
    return names


QUOTE_LATENCY_MS = read.integer("DEX_QUOTE_LATENCY_MS", 200)
DEX = ExchangeConfig(
    dsn=DATABASE_URL,
    seed=os.environ.get("DEX_SEED") or "0",
    quote_latency_ms=QUOTE_LATENCY_MS,
    swap_latency_ms=read.millisecond_range("DEX_SWAP_LATENCY_MS", (2000, 3000)),
    faults=read.read("DEX_FAULTS", Faults(), faults, "faults such as rejected=0.05,dropped=0.02"),
    quote_timeouts_ms=read.read(
        "DEX_QUOTE_TIMEOUT_MS",
        dict.fromkeys(VENUES, max(2000, QUOTE_LATENCY_MS + 1000)),
        timeouts,
        f"milliseconds from 1 to {read.LONGEST_MS}, such as 2000 or 2000,raydium=500",
    ),
    venues=read.read(
        "DEX_VENUES", tuple(SIMULATED), venue_names, f"names among {', '.join(VENUES)}"
    ),
    curves={name: read.choice(f"DEX_{name.upper()}_CURVE", *curves_of(name)) for name in SIMULATED},
    strategy=Strategy(read.choice("DEX_ROUTING", "auto", tuple(Strategy))),
    keypair_file=read.read("DEX_KEYPAIR_FILE", None, Path, "a path"),
)
if (live := ", ".join(sorted(set(DEX.venues) - SIMULATED.keys()))) and DEX.keypair_file is None:
    raise ImproperlyConfigured(
        f"DEX_VENUES: {live} trades with real money: DEX_KEYPAIR_FILE must name the wallet's key"
    )
for venue, timeout_ms in DEX.quote_timeouts_ms.items():
    if venue in SIMULATED and DEX.quote_latency_ms >= timeout_ms:
        raise ImproperlyConfigured(
            f"DEX_QUOTE_LATENCY_MS={DEX.quote_latency_ms}: no quote of {venue} would arrive "
            f"within DEX_QUOTE_TIMEOUT_MS={timeout_ms}"
        )
    if venue in DEX.venues and timeout_ms > 1000 * ORDER_LEASE_SECONDS:
        raise ImproperlyConfigured(
            f"ORDER_LEASE_SECONDS={ORDER_LEASE_SECONDS:g}: an order whose worker waits for a quote "
            f"of {venue}, {timeout_ms} ms at most by DEX_QUOTE_TIMEOUT_MS, would be taken over"
        )

# Celery -----------------------------------------------------------------------------------------

CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_DEFAULT_QUEUE = "orders"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
# Without a limit on the fleet a worker still has an end.
CELERY_WORKER_CONCURRENCY = QUEUE_CONCURRENCY or 100
CELERY_WORKER_POOL = "threads"
CELERY_WORKER_CONSUMER = "orderengine.consumer:WorkerConsumer"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 5
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
ONCE_MORE = {"max_retries": 1, "interval_start": 0, "interval_step": 0.05, "interval_max": 0.1}
# A stalled Redis would otherwise hold a publisher for ever.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 120,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "socket_connect_timeout": 0.5,
    "socket_timeout": 1,
    "health_check_interval": 3,  # a connection that was lost without a word brings no hints
    **ONCE_MORE,
}
CELERY_TASK_PUBLISH_RETRY_POLICY = ONCE_MORE

# Web --------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "channels",
    "orderengine",
    "desk",
    "orders",
]
MIDDLEWARE = [
    "orders.requestid.middleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
CSRF_FAILURE_VIEW = "orders.problems.csrf_failure"
ROOT_URLCONF = "orderengine.urls"
ASGI_APPLICATION = "orderengine.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "static/"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "desk"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
REST_FRAMEWORK = {
    "DEFAULT_PARSER_CLASSES": ["orders.parsing.DecimalJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "orders.access.KeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": [
        "rest_framework.permissions.IsAuthenticated"
        if API_AUTH_REQUIRED
        else "rest_framework.permissions.AllowAny"
    ],
    "DEFAULT_THROTTLE_CLASSES": ["orders.access.Throttle"] if API_RATE_LIMIT else [],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "orders.parsing.AlwaysJSON",
    "UNICODE_JSON": False,  # half a surrogate in a client's text can be answered in ASCII only
    "EXCEPTION_HANDLER": "orders.problems.exception_handler",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Order Execution Engine",
    "DESCRIPTION": "Routes token swap orders to the better of two Solana DEXs. Decimals are "
    "answered as strings, timestamps in UTC; every refusal is RFC 9457 problem details. Any path "
    "may answer 405 to another method, 431 to a head that is too long, and 400 `BAD_REQUEST` to "
    "what is no HTTP request.",
    "SERVERS": [{"url": "/"}],
    "VERSION": "0.1.0",
    "OAS_VERSION": "3.1.0",
    "POSTPROCESSING_HOOKS": ["orders.openapi.complete"],
    "SECURITY": [{"apiKey": []}, {"session": []}],
    "AUTHENTICATION_WHITELIST": [],  # the line above says all
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "SERVE_PERMISSIONS": REST_FRAMEWORK["DEFAULT_PERMISSION_CLASSES"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    # Without null Swagger UI sends the document's address to validator.swagger.io.
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},
}
SESSION_ENGINE = "orders.sessions"
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024

TIME_ZONE = "UTC"
USE_I18N = False

if not DEVELOPMENT:
    # A proxy ends TLS in front of Daphne and sets this header; it redirects HTTP itself (W008).
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SILENCED_SYSTEM_CHECKS = ["security.W008"]
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    CSRF_TRUSTED_ORIGINS = [f"https://{host.lstrip('.')}" for host in ALLOWED_HOSTS]

LOGGING_CONFIG = "orderengine.logs.configure"
LOGGING = logging_config(level=LOG_LEVEL.upper(), json=not DEVELOPMENT)
