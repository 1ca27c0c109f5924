"""`manage.py trading halt|resume|status`: what the buttons of the admin do."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from psycopg.errors import LockNotAvailable, QueryCanceled

from orders import trading
from orders.events import iso
from orders.models import Halt


class Command(BaseCommand):
    help = "Halt and resume trading. While it is halted no order is accepted and none starts."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        halt = actions.add_parser("halt", help="accept no order and start none from now on")
        halt.add_argument("--reason", default="", help="clients are told")
        resume = actions.add_parser("resume", help="accept and start orders again")
        for each in (halt, resume):
            each.add_argument("--by", default="manage.py", help="who says so, for the history")
        actions.add_parser("status", help="whether trading is halted, since when and by whom")

    def handle(self, *_: Any, action: str, by: str = "", **options: Any) -> None:
        match action:
            case "halt":
                try:
                    halted = trading.halt(by, options["reason"])
                except (QueryCanceled, LockNotAvailable):
                    told = "not halted: PostgreSQL was kept from it by another session; try again"
                    raise CommandError(told) from None
                if halted is None:
                    raise CommandError(sentence(trading.current()))
            case "resume":
                if trading.resume(by) is None:
                    raise CommandError("trading is not halted")
        self.stdout.write(sentence(trading.current()))


def sentence(halt: Halt | None) -> str:
    if halt is None:
        return "trading is open"
    reason = f": {halt.reason}" if halt.reason else ""
    return f"trading is halted since {iso(halt.halted_at)} by {halt.halted_by}{reason}"
