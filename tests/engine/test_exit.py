"""What a process leaves when it ends."""

import subprocess
import sys
from pathlib import Path

import pytest

POOLS = """
import atexit, os

def report():  # the first to be registered is the last to be called
    print(database.pool().closed, django_pool.closed)

atexit.register(report)
os.environ["DJANGO_SETTINGS_MODULE"] = "orderengine.settings"
import django
django.setup()
from django.db import connection
from orders import database
database.now()
with connection.cursor() as cursor:
    cursor.execute("SELECT 1")
django_pool = connection.pool
connection.close()
print(database.pool().closed, django_pool.closed)
"""


@pytest.mark.usefixtures("django_db_setup")
def test_the_pools_are_closed_while_their_threads_can_run() -> None:
    """From Python 3.13 on a pool that is not waits 5 s for each of them."""
    ended = subprocess.run(
        [sys.executable, "-c", POOLS],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (ended.stdout.split("\n"), ended.stderr) == (["False False", "True True", ""], "")
