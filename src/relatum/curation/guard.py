"""A process that does the decoding, watched: if it ends, hangs or runs out of memory, one video is lost and the reason known."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile, mkstemp
from typing import IO, Any

from ..atomic import remove_stale
from ..core.errors import DataError, Interrupted
from .item import Item, Job, scratch
from .passing import DECODING
from .recipe import table_of
from .store import Record
from .worker import NOTE

__all__ = ["Guard", "attend", "sweep"]

PLACES = 16  # places of one video that are gone round, one after the other, before it is given up
BETWEEN = ("probe", "stills", DECODING)  # what a process does besides measuring
STARTS = 3  # times that a process is started before it is given up
START = 120.0  # seconds until a process must have said that it is there


@dataclass(frozen=True)
class _Ended:
    """How a process ended: "crash" or "timeout", in words, and what it was doing: (stage, frame), if it had begun."""

    status: str
    words: str
    place: tuple[str, int] | None


class Guard:
    """One worker process, started when it is first needed and again when it has ended. One thread uses it; any may `end` it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.stages = [*job.plan.measures, *BETWEEN]
        self._process: subprocess.Popen[bytes] | None = None
        self._over = False

    def ask(self, item: Item, avoid: Sequence[Sequence[Any]]) -> dict[str, Any] | _Ended:
        """The worker's answer, or how it ended. Interrupted after `end`: what happened then says nothing of the video."""
        found = self._asked(item, avoid)
        if self._over:
            raise Interrupted("curation: interrupted; the same command goes on")
        return found

    def end(self) -> None:
        """Ends the process, whatever it does; the thread that waits for it is told by an Interrupted."""
        self._over = True
        if (process := self._process) is not None:
            process.kill()

    def _asked(self, item: Item, avoid: Sequence[Sequence[Any]]) -> dict[str, Any] | _Ended:
        if self._over:
            return {}
        if self._started() is None:
            return {}
        os.pwrite(self._note, NOTE.pack(-1, -1), 0)
        task = {**asdict(item), "path": str(Path(item.path).absolute()), "avoid": list(avoid), "stages": self.stages}
        try:
            self._tell(task)
        except BrokenPipeError:
            return self._ended("crash")
        return self._answer(self.job.recipe.limits.timeout)

    def close(self) -> None:
        """Ends the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, self._errors):
                if stream is not None:
                    stream.close()
            os.close(self._note)
            Path(self._note_file).unlink(missing_ok=True)

    def _started(self) -> subprocess.Popen[bytes] | None:
        """The process, which has said that it is there; None where the run is over. DataError if it ends again and again."""
        words = ""
        for _ in range(STARTS):
            if self._process is not None or self._over:
                return self._process
            self._start()
            try:
                recipe = self.job.recipe
                table = {**table_of(recipe), "output_dir": str(recipe.run.resolve())}  # a stage may change the folder that it is in
                folder, note = str(recipe.folder.resolve()), str(Path(self._note_file).resolve())
                about = {"recipe": table, "folder": folder, "stills": self.job.stills, "note": note}
                self._tell(about)
                found = self._answer(START)
            except BrokenPipeError:
                found = self._ended("crash")
            words = found.words if isinstance(found, _Ended) else str(found.get("refused", ""))
            if words:
                self.close()
        if self._process is None and not self._over:
            raise DataError(f"curation: the process that decodes does not start: {words}; tried {STARTS} times")
        return self._process

    def _start(self) -> None:
        recipe = self.job.recipe
        self._note, self._note_file = mkstemp(dir=scratch(recipe), prefix="note-")
        self._errors: IO[bytes] = TemporaryFile(dir=scratch(recipe))  # noqa: SIM115 - closed by close()
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "relatum.curation.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,  # Ctrl-C is for us; our end is its end
        )
        if self._over:
            self._process.kill()

    def _tell(self, value: Any) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.write(json.dumps(value).encode() + b"\n")
            process.stdin.flush()

    def _answer(self, seconds: float) -> dict[str, Any] | _Ended:
        """One line of its output, or how it ended without one: it has so many seconds for each frame that it goes on by."""
        line, seen, output = b"", self._noted(), self._output()
        with selectors.DefaultSelector() as waiting:
            waiting.register(output, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not waiting.select(seconds):
                    if seen == (seen := self._noted()):
                        return self._ended("timeout", f"no progress for {seconds:g} s")
                    continue
                data = os.read(output, 65536)
                if not data:
                    return self._ended("crash")
                line += data
        return json.loads(line)

    def _output(self) -> int:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        return process.stdout.fileno()

    def _noted(self) -> tuple[int, int]:
        """(place of the stage, frame) that the process was last at; -1 where it has not begun."""
        return NOTE.unpack(os.pread(self._note, NOTE.size, 0).ljust(NOTE.size, b"\xff"))

    def _ended(self, status: str, words: str = "") -> _Ended:
        """Takes leave of the process, which is gone or is ended here."""
        process = self._process
        stage, frame = self._noted()
        place = (self.stages[stage], frame) if stage >= 0 else None
        if process is not None and status == "crash":
            code = process.wait()
            self._errors.seek(0, os.SEEK_END)
            self._errors.seek(max(self._errors.tell() - 400, 0))
            last = self._errors.read().decode("utf-8", "replace").strip().splitlines()
            words = f"the process that ran it ended with {code}" + (f": {last[-1]}" if last else "")
        self.close()
        return _Ended(status, words, place)


def sweep(job: Job) -> None:
    """Removes what killed processes have left in the run's store; only for who is alone in it."""
    for file in scratch(job.recipe).iterdir():
        file.unlink(missing_ok=True)
    for folder in job.store.folder.glob("[0-9a-f][0-9a-f]"):
        remove_stale(folder)


def attend(item: Item, job: Job, guard: Guard) -> dict[str, Any]:
    """One video, whatever it does to the process: gives seconds by what they were spent on, and leaves a record in any case.

    A process that ends, or hangs, while a measure looks at a frame is started again and goes round that place, which costs the clip
    around it; one that ends elsewhere is tried again as often as the limits say, and then the video's status is "crash" or
    "timeout". DataError where the run's own disk refuses, Interrupted where the run is over.
    """
    keys, tries = job.keys, 0
    places = [[stage, frame, key] for stage, frame, key in job.store.crashes(item.content) if keys.get(stage) == key]
    while True:
        found = guard.ask(item, places)
        if not isinstance(found, _Ended):
            if "refused" in found:
                raise DataError(found["refused"])
            if "failed" not in found:
                return found
            found = _Ended("crash", found["failed"], None)
        if found.place is not None and found.place[0] in job.plan.measures and len(places) < PLACES:
            places = [*places, [*found.place, keys[found.place[0]]]]
            job.store.write_crashes(item.content, places)
            continue
        tries += 1
        if tries >= job.recipe.limits.attempts:
            where = f" while {found.place[0]} at frame {found.place[1]}" if found.place else ""
            words = f"{found.words}{where}; tried {tries} times"
            known = job.store.read(item.content) or Record(item.content, found.status)
            about = {"status": found.status, "reason": found.status, "detail": words, "limits": job.crash_key}
            job.store.write(replace(known, **about))  # with the tracks that it has
            return {"spent": {}}
