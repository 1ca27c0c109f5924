"""A terminal, or whatever reads what is said, that nobody waits for."""

import os
import threading
import time
from collections import deque
from contextlib import suppress
from io import UnsupportedOperation
from typing import TextIO

# What a reader who pauses finds when he goes on: some minutes of a busy stack.
KEPT = 4 * 1024 * 1024


class Screen:
    """Shows lines, from a thread of its own: a reader may pause (Ctrl-S, a pager) or have gone.

    What he has not read yet is kept up to KEPT characters. More is left out, and he is told so.
    """

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._lines: deque[str] = deque()
        self._kept = self._left_out = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def show(self, text: str) -> None:
        """One line or several; returns at once."""
        with self._changed:
            if self._kept > KEPT:
                self._left_out += text.count("\n") + 1
                return
            self._lines.append(text + "\n")
            self._kept += len(text) + 1
            self._changed.notify_all()
            if self._thread is None:
                # At the end of the program nobody waits for it: it may be in the middle of a write.
                self._thread = threading.Thread(target=self._write_all, daemon=True)
                self._thread.start()

    def all_shown(self, seconds: float) -> bool:
        """Wait for the reader, but no longer than so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._kept, seconds)

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                text = "".join(self._lines)
                self._lines.clear()
            with suppress(OSError, ValueError):  # nobody reads any more, or it was closed
                self._write(text)
            with self._changed:
                self._kept -= len(text)
                if self._left_out:
                    told = f"... {self._left_out} lines were left out: nobody was reading\n"
                    self._left_out = 0
                    self._lines.append(told)
                    self._kept += len(told)
                self._changed.notify_all()

    def _write(self, text: str) -> None:
        """Past the buffer of `sys.stdout`: Python waits for that one at its end."""
        try:
            descriptor = self._output.fileno()
        except UnsupportedOperation:
            self._output.write(text)
            return
        data = memoryview(text.encode(errors="replace"))
        while data:
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:  # of a terminal that a program has left like that
                time.sleep(0.05)
