"""What the processes of a stack use: seconds of processor and MiB of memory, by what they do."""

import re
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]

# The first that occurs in a command line; `up` starts all the others and shows their logs.
ROLES = {
    "celery": "worker",
    "dispatcher": "dispatcher",
    "daphne": "web",
    "uvicorn": "web",
    "nginx": "front",
    "haproxy": "front",
    "redis-server": "redis",
    "postgres": "postgres",
    " up": "supervisor",
}
NAMES = ("web", "front", "worker", "dispatcher", "postgres", "redis", "supervisor")


def role(command: str) -> str:
    return next((name for part, name in ROLES.items() if part in command), "")


class Usage:
    """The processes below `pid`, by role. A process has the role of the one that started it,
    unless it has one of its own."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)

    def processes(self) -> dict[int, tuple[str, psutil.Process]]:
        found: dict[int, tuple[str, psutil.Process]] = {}
        for process in [self._root, *self._root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                own = role(" ".join(process.cmdline()))
                found[process.pid] = (own or found.get(process.ppid(), ("",))[0], process)
        return found

    def cpu(self) -> Counter[str]:
        """Seconds so far, of those that have ended too; to 10 ms."""
        seconds: Counter[str] = Counter()
        for name, process in self.processes().values():
            with suppress(psutil.NoSuchProcess):
                seconds[name] += sum(process.cpu_times()[:4])
        return seconds

    def pause(self, name: str) -> None:
        for process in self.of(name):
            process.suspend()

    def go_on(self, name: str) -> None:
        for process in self.of(name):
            process.resume()

    def of(self, name: str) -> list[psutil.Process]:
        return [process for found, process in self.processes().values() if found == name]

    def memory(self) -> dict[str, tuple[float, float]]:
        """RSS and PSS in MiB; those of PostgreSQL only where this user may read them."""
        kib: dict[str, list[int]] = {}
        for name, process in self.processes().values():
            with suppress(OSError):
                text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                total = kib.setdefault(name, [0, 0])
                for n, field in enumerate(("Rss", "Pss")):
                    total[n] += int(re.findall(rf"^{field}: +(\d+)", text, re.MULTILINE)[0])
        return {name: (rss / 1024, pss / 1024) for name, (rss, pss) in kib.items()}
