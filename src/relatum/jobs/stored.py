"""Results as JSON lines that a killed process leaves whole: one line each, on the disk before the next is begun."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..atomic import make_folder, needs_disk, write_text
from ..core.errors import DataError, RecipeError
from ..core.load import load
from ..data.refs import brief

__all__ = ["DELETE", "Lines", "Stored"]

START = '{"run": "'  # of a line
DELETE = "delete the line, and its item is asked again"


class Stored:
    """A dataclass of plain values. key: of all that its answer depends on."""

    id: str
    key: str


T = TypeVar("T", bound=Stored)


class Lines(Generic[T]):
    """Results of one kind, in a file that grows; without a path nothing is kept. `with Lines(...) as lines` closes it.

    run: names what made them; a file of another run is refused, and one of other things never overwritten. A last line that was
    cut off is dropped. DataError, RecipeError: the file is no such file, or another run's; a line that is damaged.
    """

    def __init__(self, path: Path | None, run: str, kind: type[T]) -> None:
        self.path, self.run, self._file = path, run, None
        self._known = {} if path is None or not path.exists() else {one.id: one for one in _stored(path, run, kind)}
        if path is not None:
            make_folder(path.parent)
            write_text(path, "".join(map(self._line, self._known.values())))
            self._file = path.open("a", encoding="utf-8")

    def find(self, name: str, key: str) -> T | None:
        known = self._known.get(name)
        return known if known is not None and known.key == key else None

    def add(self, one: T) -> None:
        if self._file is not None and self.path is not None:
            with needs_disk(self.path.parent):
                self._file.write(self._line(one))
                self._file.flush()
                os.fsync(self._file.fileno())

    def finish(self, results: Sequence[T]) -> None:
        """These in their order, then what the file knew of others, such as those beyond a limit."""
        if self.path is not None:
            now = {one.id for one in results}
            rest = [one for name, one in self._known.items() if name not in now]
            write_text(self.path, "".join(map(self._line, (*results, *rest))))

    def __enter__(self) -> Lines[T]:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def _line(self, one: T) -> str:
        return json.dumps({"run": self.run, **asdict(one)}, allow_nan=False) + "\n"  # type: ignore[call-overload]


def _stored(path: Path, run: str, kind: type[T]) -> Iterator[T]:
    try:
        *whole, cut = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as results ({error}); choose another file") from error
    if not cut.startswith(START[: len(cut)]):
        whole.append(cut)
    ours = any(line.startswith(START) for line in whole)
    for number, line in enumerate(whole, 1):
        where = f"{path}:{number}"
        try:
            table = json.loads(line)
        except (ValueError, RecursionError):
            table = None
        if not isinstance(table, dict) or "run" not in table:
            raise DataError(f"{where}: is no result of relatum match; {DELETE if ours else 'choose another file'}")
        if table.pop("run") != run:
            raise RecipeError(f"{where}: holds results of another model, benchmark or setting; choose another file")
        yield _typed(table, kind, where)


def _typed(table: Mapping[str, Any], kind: type[T], where: str) -> T:
    """The line's result. DataError for other columns, wrong types and numbers that are not finite."""
    try:
        if table.keys() != {one.name for one in fields(kind)}:  # type: ignore[arg-type]
            raise RecipeError("it has other columns")
        return load(kind, table, "")
    except RecipeError as error:
        raise DataError(f"{where}: the result is damaged ({brief(str(error))}); {DELETE}") from error
