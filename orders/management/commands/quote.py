"""`manage.py quote SOL USDC 1.5`: what the venues would return now, and the route with its why."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rest_framework.exceptions import ValidationError

from orders import database, intake
from orders.management.asking import of_the_database
from orders.management.tables import quotes_table, table
from orders.problems import Problem, problem_of


class Command(BaseCommand):
    help = "Asks every venue for a quote and prints the route that would be taken. Stores nothing."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("token_in", help="symbol or mint of the token that is sold")
        parser.add_argument("token_out", help="symbol or mint of the token that is bought")
        parser.add_argument("amount", nargs="+", help="in whole tokens; each gets its own table")
        parser.add_argument("--slippage", default="0.01", help="a fraction, 0.01 by default")

    def handle(self, *_: Any, amount: list[str], **options: Any) -> None:
        for each in amount:
            body = {
                "tokenIn": options["token_in"],
                "tokenOut": options["token_out"],
                "amount": each,
                "slippage": options["slippage"],
            }
            try:
                answer = intake.quote(body)
            except (ValidationError, Problem) as error:
                problem = problem_of(error)
                if problem.status == 503:  # the simulated venues are where the orders are
                    with of_the_database():
                        database.row("SELECT 1", {})
                details = [f"{one.pointer.strip('/')}: {one.detail}" for one in problem.errors]
                raise CommandError("\n".join(details or [problem.detail])) from None
            heading = f"{each} {options['token_in']} into {options['token_out']}"
            self.stdout.write(f"{heading}\n{text(options['token_out'], answer)}\n")


def text(token_out: str, answer: dict[str, Any]) -> str:
    legs = [
        (
            f"  {leg['venue'].capitalize()}",
            leg["amountIn"],
            f"returns {leg['amountOut']}",
            f"at least {leg['minAmountOut']}",
        )
        for leg in answer["legs"]
    ]
    return "\n".join(
        [
            quotes_table(token_out, answer["quotes"]),
            f"route ({answer['strategy']}): {answer['reason']['code']}",
            f"  {answer['reason']['text']}",
            table(legs),
        ]
    )
