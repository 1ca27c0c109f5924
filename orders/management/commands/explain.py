"""`manage.py explain ord_…`: why an order went where it went, worked out again."""

import sys
from argparse import ArgumentParser
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from dex import tokens
from dex.venues.registry import label_of
from orders import database, render
from orders.explain import Explanation, explain
from orders.management import asking
from orders.management.tables import quotes_table, table
from orders.models import Order

ANY_EVENT = "SELECT seq FROM orders_orderevent WHERE order_id = %(id)s LIMIT 1"


class Command(BaseCommand):
    help = (
        "Prints the quotes, the route, the transaction and the fill of an order, works all of it "
        "out again from the seed and says whether it matches. Exit code 0 if it does, 1 if not, "
        "2 if there is no such order or the database does not answer."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("order_id", metavar="ord_…")

    def handle(self, *_: Any, order_id: str, **__: Any) -> None:
        with asking.of_the_database():
            found = database.row("SELECT * FROM orders_order WHERE id = %(id)s", {"id": order_id})
            if found is None:
                raise CommandError(f"there is no order {order_id}", returncode=2)
            order = Order.of_row(found)
            explanations = explain(order)
            kept = explanations or database.row(ANY_EVENT, {"id": order.id})
        self.stdout.write(heading(order))
        for explanation in explanations:
            self.stdout.write(text(order, explanation))
        differing = [part for explanation in explanations for part in explanation.differences]
        self.stdout.write(verdict(explanations, differing, kept=bool(kept)))
        if differing:
            sys.exit(1)


def heading(order: Order) -> str:
    wanted = f"{render.amount(order.token_in, order.amount_in)} {order.token_in}"
    slippage = render.plain(Decimal(order.slippage_bps) / 100)
    return f"{order.id}  {order.status}\n{wanted} into {order.token_out}, slippage {slippage} %"


def text(order: Order, explanation: Explanation) -> str:
    """What was stored; the differences follow, one a line."""
    stored = explanation.stored
    lines = [
        f"\nattempt {explanation.attempt}, strategy {stored.get('strategy')}",
        quotes_table(order.token_out, stored["quotes"]),
        f"{stored['reason']['code']}: {stored['reason']['text']}",
    ]
    if explanation.transaction is not None:
        lines.append(transaction(order, explanation))
    if explanation.filled is not None:
        filled = tokens.BY_SYMBOL[order.token_out]
        amount = tokens.format_fixed(filled, explanation.filled)
        lines.append(f"fill: these bytes return {amount} {order.token_out}")
    return "\n".join([*lines, *(f"DIFFERS  {line}" for line in explanation.differences)])


def transaction(order: Order, explanation: Explanation) -> str:
    """The legs, as the signed bytes have them."""
    decoded = explanation.transaction
    if decoded is None:
        raise AssertionError("no transaction")
    token_in, token_out = tokens.BY_SYMBOL[order.token_in], tokens.BY_SYMBOL[order.token_out]
    rows = [
        (
            f"  {label_of(swap.program_id)}",
            f"{tokens.format_amount(token_in, swap.amount_in)} {token_in.symbol}",
            f"at least {tokens.format_amount(token_out, swap.min_amount_out)} {token_out.symbol}",
        )
        for swap in decoded.swaps
    ]
    count = f"{len(rows)} swap" + ("s in one transaction" if len(rows) > 1 else "")
    memo = f"memo {decoded.order_id}:{decoded.attempt}"
    return "\n".join([f"tx {decoded.signature}\n  signature good, {count}, {memo}", table(rows)])


def verdict(explanations: list[Explanation], differing: list[str], *, kept: bool) -> str:
    """`kept`: its events are."""
    if not kept:
        return "\nits events were dropped (manage.py partitions retain), and its route with them"
    if not explanations:
        return "\nit was never routed"
    if differing:
        count = len(differing)
        return f"\ndoes not match: {count} differences; are DEX_SEED and the venues those of then?"
    if live := {venue for explanation in explanations for venue in explanation.live}:
        return f"\nnot worked out again: the quotes of {', '.join(sorted(live))}, a live venue"
    return "\nmatches: quotes, route, transaction and fill come out the same again"
