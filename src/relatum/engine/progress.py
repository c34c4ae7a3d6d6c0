"""How far a run is: a bar with terms, samples a second and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Progress"]


class Progress:
    """`with Progress("train", total=1000, start=200) as progress: progress.advance({"loss": 0.1}, samples=8)`.

    start: steps that an earlier run made. every: seconds between plain lines where the output is not a terminal.
    quiet: says nothing (processes other than the first). clock: seconds, for tests.
    """

    def __init__(
        self,
        title: str,
        total: int,
        start: int = 0,
        *,
        every: float = 30.0,
        quiet: bool = False,
        console: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from rich.console import Console

        self.title, self.total, self.done, self.every, self.quiet = title, total, start, every, quiet
        self.console = console if console is not None else Console(stderr=True)
        self.live = bool(self.console.is_terminal) and not quiet
        self._clock = clock
        self._began = self._said = clock()
        self._start, self._samples, self._unsaid = start, 0.0, False
        self._terms: Mapping[str, float] = {}
        self._bar: Any = None

    def start(self) -> None:
        """Shows the bar, on a terminal."""
        if not self.live:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[words]}"))
        self._bar = Bar(*columns, console=self.console)
        self._task = self._bar.add_task(self.title, total=self.total, completed=self.done, words="")
        self._bar.start()

    def stop(self) -> None:
        """Ends the bar, or says the last plain line."""
        if self._bar is not None:
            self._bar.stop()
        elif self._unsaid:
            self._say()

    def __enter__(self) -> Progress:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def advance(self, terms: Mapping[str, float] | None = None, samples: float = 0, steps: int = 1) -> None:
        """`terms` are shown as given; leave them out between logging steps so that nothing is read from the device."""
        self.done += steps
        self._samples += samples
        self._unsaid = True
        if terms is not None:
            self._terms = dict(terms)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, words=self._words())
        elif self._clock() - self._said >= self.every:
            self._say()

    def line(self) -> str:
        """The plain line: title, step, percentage, terms, samples a second, time left."""
        share = 100 * self.done / self.total if self.total else 100.0
        return f"{self.title} {self.done}/{self.total} ({share:.0f} %) {self._words()}"

    def _words(self) -> str:
        seconds, steps = self._clock() - self._began, self.done - self._start
        words = [f"{name} {value:.4g}" for name, value in self._terms.items()]
        if self._samples and seconds > 0:
            words.append(f"{self._samples / seconds:.1f} samples/s")
        if steps and self.total > self.done:
            words.append(f"{_clock_words(seconds / steps * (self.total - self.done))} left")
        return " ".join(words)

    def _say(self) -> None:
        if not self.quiet:
            self._said, self._unsaid = self._clock(), False
            self.console.print(self.line(), markup=False, highlight=False, soft_wrap=True)


def _clock_words(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
