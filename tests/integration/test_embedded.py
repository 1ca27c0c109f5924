"""The embedded PostgreSQL and Redis: real processes, each test in a directory of its own."""

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
import redis
from psycopg.types.json import Jsonb

from orderengine.embedded import EmbeddedError, Postgres, Redis, Stack
from orderengine.embedded import redis as redis_module
from orderengine.files import read_env
from orders import placement
from tests.factories import order_request
from tests.stacks import MANAGE, ROOT, wait_until

pytestmark = pytest.mark.fleet


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory that the account of PostgreSQL can reach when the tests run as root."""
    path = Path(tempfile.mkdtemp(prefix="embedded-"))
    yield path
    for process in processes_of(path):
        process.kill()
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="embedded-") as shared_dir:
        server = Postgres(Path(shared_dir))
        yield server
        server.stop()


@pytest.fixture
def postgres(cluster: Postgres) -> Postgres:
    """A running PostgreSQL; a test may stop or kill it, the next one starts it again."""
    cluster.start()
    return cluster


@pytest.fixture
def redis_server(data_dir: Path) -> Iterator[Redis]:
    server = Redis(data_dir)
    server.start()
    yield server
    server.stop()


def processes_of(data_dir: Path) -> list[psutil.Process]:
    """The live processes with this directory on their command line or as their home."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd", "status"]):
        places = [*(process.info["cmdline"] or []), process.info["cwd"] or ""]
        if process.info["status"] != psutil.STATUS_ZOMBIE:
            found += [process] if any(str(data_dir) in place for place in places) else []
    return found


def number_in(server: Postgres) -> int:
    with psycopg.connect(server.url) as connection:
        return int(connection.execute("SELECT number FROM kept").fetchall()[0][0])


def keep_number(server: Postgres, number: int) -> None:
    with psycopg.connect(server.url) as connection:
        connection.execute("DROP TABLE IF EXISTS kept")
        connection.execute("CREATE TABLE kept (number int)")
        connection.execute("INSERT INTO kept VALUES (%s)", [number])


def test_postgres_is_durable_utf8_and_utc(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url) as connection:
        row = connection.execute(
            "SELECT current_setting('fsync'), current_setting('synchronous_commit'),"
            " current_setting('server_encoding'), current_setting('timezone'), datlocale"
            " FROM pg_database WHERE datname = current_database()"
        ).fetchone()

    assert row == ("on", "on", "UTF8", "UTC", "C.UTF-8")


def test_postgres_wants_its_password(postgres: Postgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.url.replace(postgres.secrets["POSTGRES_PASSWORD"], "guess"))


def test_servers_listen_on_loopback_only(postgres: Postgres, redis_server: Redis) -> None:
    for server in (postgres, redis_server):
        assert server.process is not None
        connections = psutil.Process(server.process.pid).net_connections("all")
        listening = {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
        unix = [c for c in connections if c.family == socket.AF_UNIX and c.laddr]
        assert (listening, unix) == ({"127.0.0.1"}, [])


def test_settings_are_added_to_those_of_postgres(postgres: Postgres) -> None:
    postgres.stop()
    server = Postgres(postgres.data_dir, {"max_connections": "17"})
    server.start()
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SHOW max_connections").fetchone() == ("17",)
    server.stop()


def test_data_password_and_port_survive_a_restart(postgres: Postgres) -> None:
    keep_number(postgres, 42)
    url = postgres.url
    postgres.stop()

    again = Postgres(postgres.data_dir)
    again.start()
    assert again.url == url
    assert number_in(again) == 42
    again.stop()


def test_killed_postgres_starts_again_on_its_port_with_its_data(postgres: Postgres) -> None:
    keep_number(postgres, 7)
    url = postgres.url
    with psycopg.connect(url):  # a backend that outlives the postmaster by a moment
        assert postgres.process is not None
        postgres.process.kill()
        postgres.process.wait()
        wait_until(lambda: start_succeeds(postgres))

    assert postgres.url == url
    assert number_in(postgres) == 7


def start_succeeds(server: Postgres) -> bool:
    """False while what the dead postmaster left is still going away."""
    try:
        server.start()
    except EmbeddedError:
        return False
    return True


def test_killed_redis_starts_again_on_its_port(redis_server: Redis) -> None:
    url = redis_server.url
    assert redis_server.process is not None
    redis_server.process.kill()
    redis_server.process.wait()

    redis_server.start()

    assert redis_server.url == url
    with redis.Redis.from_url(url) as client:
        assert client.ping()


def test_two_stacks_run_side_by_side(data_dir: Path, postgres: Postgres) -> None:
    other = Postgres(data_dir)
    other.start()
    keep_number(postgres, 1)
    keep_number(other, 2)

    assert (number_in(postgres), number_in(other)) == (1, 2)
    other.stop()


def test_second_stack_in_one_directory_is_refused(postgres: Postgres, redis_server: Redis) -> None:
    assert postgres.process is not None
    with pytest.raises(EmbeddedError, match=f"already running.*pid {postgres.process.pid}.*DATA_D"):
        Postgres(postgres.data_dir).start()
    with pytest.raises(EmbeddedError, match=f"already running.*port {redis_server.port}.*DATA_DIR"):
        Redis(redis_server.data_dir).start()

    psycopg.connect(postgres.url).close()  # the first one took no harm


def test_a_server_that_was_never_started_cleans_up_after_no_other(data_dir: Path) -> None:
    lock_file = data_dir / "postgres" / "postmaster.pid"
    lock_file.parent.mkdir()
    lock_file.touch()  # the other one is about to write it

    Postgres(data_dir).stop()

    assert lock_file.exists()


def test_lock_file_of_a_dead_server_is_no_hindrance(postgres: Postgres) -> None:
    postgres.stop()
    stale = f"{os.getpid()}\n{postgres.home}\n0\n1\n\n127.0.0.1\n"  # a live pid, another program
    (postgres.home / "postmaster.pid").write_text(stale)

    again = Postgres(postgres.data_dir)
    again.start()
    again.stop()


def test_it_starts_on_another_port_where_none_is_known_and_speaks_no_tls(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data_dir / "postgres.port").write_text("abc")
    monkeypatch.setenv("PGSSLMODE", "require")  # of the servers that its user has elsewhere

    server = Postgres(data_dir)
    server.start()
    psycopg.connect(server.url).close()
    server.stop()


def test_interrupted_initdb_is_begun_anew(data_dir: Path) -> None:
    (data_dir / "postgres.new").mkdir()
    (data_dir / "postgres.new" / "PG_VERSION").write_text("18\n")

    server = Postgres(data_dir)
    server.start()
    server.stop()


def test_stop_leaves_nothing_but_data(data_dir: Path) -> None:
    stack = Stack(data_dir, {})
    stack.start()
    with psycopg.connect(stack.env["DATABASE_URL"]):  # an open session does not hold it up
        begun = time.monotonic()
        stack.stop()

    assert time.monotonic() - begun < 3
    assert processes_of(data_dir) == []
    assert not (data_dir / "postgres" / "postmaster.pid").exists()
    assert not (data_dir / "stack.env").exists()


def test_server_that_ignores_the_request_is_killed(postgres: Postgres) -> None:
    assert postgres.process is not None
    postgres.process.send_signal(19)  # SIGSTOP: it can answer nothing

    postgres.stop(timeout=0.1)

    assert postgres.process.poll() == -9
    assert not (postgres.home / "postmaster.pid").exists()
    postgres.start()


def test_stack_tells_where_it_is_to_its_owner_only(data_dir: Path) -> None:
    stack = Stack(data_dir, {"DEX_SEED": "7"})
    stack.start()
    told = read_env(data_dir / "stack.env")
    mode = stat.S_IMODE((data_dir / "stack.env").stat().st_mode)
    stack.stop()

    assert told == stack.env
    assert (told["DEX_SEED"], told["DEBUG"], mode) == ("7", "true", 0o600)
    assert stat.S_IMODE((data_dir / "secrets.env").stat().st_mode) == 0o600


def test_servers_that_are_named_are_not_started(data_dir: Path) -> None:
    stack = Stack(data_dir, {"DATABASE_URL": "postgres://a@b/c", "REDIS_URL": "redis://b"})

    stack.start()

    assert stack.servers == []
    assert stack.env["DATABASE_URL"] == "postgres://a@b/c"
    assert stack.env["DEBUG"] == "false"
    assert not (data_dir / "stack.env").exists()  # nobody else is to use those
    stack.stop()


def made(data_dir: Path) -> None:
    """Leaves a database that may be damaged."""
    server = Postgres(data_dir)
    server.start()
    server.stop()


def test_secrets_that_do_not_fit_the_database_are_told_in_one_line(data_dir: Path) -> None:
    made(data_dir)
    (data_dir / "secrets.env").unlink()

    with pytest.raises(EmbeddedError, match=r"another password than .*secrets\.env"):
        Postgres(data_dir).start()


def test_broken_database_is_told_with_the_line_of_its_log(data_dir: Path) -> None:
    made(data_dir)
    (data_dir / "postgres" / "global" / "pg_control").unlink()

    with pytest.raises(EmbeddedError, match=r"postgres did not start: .*pg_control.*postgres\.log"):
        Postgres(data_dir).start()
    assert processes_of(data_dir) == []


def test_missing_redis_is_told_in_one_line(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_module, "wheel_folder", lambda _: Path(os.devnull))
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(EmbeddedError, match=r"^no redis-server or valkey-server on PATH"):
        Redis(data_dir).start()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_servers_end_with_the_process_that_started_them(data_dir: Path) -> None:
    script = (
        "import pathlib, time; from orderengine.embedded import Stack;"
        f"Stack(pathlib.Path({str(data_dir)!r}), {{}}).start(); print('up', flush=True);"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        parent.kill()

    wait_until(lambda: not processes_of(data_dir))


def test_a_batch_is_answered_in_its_order_in_any_language(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Czech letters come before digits."""
    czech = data_dir / "languages" / "cs_CZ.UTF-8"
    czech.parent.mkdir()
    made = ["localedef", "-i", "cs_CZ", "-f", "UTF-8", str(czech)]
    if not shutil.which("localedef") or subprocess.run(made, check=False).returncode:
        assert "CI" not in os.environ  # .ci/run installs them
        pytest.skip("needs the sources of languages: apt-get install locales")
    monkeypatch.setenv("LOCPATH", str(czech.parent))
    server = Postgres(data_dir)
    server.start()
    with psycopg.connect(server.url, autocommit=True) as conn:
        conn.execute(
            "CREATE DATABASE elsewhere TEMPLATE template0 LOCALE_PROVIDER libc LOCALE 'cs_CZ.UTF-8'"
        )
    url = urlsplit(server.url)._replace(path="/elsewhere").geturl()
    env = {**os.environ, "DATABASE_URL": url}
    subprocess.run([*MANAGE, "migrate", "-v0"], cwd=ROOT, env=env, check=True)

    requests = [order_request(client_order_id=f"c{number}") for number in range(50)]
    with psycopg.connect(url, autocommit=True) as conn:
        first, again = (
            (wanted, conn.execute(placement.PLACE, {"owner_id": None, "wanted": Jsonb(wanted)}))
            for wanted in (placement.wanted(requests, [{}] * 50) for _ in range(2))
        )

    suffixes = [one["suffix"] for one in first[0]]
    placed = [row[0] for row in first[1].fetchall()]
    assert [order_id[placement.SUFFIX :] for order_id in placed] == suffixes
    assert [row[0] for row in again[1].fetchall()] == placed
    server.stop()
