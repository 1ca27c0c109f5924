"""What this machine's web server does with no engine behind it: nothing here can be faster."""

import asyncio
import signal
import subprocess

from orderengine import proxy
from orderengine.embedded.server import HOST, die_with_parent, free_port
from orderengine.management.commands.up import daphne
from tests.bench import load
from tests.bench.figures import Figures
from tests.bench.measures import EXECUTE, ORDER, Doses
from tests.bench.stack import ROOT, Target, until_answers


def server(profile: str, port: int) -> list[str]:
    if profile == "default":
        return daphne(port)
    return [*proxy.UVICORN, "--host", HOST, "--port", str(port)]


def measure(figures: Figures, doses: Doses, profile: str) -> None:
    port = free_port()
    process = subprocess.Popen(
        [*server(profile, port), "tests.bench.empty:application"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - nothing else runs here
    )
    target = Target(f"http://{HOST}:{port}")
    try:
        until_answers(target, "/", process)
        for _ in range(doses.runs):
            asyncio.run(posts(target, figures, doses))
    finally:
        process.terminate()
        process.wait()


async def posts(target: Target, figures: Figures, doses: Doses) -> None:
    post = load.request(target.base_url, EXECUTE, ORDER)
    for connections in (1, 16, 64):
        more = load.for_seconds(doses.load_seconds)
        done = await load.run(target.base_url, post, connections, more)
        figures.add(f"empty application, {connections} at once", done.per_second, "answers/s")
