"""PostgreSQL and Redis from wheels, for development and tests: nothing to install or configure."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import IO

from orderengine.embedded.postgres import Postgres
from orderengine.embedded.redis import Redis
from orderengine.embedded.server import EmbeddedError, Server
from orderengine.files import STACK_FILE, data_dir_secrets, take_lock, write_env

__all__ = ["EmbeddedError", "Postgres", "Redis", "Server", "Stack"]

# What an engine does is said by variables with these names: a command that looks at a stack has to
# know them, too.
ENGINE = ("QUEUE_", "ORDER_", "DEX_")


class Stack:
    """The servers that `environ` does not name, and the environment in which all are known.

    `environ` is what the user has set, not what another stack's file has told.
    """

    def __init__(self, data_dir: Path, environ: Mapping[str, str]) -> None:
        self.data_dir = data_dir.resolve()
        self.environ = environ
        self.postgres = None if self.environ.get("DATABASE_URL") else Postgres(self.data_dir)
        self.redis = None if self.environ.get("REDIS_URL") else Redis(self.data_dir)
        self._lock: IO[str] | None = None

    @cached_property
    def secrets(self) -> dict[str, str]:
        return data_dir_secrets(self.data_dir)

    @property
    def servers(self) -> list[Server]:
        """The embedded servers of this stack, in the order in which they start."""
        return [server for server in (self.postgres, self.redis) if server is not None]

    @property
    def env(self) -> dict[str, str]:
        """What every process of the stack is told; what the caller has set is kept."""
        known = {
            "DEBUG": "true" if self.servers else "false",
            "DATABASE_URL": self.postgres.url if self.postgres else "",
            "REDIS_URL": self.redis.url if self.redis else "",
            "SECRET_KEY": self.secrets["SECRET_KEY"],
            "DEX_SEED": self.secrets["DEX_SEED"],
            "FLOWER_BASIC_AUTH": f"operator:{self.secrets['OPERATOR_PASSWORD']}",
        }
        engine = {n: v for n, v in self.environ.items() if v and n.startswith(ENGINE)}
        return {name: self.environ.get(name) or value for name, value in known.items()} | engine

    def start(self) -> None:
        """Starts the servers and writes `stack.env`, by which other commands find them.

        Without servers of its own there is none: whoever set both URLs sets them for each command.
        Raises EmbeddedError, OSError; also while another stack has servers in the directory.
        """
        if self.servers:
            self._take_directory()
        try:
            for server in self.servers:
                server.start()
        except BaseException:
            self.stop(timeout=0)
            raise
        if self.servers:
            write_env(self.data_dir / STACK_FILE, self.env)

    def _take_directory(self) -> None:
        """The servers find one that runs already, but not one that is being prepared."""
        try:
            self._lock = take_lock(self.data_dir / "stack.lock")
        except BlockingIOError:
            raise EmbeddedError(
                f"a stack is already running in {self.data_dir}: stop it or set DATA_DIR"
            ) from None
        except OSError as error:
            raise EmbeddedError(
                f"{self.data_dir} cannot be used ({error.strerror}): set DATA_DIR to a directory "
                "that can be written"
            ) from None

    def stop(self, timeout: float = 5.0) -> None:
        """Stops the servers, each by force after `timeout` seconds, and removes `stack.env`."""
        if self._lock is not None:
            self._lock.close()  # a stack that comes now waits for the servers that are stopping
        try:
            for server in reversed(self.servers):
                server.stop(timeout)
        except KeyboardInterrupt:  # a second Ctrl-C: no more patience
            for server in reversed(self.servers):
                server.stop(timeout=0)
        if any(server.port for server in self.servers):
            (self.data_dir / STACK_FILE).unlink(missing_ok=True)
