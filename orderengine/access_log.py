"""Daphne's access log, where it is switched on, without the tickets in addresses."""

from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus

from daphne.access import AccessLogGenerator

WITH_TICKETS = AccessLogGenerator.write_entry


def keep_tickets_out() -> None:
    """From now on, of every access log of this process."""
    AccessLogGenerator.write_entry = write_entry


def write_entry(log: Any, host: str, date: datetime, request: str, **more: Any) -> None:
    WITH_TICKETS(log, host, date, without_ticket(request), **more)


def without_ticket(request: str) -> str:
    """The whole query goes, if any part of it may be a ticket however it is written."""
    path, _, query = request.partition("?")
    return f"{path}?..." if "ticket" in unquote_plus(query).lower() else request
