"""`manage.py up` from outside: what it prints, what it restarts, what it leaves behind."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from orderengine.embedded.server import free_port
from orderengine.management.commands.demo import healthy
from tests.stacks import ROOT, wait_until

pytestmark = pytest.mark.fleet


@dataclass
class Up:
    """A stack in a directory and on a port of its own."""

    data_dir: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="up-")))
    port: int = field(default_factory=free_port)
    log: str = "up.log"
    options: tuple[str, ...] = ("--no-flower",)
    process: "subprocess.Popen[bytes] | None" = None

    def command(self, **extra: str) -> "subprocess.Popen[bytes]":
        """Runs `manage.py up` with its output in a file."""
        own = {
            "DATA_DIR": str(self.data_dir),
            "PORT": str(self.port),
            "DEBUG": "true",
            **dict.fromkeys(("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "ALLOWED_HOSTS"), ""),
        }
        with (self.data_dir / self.log).open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "manage.py", "up", *self.options],
                cwd=ROOT,
                env=os.environ | own | extra,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start(self, **extra: str) -> None:
        self.process = self.command(**extra)
        wait_until(lambda: "place an order" in self.output or not self.running(), 40)
        assert self.running(), self.output

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        if self.process is not None and self.running():
            self.process.terminate()
            self.process.wait(15)

    @property
    def output(self) -> str:
        return (self.data_dir / self.log).read_text()

    def child(self, words: str) -> psutil.Process | None:
        """The live child with these words on its command line."""
        for process in self.children():
            with suppress(psutil.Error):  # it ended in between
                if words in " ".join(process.cmdline()):
                    return process
        return None

    def children(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def shared() -> Iterator[Up]:
    stack = Up()
    yield stack
    stop_and_remove(stack)


@pytest.fixture
def up(shared: Up) -> Up:
    """A running stack; a test may stop it, the next one starts it again."""
    if not shared.running():
        shared.start()
    return shared


@pytest.fixture
def not_started() -> Iterator[Up]:
    stack = Up()
    yield stack
    stop_and_remove(stack)


def stop_and_remove(stack: Up) -> None:
    stack.stop()
    shutil.rmtree(stack.data_dir, ignore_errors=True)


def test_banner_tells_where_everything_is_and_its_curl_line_works(up: Up) -> None:
    assert f"{up.url}/admin/" in up.output
    assert f"DATA_DIR={up.data_dir} PORT={up.port} " in up.output

    line = re.search(r"^ +(curl .*)$", up.output, re.MULTILINE)
    assert line is not None
    answer = subprocess.run(line[1], shell=True, capture_output=True, text=True, check=True)  # noqa: S602
    assert '"status":"pending"' in answer.stdout


@pytest.mark.parametrize(
    ("path", "policy"),
    [
        ("/health/live", "default-src 'none'"),
        ("/nope", "default-src 'none'"),
        ("/admin/login/", "default-src 'self'"),
        ("/static/orders/admin.css", "default-src 'none'"),
        ("/static/admin/css/base.css", "default-src 'none'"),
    ],
)
def test_every_answer_has_the_headers_for_browsers(up: Up, path: str, policy: str) -> None:
    answer = httpx.get(up.url + path, trust_env=False, headers={"Origin": "https://evil.example"})

    assert answer.status_code == (404 if path == "/nope" else 200)
    assert answer.headers["Content-Security-Policy"].startswith(policy)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "host", "status"),
    [
        ("GET", "/api/orders", "evil.example", 400),
        ("POST", "/api/orders/execute", "evil.example", 400),
        ("GET", "/", "evil.example", 400),
        ("GET", "/health/live", "a b", 400),
        ("GET", "/static/nope.css", "localhost", 404),
    ],
)
def test_a_refusal_has_the_one_shape_in_development_too(
    up: Up, method: str, path: str, host: str, status: int
) -> None:
    answer = httpx.request(method, up.url + path, trust_env=False, headers={"Host": host}, json={})

    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == status


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_far_too_long_is_refused_like_any_other(up: Up, chunked: bool) -> None:
    body = b" " * 20_000_000
    headers = {"Content-Type": "application/json"}

    answer = httpx.post(
        f"{up.url}/api/orders/execute",
        content=iter([body]) if chunked else body,
        headers=headers,
        trust_env=False,
        timeout=20,
    )

    assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")


def test_an_order_may_come_in_chunks(up: Up) -> None:
    parts = [b'{"tokenIn":"SOL","tokenOut":"USDC",', b'"amount":"1.5"}']
    headers = {"Content-Type": "application/json"}

    answer = httpx.post(
        f"{up.url}/api/orders/execute", content=iter(parts), headers=headers, trust_env=False
    )

    assert answer.status_code == 201, answer.text


def test_operator_can_log_in(up: Up) -> None:
    login = re.search(r"admin .* operator / (\S+)", up.output)
    assert login is not None

    wait_until(lambda: logs_in(up, login[1]), 10)


def logs_in(up: Up, password: str) -> bool:
    """False while the web process still finds out that its database was killed and is back."""
    with httpx.Client(base_url=up.url, trust_env=False) as client:
        token = re.search(
            r'name="csrfmiddlewaretoken" value="(\w+)"', client.get("/admin/login/").text
        )
        assert token is not None
        fields = {"username": "operator", "password": password, "csrfmiddlewaretoken": token[1]}
        answer = client.post("/admin/login/?next=/admin/", data=fields)
        return answer.status_code == 302


def test_whatever_is_killed_comes_back_and_the_user_is_told(up: Up) -> None:
    processes = ("celery", "daphne", "dispatcher", "postgres -D", "redis-server")
    first = {words: up.child(words) for words in processes}
    for process in first.values():
        assert process is not None
        process.kill()

    for words, killed in first.items():
        wait_until(lambda w=words, k=killed: up.child(w) not in {None, k}, 15)
    for name in ("worker", "web", "dispatcher", "postgres", "redis"):
        assert f"\n{name} died (killed by SIGKILL), restarting in 0.5 s\n" in up.output
    wait_until(lambda: healthy(up.url), 15)


def test_second_stack_in_the_same_directory_is_refused(up: Up) -> None:
    other = subprocess.run(
        [sys.executable, "manage.py", "up"],
        cwd=ROOT,
        env=os.environ
        | {"DATA_DIR": str(up.data_dir), "PORT": str(free_port())}
        | {"DEBUG": "true", "DATABASE_URL": "", "REDIS_URL": ""},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert other.returncode == 1
    assert f"a stack is already running in {up.data_dir}" in other.stderr
    assert len(other.stderr.splitlines()) == 1
    assert (up.data_dir / "stack.env").exists()


def refused_of(*stacks: Up) -> list[str]:
    """What the one says that does not run, of two that start at once."""
    for stack in stacks:
        stack.process = stack.command()
    wait_until(lambda: any("place an order" in stack.output for stack in stacks), 40)
    (refused,) = (stack for stack in stacks if not stack.running())
    return refused.output.splitlines()


def test_of_two_stacks_that_start_at_once_in_a_new_directory_one_runs(not_started: Up) -> None:
    rival = Up(not_started.data_dir, log="rival.log")
    try:
        assert refused_of(not_started, rival) == [
            f"CommandError: a stack is already running in {rival.data_dir}: stop it or set DATA_DIR"
        ]
    finally:
        rival.stop()


def test_of_two_stacks_that_start_at_once_on_one_port_one_runs(not_started: Up) -> None:
    rival = Up(port=not_started.port)
    try:
        assert refused_of(not_started, rival) == [
            f"CommandError: port {rival.port} on 127.0.0.1 is busy: free it, or set PORT"
        ]
    finally:
        stop_and_remove(rival)


def test_busy_port_is_told_in_one_line(not_started: Up) -> None:
    with closing(socket.create_server(("127.0.0.1", not_started.port))):
        process = not_started.command()
        assert process.wait(30) == 1

    assert not_started.output.splitlines() == [
        f"CommandError: port {not_started.port} on 127.0.0.1 is busy: free it, or set PORT"
    ]


def test_database_that_does_not_answer_is_told_in_one_line(not_started: Up) -> None:
    process = not_started.command(
        DATABASE_URL=f"postgres://user:secret@127.0.0.1:{free_port()}/orders",
        SECRET_KEY="k" * 25 + "0123456789" * 5,
    )
    assert process.wait(30) == 1

    assert len(not_started.output.splitlines()) == 1
    assert "DATABASE_URL does not work" in not_started.output
    assert "Connection refused" in not_started.output
    assert "secret" not in not_started.output


def test_directory_that_cannot_be_made_is_told_in_one_line(not_started: Up) -> None:
    process = not_started.command(DATA_DIR="/dev/null/data")
    assert process.wait(30) == 1

    assert len(not_started.output.splitlines()) == 1
    assert "/dev/null/data" in not_started.output


def test_sigterm_ends_everything_within_ten_seconds(up: Up) -> None:
    children = up.children()
    assert up.process is not None
    begun = time.monotonic()

    up.process.send_signal(signal.SIGTERM)

    assert up.process.wait(15) == 0
    assert time.monotonic() - begun < 10
    assert [child for child in children if child.is_running()] == []
    assert not (up.data_dir / "stack.env").exists()
    assert not (up.data_dir / "postgres" / "postmaster.pid").exists()
