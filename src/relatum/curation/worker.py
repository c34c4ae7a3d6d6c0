"""The process that decodes: one JSON line in names a video, one out says how it went. What it does now is noted in a small file, so
that whoever started it can say where it ended. It ends when its input does."""

from __future__ import annotations

import json
import os
import queue
import struct
import sys
import threading
from pathlib import Path
from typing import Any

__all__ = ["main"]

NOTE = struct.Struct("<qq")  # place of the stage in the list of stages, frame


def main() -> None:
    """Reads its job from the first line: {"recipe": ..., "stills": ..., "note": file}."""
    lines = _lines()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not reach the one who reads our answers
    try:
        job, file = _job(json.loads(lines.get()))
    except Exception as error:
        _say(out, {"refused": f"{type(error).__name__}: {error}"})
        return
    _say(out, {"ready": True})
    for line in iter(lines.get, ""):
        task = json.loads(line)
        _say(out, _done(task, job, file))


def _lines() -> queue.Queue[str]:
    """Lines of the standard input. Its end ends this process, also in the midst of a video: nobody waits for the answer."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _job(about: dict[str, Any]) -> tuple[Any, int]:
    from .item import Job
    from .plan import plan_of
    from .recipe import curation_of

    _one_thread()
    recipe = curation_of(about["recipe"], Path(about["folder"]))
    if recipe.limits.max_memory_gib:
        import resource

        size = int(recipe.limits.max_memory_gib * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    return Job(recipe, plan_of(recipe), about["stills"]), os.open(about["note"], os.O_RDWR)


def _one_thread() -> None:
    """Of OpenCV: other videos keep the other cores busy."""
    try:
        import cv2

        cv2.setNumThreads(1)
    except ImportError:
        pass


def _done(task: dict[str, Any], job: Any, file: int) -> dict[str, Any]:
    from ..atomic import needs_disk
    from ..core.errors import RelatumError
    from .item import Item, measure

    stages = {name: place for place, name in enumerate(task["stages"])}

    def note(stage: str, frame: int) -> None:
        os.pwrite(file, NOTE.pack(stages.get(stage, -1), frame), 0)

    member = task["member"]
    item = Item(task["content"], task["path"], tuple(member) if member else None, tuple(task["stamp"]))
    try:
        with needs_disk(job.recipe.run):
            return measure(item, job, note, task["avoid"])
    except (OSError, RelatumError) as error:  # of the run's own disk: what a video holds does not raise these
        return {"refused": str(error)}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"[:500]}


def _say(out: Any, answer: dict[str, Any]) -> None:
    out.write(json.dumps(answer) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
