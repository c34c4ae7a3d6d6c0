"""A polite end: the first SIGINT or SIGTERM asks the loop to stop at the next step, the second ends the process at once."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["StopRequest"]


class StopRequest:
    """`with StopRequest() as stop:` and then `if stop.requested: ...` each step. Outside the main thread nothing sets it.

    signum: the signal that arrived first, else None.
    """

    def __init__(self) -> None:
        self.requested = False
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._before[signum] = signal.signal(signum, self._arrived)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def _arrived(self, signum: int, frame: FrameType | None) -> None:
        if self.requested:
            self._restore()
            signal.raise_signal(signum)
            return
        self.requested, self.signum = True, signum
        sys.stderr.write(f"{signal.Signals(signum).name}: writing a checkpoint after this step; once more to stop at once\n")
        sys.stderr.flush()

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before.clear()
