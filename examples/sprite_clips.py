"""A reader of one's own: characters of the Liberated Pixel Cup that walk, swing an arm or cast a spell, drawn when they are read.

In a recipe: plugins = ["sprite_clips.py"], data.train = { kind = "sprite_clips", path = "lpc_sprites" }.
"""

import hashlib
import json
import random
import runpy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from relatum.core.errors import DataError
from relatum.core.registry import reader
from relatum.data.rows import Row, Shot
from relatum.imaging import fit

DOES = {"walk": "walking", "slash": "swinging an arm", "spellcast": "casting a spell"}
WAYS = {"up": "away from us", "left": "to the left", "down": "towards us", "right": "to the right"}


@dataclass(frozen=True)
class Sprite:
    """A ClipRef. does: who (layers by place), what and which way. render: what the collection's render.py defines."""

    render: dict
    does: tuple[dict, str, str]
    frames: int
    where: str

    def digest(self) -> str:
        layers = [Path(self.render["ROOT"], "layers", layer["file"]).read_bytes() for layer in self.does[0].values()]
        return hashlib.sha256(b"".join([*layers, json.dumps([self.does, self.frames]).encode()])).hexdigest()

    def shot(self, size: int) -> Shot:
        cycle, frames = self.render["frames_of"](self.does[1]), []
        for k in range(self.frames):
            cell = np.array(self.render["frame"](*self.does, cycle[k % len(cycle)]).crop((8, 10, 56, 58)), np.float32)
            frames.append(fit(torch.from_numpy(cell).permute(2, 0, 1) / 127.5 - 1, size))
        return Shot(torch.stack(frames), torch.ones(self.frames - 1, dtype=torch.bool))


@reader("sprite_clips")
@dataclass
class SpriteClips:
    path: str
    count: int = 2000
    frames: int = 8
    skipped: list[str] = field(default_factory=list, init=False)

    def rows(self) -> list[Row]:
        if not Path(self.path, "render.py").is_file():
            raise DataError(f"{self.path}: no render.py in it; give the folder of the LPC sprites as path")
        render = runpy.run_path(str(Path(self.path, "render.py")))
        return [self.row(render, random.Random(number), f"sprite {number}") for number in range(self.count)]

    def row(self, render: dict, rng: random.Random, id: str) -> Row:
        who = {place: layer for place, layer in render["sample"](rng).items() if isinstance(layer, dict)}
        does, way = rng.choice([*DOES]), rng.choice([*WAYS])
        worn = [(place, layer) for place, layer in who.items() if place not in ("body", "eyes", "feet")]
        colors = [f"{layer['colour']} {place if place == 'hair' else layer['item']}" for place, layer in worn]
        facts = {"offset": 0.1, "spacing": 0.1, "video": id, "source_time": 0.0, "action": does, "way": way}
        text, clip = ", ".join([f"{DOES[does]} {WAYS[way]}", *colors]), Sprite(render, (who, does, way), self.frames, id)
        return Row(id, json.dumps(who), {}, {"target": text}, facts=facts, where=id, clips={"target": clip})
