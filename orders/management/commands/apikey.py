"""`manage.py apikey create|list|revoke`: the keys that programs sign in with."""

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from orders import keys
from orders.management.tables import table
from orders.models import ApiKey
from orders.parsing import printable

HEADINGS = ("prefix", "owner", "created", "last used", "revoked", "label")


class Command(BaseCommand):
    help = "API keys. A key is shown once, when it is created; afterwards only its prefix is known."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="print a new key of a user")
        create.add_argument("username")
        create.add_argument("--label", default="", help="what it is for")
        create.add_argument(
            "--new-user", action="store_true", help="make the user too, without a password"
        )
        actions.add_parser("list", help="every key, by its prefix")
        revoke = actions.add_parser("revoke", help="refuse a key from now on")
        revoke.add_argument("prefix")

    def handle(self, *_: Any, action: str, **options: Any) -> None:
        match action:
            case "create":
                self.create(options["username"], options["label"], options["new_user"])
            case "list":
                self.list()
            case "revoke":
                self.revoke(options["prefix"])

    def create(self, username: str, label: str, new_user: bool) -> None:
        if new_user and not User.objects.filter(username=username).exists():
            make_user(username)
        user = User.objects.filter(username=username, is_active=True).first()
        if user is None:
            raise CommandError(
                f"there is no active user {username}: make one with --new-user or in /admin/"
            )
        self.stderr.write("This key is not shown again:")
        self.stdout.write(keys.create(user.pk, label[:64]))

    def list(self) -> None:
        rows: list[tuple[str, ...]] = [HEADINGS]
        for key in ApiKey.objects.select_related("owner").order_by("created_at"):
            times = map(minute, (key.created_at, key.last_used_at, key.revoked_at))
            rows.append((key.prefix, key.owner.get_username(), *times, printable(key.label)))
        self.stdout.write(table(rows))

    def revoke(self, prefix: str) -> None:
        # Somebody may paste the whole key.
        short = prefix.removeprefix("oee_")[:8]
        if not keys.revoke(short):
            raise CommandError(f"there is no key {short}")
        self.stdout.write(f"{short} is refused within {keys.TRUST_SECONDS:g} s")


def make_user(username: str) -> None:
    """Without a password. Raises CommandError for what is no name."""
    user = User(username=username)
    user.set_unusable_password()
    try:
        user.full_clean()
    except ValidationError as error:
        raise CommandError(f"username {username!r}: {' '.join(error.messages)}") from None
    user.save()


def minute(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "-"
