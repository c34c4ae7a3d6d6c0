"""A probe: a small module that reads from a UNet's features which text belongs to the picture (Qu et al. 2024)."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..atomic import write_text
from ..core.errors import DataError, RecipeError
from ..core.load import load
from ..core.path import NoiseLevel
from ..core.prediction import Prediction
from ..core.shapes import Latents, Tokens
from ..probes.outputs import outputs_of
from .denoiser import Denoiser

__all__ = ["Probe", "ProbeSettings", "Probed", "Seen", "load_probe", "new_probe", "places", "save_probe"]

_WEIGHTS, _ABOUT = "probe.safetensors", "probe.json"


@dataclass(frozen=True)
class ProbeSettings:
    """block: the UNet's module whose output is read, such as "mid_block" or "up_blocks.0". queries, heads, width: of the attention
    that pools a map or a text; joint: numbers of the joint space.

    sees: the text that the UNet is told while it is read. "caption": the candidate, so every pair is a forward pass, as in the
    paper; "nothing": the empty caption, one pass a picture. levels: least and largest noise level that is read, as a share of the
    timesteps; equal ones fix it.
    """

    block: str = "mid_block"
    sees: Literal["nothing", "caption"] = "caption"
    levels: tuple[float, float] = (0.0, 0.5)
    width: int = 64
    queries: int = 4
    heads: int = 4
    joint: int = 64

    def __post_init__(self) -> None:
        for name in ("width", "queries", "heads", "joint"):
            if getattr(self, name) < 1:
                raise RecipeError(f"probe: {name} is {getattr(self, name)}, expected 1 or more")
        if self.width % self.heads or self.width % 4:
            raise RecipeError(f"probe: width is {self.width}, expected a multiple of 4 and of heads ({self.heads})")
        low, high = self.levels
        if not 0 <= low <= high <= 1:
            raise RecipeError(f"probe: levels are {low} to {high}, expected 0 <= low <= high <= 1")


class _Pool(nn.Module):
    """Learned queries attend to tokens; what they take, joined, becomes one unit vector."""

    def __init__(self, entering: int, settings: ProbeSettings) -> None:
        super().__init__()
        width = settings.width
        self.norm, self.enter = nn.LayerNorm(entering), nn.Linear(entering, width)
        self.queries = nn.Parameter(torch.randn(settings.queries, width) / math.sqrt(width))
        self.attend = nn.MultiheadAttention(width, settings.heads, batch_first=True)
        self.mix = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.leave = nn.Linear(settings.queries * width, settings.joint)

    def forward(self, tokens: Tokens, places: Tensor | None = None) -> Float[Tensor, "b joint"]:
        """places: (n width), added to what is attended to."""
        entered = self.enter(self.norm(tokens.float()))
        keys = entered if places is None else entered + places
        taken = self.attend(self.queries.expand(len(tokens), -1, -1), keys, keys, need_weights=False)[0]
        return F.normalize(self.leave((taken + self.mix(taken)).flatten(1)), dim=-1)


class Probe(nn.Module):
    """Features of the UNet (b c h w) and text states (b n d) as unit vectors of one space; `scale` is the inverse temperature.

    Where a feature lies is told by sines of its row and column, so a map may have any size. The paper's adapter is a transformer
    with an encoder; ours is one attention for each side, and also learns how the text is pooled.
    """

    def __init__(self, settings: ProbeSettings, channels: int, text_width: int) -> None:
        super().__init__()
        self.settings, self.channels, self.text_width = settings, channels, text_width
        self.picture, self.text = _Pool(channels, settings), _Pool(text_width, settings)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # CLIP's

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp().clamp_max(100.0)

    def pictures(self, features: Latents) -> Float[Tensor, "b joint"]:
        height, width = features.shape[-2], features.shape[-1]
        where = places(height, width, self.settings.width).to(features.device)
        return self.picture(features.flatten(2).movedim(1, 2), where)

    def texts(self, tokens: Tokens) -> Float[Tensor, "b joint"]:
        return self.text(tokens)


def places(height: int, width: int, numbers: int) -> Tensor:
    """(height * width, numbers) sines and cosines of the row, then of the column, each from 0 to 1 over the map.

    >>> [round(number, 2) for number in places(1, 2, 4)[1].tolist()]  # row at pi/2, column at 3/4 pi
    [1.0, -0.0, 0.71, -0.71]
    """
    steps = [(torch.arange(edge) + 0.5) / edge * math.pi for edge in (height, width)]
    waves = 2.0 ** torch.arange(numbers // 4)
    rows, columns = (torch.cat([(s[:, None] * waves).sin(), (s[:, None] * waves).cos()], 1) for s in steps)
    grid = torch.cat([rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)], 2)
    return grid.flatten(0, 1)


class Seen(NamedTuple):
    """prediction: of all samples. pictures, texts: unit vectors, None where no caption was given; scale: inverse temperature."""

    prediction: Prediction
    pictures: Tensor | None
    texts: Tensor | None
    scale: Tensor


class Probed(nn.Module):
    """A denoiser with its probe behind one call. tuned: the denoiser is trained too; else it is no part of this module's weights
    and never gets a gradient."""

    def __init__(self, denoiser: Denoiser, probe: Probe, tuned: bool) -> None:
        super().__init__()
        self.probe, self.tuned = probe, tuned
        self._frozen = [] if tuned else [denoiser]  # in a list: not a submodule, not in checkpoints
        if tuned:
            self.denoiser = denoiser

    def forward(
        self, noisy: Latents, level: NoiseLevel, tokens: Tokens, read: int = 0, captions: Float[Tensor, "rows n d"] | None = None
    ) -> Seen:
        """tokens: what the UNet is told. The features from sample `read` on are read; captions: what they are matched with."""
        denoiser = self.denoiser if self.tuned else self._frozen[0]
        unet: Any = denoiser.network
        block = self.probe.settings.block
        with torch.set_grad_enabled(self.tuned and torch.is_grad_enabled()), outputs_of(unet, (block,)) as found:
            raw = unet(noisy, level.time, encoder_hidden_states=tokens, return_dict=False)[0]
        pictures = None if captions is None else self.probe.pictures(found[block][read:].float())
        texts = None if captions is None else self.probe.texts(captions)
        return Seen(Prediction(raw, noisy, level, denoiser.kind), pictures, texts, self.probe.scale)


@torch.no_grad()
def new_probe(unet: Any, settings: ProbeSettings, null: Tokens) -> Probe:
    """A fresh probe for that UNet, weights from torch's global generator. null: (1 n d) states of the empty caption."""
    device, edge = null.device, 8 * 2 ** len(unet.config.block_out_channels)
    with outputs_of(unet, (settings.block,)) as found:
        unet(torch.zeros(1, unet.config.in_channels, edge, edge, device=device), 0, encoder_hidden_states=null)
    map_ = found[settings.block]
    if map_.dim() != 4:
        raise RecipeError(f"probe: {settings.block!r} gives a tensor of shape {tuple(map_.shape)}, expected a map (b c h w)")
    return Probe(settings, map_.shape[1], null.shape[2])


def save_probe(probe: Probe, folder: Path, **about: str) -> None:
    """probe.safetensors and probe.json (settings, widths and `about`) in `folder`."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{_WEIGHTS}"
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in probe.state_dict().items()}, partial)
    partial.replace(folder / _WEIGHTS)
    table = {"settings": asdict(probe.settings), "channels": probe.channels, "text_width": probe.text_width, "about": about}
    write_text(folder / _ABOUT, json.dumps(table, indent=2) + "\n")


@dataclass(frozen=True)
class _About:
    """What probe.json holds."""

    settings: ProbeSettings
    channels: int
    text_width: int
    about: dict[str, str] = field(default_factory=dict)


def load_probe(folder: Path) -> tuple[Probe, dict[str, str]]:
    """(the probe that `save_probe` wrote, what was said about it). DataError where there is none that can be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        table = load(_About, json.loads((folder / _ABOUT).read_text(encoding="utf-8")), "")
        probe = Probe(table.settings, table.channels, table.text_width)
        probe.load_state_dict(load_file(folder / _WEIGHTS))
    except (OSError, ValueError, RuntimeError, RecipeError, SafetensorError) as error:
        raise DataError(f"{folder}: no probe that can be read ({error}); train one with `relatum train probing`") from error
    return probe, dict(table.about)
