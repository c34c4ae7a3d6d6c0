"""Small pictures as bytes, and the three layouts of one set of edits, for the tests of the readers."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["add", "edits", "folder", "noise", "parquet", "png", "tar"]


def noise(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(array: np.ndarray, kind: str = "PNG", **settings: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format=kind, **settings)
    return buffer.getvalue()


def edits(count: int = 4) -> list[dict[str, Any]]:
    """Edits with asymmetric images and masks; rows 0 and 1 share their source."""
    mask = np.zeros((24, 32), np.uint8)
    mask[2:9, 10:25] = 255
    return [
        {
            "input_image": png(noise(max(i, 1))),
            "edited_image": png(noise(100 + i)),
            "mask": png(mask),
            "edit_prompt": f"make it número {i} <b>&\nnow",
            "original_prompt": f"a scene {i}",
            "edited_prompt": f"another scene {i}",
        }
        for i in range(count)
    ]


def folder(root: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Images and metadata.jsonl; bytes become files, everything else goes into the line."""
    root.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, row in enumerate(rows):
        line = {}
        for name, value in row.items():
            if isinstance(value, bytes):
                (root / f"{i}_{name}.png").write_bytes(value)
                line[f"{name}_file_name"] = f"{i}_{name}.png"
            else:
                line[name] = value
        lines.append(json.dumps(line))
    (root / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def parquet(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = [{k: {"bytes": v, "path": "x.png"} if isinstance(v, bytes) else v for k, v in row.items()} for row in rows]
    pq.write_table(pa.Table.from_pylist(table), path)
    return path


def add(shard: tarfile.TarFile, name: str, data: bytes = b"", **fields: Any) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in fields.items():
        setattr(member, key, value)
    shard.addfile(member, io.BytesIO(data))


def tar(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with tarfile.open(path, "w") as shard:
        for i, row in enumerate(rows):
            for name, value in row.items():
                if isinstance(value, bytes):
                    add(shard, f"a/{i:04}.{name}.png", value)
                else:
                    add(shard, f"a/{i:04}.{name}.txt", value.encode())
    return path
