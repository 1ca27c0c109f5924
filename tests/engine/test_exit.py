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


SIGNALS = """
import signal
import django
django.setup()
from orders import execution, loop
from orders.dispatcher import Dispatcher
one = Dispatcher()
one.stop()
loop.soon(lambda: None)  # a worker has one
signal.signal(signal.SIGALRM, lambda *_: {stop}())
signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
for _ in range({times}):
    execution.leaving.clear()
    {stop}()
signal.setitimer(signal.ITIMER_REAL, 0)
one.run()
"""


@pytest.mark.parametrize(
    ("stop", "times"),
    [("one.stop", 300_000), ("execution.leave", 30_000)],
)
def test_a_signal_that_comes_while_another_is_handled_is_no_hang(stop: str, times: int) -> None:
    """Ctrl-C reaches a process from the terminal and from its supervisor; `timeout` sends two."""
    program = SIGNALS.format(stop=stop, times=times)

    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False
    )

    assert (ended.returncode, ended.stderr) == (0, "")
