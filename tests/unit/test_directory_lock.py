"""The lock of a data directory: held by one process, for as long as that lives."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from orderengine.files import data_dir_secrets, take_lock

HOLD = """
import pathlib, subprocess, sys
from orderengine.files import take_lock
lock = take_lock(pathlib.Path(sys.argv[1]))
child = subprocess.Popen(["sleep", "60"], close_fds=False)
print(child.pid, flush=True)
child.wait()
"""


def test_a_lock_is_its_holder_s_until_that_is_killed_and_not_his_children_s(tmp_path: Path) -> None:
    path = tmp_path / "new" / "stack.lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        child = psutil.Process(int(holder.stdout.readline()))
        try:
            with pytest.raises(BlockingIOError):
                take_lock(path)

            holder.kill()
            holder.wait()

            assert child.is_running()
            take_lock(path).close()
        finally:
            child.kill()


def test_a_link_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "port.lock").symlink_to(tmp_path / "victim")

    with pytest.raises(OSError, match="symbolic"):
        take_lock(tmp_path / "port.lock")

    assert not (tmp_path / "victim").exists()


def test_the_secrets_of_a_directory_are_drawn_once_and_for_its_owner_only(tmp_path: Path) -> None:
    drawn = data_dir_secrets(tmp_path)

    assert data_dir_secrets(tmp_path) == drawn
    assert (tmp_path / "secrets.env").stat().st_mode & 0o077 == 0


def test_a_secret_that_a_directory_has_not_is_drawn_and_leaves_the_others(tmp_path: Path) -> None:
    before = data_dir_secrets(tmp_path)
    path = tmp_path / "secrets.env"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))  # of a release before

    after = data_dir_secrets(tmp_path)

    assert {name for name in before if before[name] != after[name]} == {"OPERATOR_PASSWORD"}
    assert data_dir_secrets(tmp_path) == after
