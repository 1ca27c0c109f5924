"""`manage.py reconcile`: what must hold in the database, and what breaks it."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand
from psycopg.rows import dict_row

from orders import database
from orders.management import asking
from orders.management.tables import table
from orders.reconcile import CHAIN, Finding, examine

HEADINGS = ("invariant", "violations", "promise, and examples of what breaks it")


class Command(BaseCommand):
    help = (
        "Checks what must hold in the database at any moment. Reads only; may run beside the "
        "engine. Exit code 0 if all holds, 1 if not, 2 if the database does not answer. The "
        "limits are those set now: an earlier, higher one shows as broken."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="for a program to read")

    def handle(self, *_: Any, **options: Any) -> None:
        with asking.of_the_database():
            findings, orders = look()
        self.stdout.write(as_json(findings, orders) if options["json"] else text(findings, orders))
        if any(finding.violations for finding in findings):
            sys.exit(1)


def look() -> tuple[list[Finding], int]:
    """The findings and the number of orders.

    On a connection of its own: the engine's give up on a statement long before it has read all
    there is.
    """
    with psycopg.connect(database.conninfo(), autocommit=True, row_factory=dict_row) as conn:
        conn.execute("SET statement_timeout = '60s'")

        def fetch(sql: str, params: dict[str, Any]) -> list[database.Row]:
            return conn.execute(sql, params).fetchall()

        findings = examine(
            fetch, concurrency=settings.QUEUE_CONCURRENCY, starts=settings.QUEUE_RATE_LIMIT
        )
        return findings, fetch("SELECT count(*) AS n FROM orders_order", {})[0]["n"]


def left_out(findings: list[Finding]) -> list[str]:
    """Names of the invariants that this database cannot be asked for."""
    known = {finding.invariant for finding in findings}
    return [invariant.name for invariant in CHAIN if invariant not in known]


def as_json(findings: list[Finding], orders: int) -> str:
    return json.dumps(
        {
            "ok": not any(finding.violations for finding in findings),
            "orders": orders,
            "invariants": [
                {
                    "name": finding.invariant.name,
                    "promise": finding.invariant.promise,
                    "violations": finding.violations,
                    "examples": finding.examples,
                }
                for finding in findings
            ],
            "leftOut": left_out(findings),
        },
        indent=2,
    )


def text(findings: list[Finding], orders: int) -> str:
    """The table, what was left out, and the verdict as the last line."""
    rows = [HEADINGS]
    for finding in findings:
        rows.append((finding.invariant.name, str(finding.violations), finding.invariant.promise))
        rows.extend(("", "", example) for example in finding.examples)
    lines = [table(rows)]
    if names := left_out(findings):
        lines.append(f"left out, as there is no table chain.transaction: {', '.join(names)}")
    return "\n".join([*lines, verdict(findings, orders)])


def verdict(findings: list[Finding], orders: int) -> str:
    broken = [finding.invariant.name for finding in findings if finding.violations]
    if broken:
        return f"broken: {', '.join(broken)} ({len(broken)} of {len(findings)} invariants)"
    return f"ok: {len(findings)} invariants hold for {orders} orders"
