"""What an order is. Rows only: `lifecycle.py` is what writes a status."""

import secrets
import string
import time
from collections.abc import Iterable
from functools import cache
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, Func, Q
from django.db.models.functions import Now

ALPHABET = string.ascii_lowercase + string.digits
LETTERS = "".join(ALPHABET[byte % len(ALPHABET)] for byte in range(256)).encode()  # of each byte
SUFFIX_LENGTH = 10


class Status(models.TextChoices):
    """Where an order stands, and who moves it on."""

    PENDING = "pending", "pending"  # stored, or waiting for a retry; a worker's claim moves it on
    ROUTING = "routing", "routing"  # claimed; its worker asks the venues
    BUILDING = "building", "building"  # routed; signed where that waits for nothing
    SUBMITTED = "submitted", "submitted"  # signature stored; the chain decides
    CONFIRMED = "confirmed", "confirmed"  # landed; final
    FAILED = "failed", "failed"  # no attempt left or none can succeed; final
    CANCELLED = "cancelled", "cancelled"  # withdrawn by its owner while it waited; final
    EXPIRED = "expired", "expired"  # its deadline passed while it waited; final


# The only legal moves. The database refuses any other: orders_legal_move in sql/status.sql.
TRANSITIONS: dict[Status, frozenset[Status]] = {
    # Nothing makes it failed today; clients are told that it may come.
    Status.PENDING: frozenset({Status.ROUTING, Status.FAILED, Status.CANCELLED, Status.EXPIRED}),
    # To itself when another worker takes over; back to pending for a retry.
    Status.ROUTING: frozenset({Status.ROUTING, Status.BUILDING, Status.PENDING, Status.FAILED}),
    Status.BUILDING: frozenset({Status.SUBMITTED, Status.ROUTING, Status.PENDING, Status.FAILED}),
    # Back, or failed, only when the transaction can never land.
    Status.SUBMITTED: frozenset({Status.CONFIRMED, Status.PENDING, Status.FAILED}),
    Status.CONFIRMED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
    Status.EXPIRED: frozenset(),
}
IN_EXECUTION = (Status.ROUTING, Status.BUILDING, Status.SUBMITTED)
TERMINAL = (Status.CONFIRMED, Status.FAILED, Status.CANCELLED, Status.EXPIRED)
NOT_CONFIRMED = (Status.FAILED, Status.CANCELLED, Status.EXPIRED)


def listed(names: Iterable[str]) -> str:
    """Statuses or venues, as SQL has them between parentheses."""
    return ", ".join(f"'{name!s}'" for name in names)


class FailureCode(models.TextChoices):
    """Why an order failed."""

    NO_ROUTE = "NO_ROUTE"  # no venue trades the pair
    QUOTE_UNAVAILABLE = "QUOTE_UNAVAILABLE"  # no venue answered
    INSUFFICIENT_LIQUIDITY = "INSUFFICIENT_LIQUIDITY"  # the pools cannot fill the amount
    SLIPPAGE_EXCEEDED = "SLIPPAGE_EXCEEDED"  # landed below the minimum, nothing moved
    TX_REJECTED = "TX_REJECTED"  # the chain refused the transaction
    TX_EXPIRED = "TX_EXPIRED"  # the transaction never landed while it was valid
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"  # the order's own deadline passed
    INTERNAL = "INTERNAL"  # a fault of this engine


# A new order may succeed where this one failed for a passing reason.
RETRYABLE_CODES = frozenset(
    {
        FailureCode.QUOTE_UNAVAILABLE,
        FailureCode.SLIPPAGE_EXCEEDED,
        FailureCode.TX_REJECTED,
        FailureCode.TX_EXPIRED,
    }
)


class OrderType(models.TextChoices):
    """How an order is executed; `executors/` has one file for each."""

    MARKET = "market", "market"  # now, at the better price


def new_suffixes(count: int) -> list[str]:
    """What tells the orders of one millisecond apart. Drawn at once: each draw is a system call."""
    drawn = secrets.token_bytes(SUFFIX_LENGTH * count).translate(LETTERS).decode()
    return [drawn[at : at + SUFFIX_LENGTH] for at in range(0, len(drawn), SUFFIX_LENGTH)]


def new_order_id() -> str:
    """`ord_`, 13 digits of milliseconds, 10 random characters: sorts by time of creation."""
    (suffix,) = new_suffixes(1)
    return f"ord_{time.time_ns() // 1_000_000:013d}_{suffix}"


def base_units(*, null: bool = False) -> "models.DecimalField[Any, Any]":
    """An unsigned 64-bit amount in base units of its token; bigint is one bit too small."""
    return models.DecimalField(max_digits=20, decimal_places=0, null=null)


def holds(function: str, *columns: str) -> Func:
    """A check in a function of sql/status.sql; a long one is read anew by each statement."""
    return Func(*columns, function=function, output_field=models.BooleanField())


class Order(models.Model):
    id = models.CharField(primary_key=True, max_length=28, default=new_order_id)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, db_index=False)
    client_order_id = models.CharField(max_length=64, null=True)  # noqa: DJ001 null is "none given"
    order_type = models.CharField(max_length=16, choices=OrderType)
    token_in = models.CharField(max_length=16)
    token_out = models.CharField(max_length=16)
    amount_in = base_units()
    slippage_bps = models.PositiveSmallIntegerField()
    deadline_at = models.DateTimeField(null=True)

    status = models.CharField(max_length=16, choices=Status, db_default=Status.PENDING)
    seq = models.PositiveIntegerField(db_default=1, help_text="of its newest event")
    attempt = models.PositiveSmallIntegerField(db_default=1)
    next_attempt_at = models.DateTimeField(
        db_default=Now(), help_text="a pending order is due from here on"
    )
    started_at = models.DateTimeField(null=True, help_text="its first start")
    fence = models.PositiveIntegerField(db_default=0, help_text="of the claim that may write")
    lease_until = models.DateTimeField(null=True, help_text="another worker may take over after")
    takeovers = models.SmallIntegerField(
        db_default=0, help_text="claims in a row whose worker was lost"
    )

    # One of the registry's route_names(): no choices, a new venue is no migration.
    venue = models.CharField(max_length=48, blank=True, db_default="")
    expected_amount_out = base_units(null=True)
    min_amount_out = base_units(null=True)
    amount_out = base_units(null=True)
    fee = base_units(null=True)
    fee_token = models.CharField(max_length=16, blank=True, db_default="")
    price_impact = models.DecimalField(max_digits=12, decimal_places=10, null=True)
    tx_hash = models.CharField(max_length=88, blank=True, db_default="")
    failure_code = models.CharField(max_length=32, choices=FailureCode, blank=True, db_default="")
    failure_message = models.TextField(blank=True, db_default="")

    request_id = models.CharField(
        max_length=64, blank=True, db_default="", help_text="of the request that placed it"
    )
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())
    completed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "client_order_id"],
                condition=Q(client_order_id__isnull=False),
                nulls_distinct=False,
                name="one_order_per_client_order_id",
            ),
            models.CheckConstraint(
                condition=holds("orders_status_fits", "status", "lease_until", "completed_at"),
                name="status_fits",
            ),
            models.CheckConstraint(condition=Q(amount_in__gt=0), name="positive_amount"),
            models.CheckConstraint(condition=~Q(token_in=F("token_out")), name="different_tokens"),
        ]
        indexes = [
            models.Index(fields=["id"], name="waiting", condition=Q(status=Status.PENDING)),
            models.Index(
                fields=["id"],
                name="waiting_retry",
                condition=Q(status=Status.PENDING, started_at__isnull=False),
            ),
            models.Index(fields=["id"], name="in_execution", condition=Q(status__in=IN_EXECUTION)),
            models.Index(
                fields=["deadline_at"],
                name="waiting_deadline",
                condition=Q(status=Status.PENDING, deadline_at__isnull=False),
            ),
            models.Index(
                fields=["-started_at"], name="starts", condition=Q(started_at__isnull=False)
            ),
            # Those of the lists, see pages.py.
            models.Index(fields=["owner", "id"], name="by_owner"),
            models.Index(
                fields=["owner", "order_type", "status", "venue", "token_in", "token_out", "id"],
                name="by_kind",
            ),
            models.Index(fields=["tx_hash"], name="by_tx_hash", condition=~Q(tx_hash="")),
            # Of activity.py.
            models.Index(
                fields=["owner", "completed_at"],
                name="completed",
                condition=Q(completed_at__isnull=False),
            ),
            # Of the admin's list, for what is rare among all orders.
            models.Index(
                fields=["status", "id"],
                name="not_confirmed",
                condition=Q(status__in=NOT_CONFIRMED),
            ),
        ]

    def __str__(self) -> str:
        return self.id

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> "Order":
        """From the columns this code knows: a newer release may have added some."""
        return cls.from_db(None, cls.columns(), [row[name] for name in cls.columns()])

    @classmethod
    @cache
    def columns(cls) -> tuple[str, ...]:
        return tuple(field.attname for field in cls._meta.concrete_fields)


class OrderEvent(models.Model):
    """One step of an order: 1, 2, 3 … without gap, written together with the order's status."""

    pk = models.CompositePrimaryKey("order_id", "seq")
    order = models.ForeignKey(Order, models.CASCADE, related_name="events", db_index=False)
    seq = models.PositiveIntegerField()
    status = models.CharField(max_length=16, choices=Status)
    previous_status = models.CharField(max_length=16, choices=Status, blank=True)
    attempt = models.PositiveSmallIntegerField()
    created_at = models.DateTimeField()
    data = models.JSONField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=holds("orders_legal_move", "seq", "previous_status", "status"),
                name="legal_move",
            ),
        ]


class Swap(models.Model):
    """A signed transaction of an order. The bytes are stored before they are sent."""

    class State(models.TextChoices):
        LIVE = "live"  # may still land; its order's worker asks the chain
        LANDED = "landed"  # executed; final
        DEAD = "dead"  # can never land; final

    signature = models.CharField(primary_key=True, max_length=88)
    order = models.ForeignKey(Order, models.CASCADE, related_name="swaps", db_index=False)
    attempt = models.PositiveSmallIntegerField()
    venue = models.CharField(max_length=48)
    transaction = models.BinaryField()
    last_valid_block_height = models.BigIntegerField()
    state = models.CharField(max_length=8, choices=State, db_default=State.LIVE)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["order", "attempt"], name="one_swap_per_attempt"),
            models.UniqueConstraint(
                fields=["order"],
                condition=~Q(state="dead"),
                name="one_swap_that_can_land",
            ),
        ]


class Measure(models.Model):
    """What measures.py counts, kept in shards as the tally is."""

    pk = models.CompositePrimaryKey("name", "le", "shard")
    name = models.CharField(max_length=16)  # a stage of orders, or what is counted
    le = models.FloatField()  # took at most so many seconds, and more than the next lower bound
    shard = models.PositiveSmallIntegerField()
    count = models.BigIntegerField()
    seconds = models.FloatField()  # that they took together


class Tally(models.Model):
    """How many orders there are and how many ended how, kept in shards by backend.

    A shard per backend process lets concurrent transactions count without waiting for each other;
    the sum over a kind is exact.
    """

    pk = models.CompositePrimaryKey("kind", "shard")
    kind = models.CharField(max_length=16)  # "placed", or a terminal status
    shard = models.PositiveSmallIntegerField()
    count = models.BigIntegerField()


class ApiKey(models.Model):
    """What a program signs in with. The key itself is not kept: `keys.py` makes and checks it."""

    prefix = models.CharField(max_length=8, unique=True, help_text="the part that is shown")
    digest = models.CharField(max_length=64, editable=False)  # SHA-256 of the whole key, in hex
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    label = models.CharField(max_length=64, blank=True, help_text="what it is for")
    created_at = models.DateTimeField(db_default=Now())
    last_used_at = models.DateTimeField(null=True, help_text="to the minute")
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "API key"

    def __str__(self) -> str:
        return self.prefix


class Ticket(models.Model):
    """Opens one WebSocket, once, for a browser: it cannot send an Authorization header."""

    digest = models.CharField(primary_key=True, max_length=64)  # SHA-256 of the ticket, in hex
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, null=True, db_index=False)
    key = models.ForeignKey(ApiKey, models.CASCADE, null=True, db_index=False)
    session_key = models.CharField(max_length=40, db_default="")  # of that which got it, if any
    expires_at = models.DateTimeField(db_index=True)


class Halt(models.Model):
    """From when to when trading was halted, and who said so. `trading.py` writes it."""

    halted_at = models.DateTimeField()
    halted_by = models.CharField(max_length=150)  # a user's name: it outlives the user
    reason = models.CharField(max_length=200, blank=True)
    resumed_at = models.DateTimeField(null=True)
    resumed_by = models.CharField(max_length=150, blank=True, db_default="")

    class Meta:
        verbose_name = "trading halt"
        constraints = [
            models.UniqueConstraint(
                fields=["resumed_at"],
                condition=Q(resumed_at__isnull=True),
                nulls_distinct=False,
                name="one_open_halt",
            ),
        ]

    def __str__(self) -> str:
        return f"halt of {self.halted_at:%Y-%m-%d %H:%M:%S}"
