"""Results as JSON lines that a killed process leaves whole: one line each, on the disk before the next is begun."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..atomic import make_folder, needs_disk, write_text
from ..core.errors import DataError, RecipeError

__all__ = ["Lines"]

START = '{"run": "'  # of a line


class Lines:
    """Tables with an "id" and a "key", in a file that grows; without a path nothing is kept. `with Lines(...) as lines` closes it.

    run: names what made them; a file of another run is refused, and one of other things never overwritten. columns: of every table.
    A last line that was cut off is dropped. DataError, RecipeError: the file is no such file, or another run's.
    """

    def __init__(self, path: Path | None, run: str, columns: Sequence[str]) -> None:
        self.path, self.run, self._file = path, run, None
        known = [] if path is None or not path.exists() else [*_stored(path, run, {*columns})]
        self._known = {table["id"]: table for table in known}
        if path is not None:
            make_folder(path.parent)
            write_text(path, "".join(map(self._line, self._known.values())))
            self._file = path.open("a", encoding="utf-8")

    def find(self, name: str, key: str) -> dict[str, Any] | None:
        known = self._known.get(name)
        return known if known is not None and known["key"] == key else None

    def add(self, table: Mapping[str, Any]) -> None:
        if self._file is not None and self.path is not None:
            with needs_disk(self.path.parent):
                self._file.write(self._line(table))
                self._file.flush()
                os.fsync(self._file.fileno())

    def finish(self, tables: Sequence[Mapping[str, Any]]) -> None:
        """These tables in their order, then what the file knew of others, such as those beyond a limit."""
        if self.path is not None:
            now = {table["id"] for table in tables}
            rest = [table for name, table in self._known.items() if name not in now]
            write_text(self.path, "".join(map(self._line, (*tables, *rest))))

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def _line(self, table: Mapping[str, Any]) -> str:
        return json.dumps({"run": self.run, **table}, allow_nan=False) + "\n"


def _stored(path: Path, run: str, columns: set[str]) -> Iterator[dict[str, Any]]:
    try:
        *whole, cut = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as results ({error}); choose another file") from error
    if not cut.startswith(START[: len(cut)]):
        raise DataError(f"{path}:{len(whole) + 1}: is no result of relatum match; choose another file")
    for number, line in enumerate(whole, 1):
        try:
            table = json.loads(line)
        except ValueError:
            table = None
        if not isinstance(table, dict) or "run" not in table:
            raise DataError(f"{path}:{number}: is no result of relatum match; choose another file")
        if table.pop("run") != run:
            raise RecipeError(f"{path}:{number}: holds results of another model, benchmark or setting; choose another file")
        if table.keys() != columns:
            raise DataError(f"{path}:{number}: is no result of this relatum match; choose another file")
        yield table
