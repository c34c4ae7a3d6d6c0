"""Motion modules (Guo et al. 2023): fresh or saved, put between the layers of an image network, and taken out again."""

from __future__ import annotations

import dataclasses
import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..core.errors import DataError, RecipeError
from ..pretrained.loading import quiet
from .calls import call_motion
from .correction import CORRECTION_FILE
from .stabilisers import STABILIZERS_FILE

if TYPE_CHECKING:
    from .families.stable_diffusion import StableDiffusion

__all__ = ["MotionSize", "beta_schedule_of", "fresh_motion", "motion_of", "open_motion", "with_motion"]

# Settings of the image network that the motion network has not, and that change nothing here: spelled otherwise, or idle.
_IDLE = ("attention_head_dim", "upcast_attention", "num_class_embeds", "addition_embed_type_num_heads")
_BLOCKS = ("DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D")


@dataclass(frozen=True)
class MotionSize:
    """Fresh motion modules. heads: of temporal attention. most_frames: of the longest clip that they can be asked for.

    layers: transformer blocks a module. mid_block: whether the middle block has one, of `mid_layers` transformer blocks.
    """

    heads: int = 4
    most_frames: int = 32
    layers: int = 1
    mid_block: bool = True
    mid_layers: int = 1

    def __post_init__(self) -> None:
        for name in ("heads", "most_frames", "layers", "mid_layers"):
            if getattr(self, name) < 1:
                raise RecipeError(f"model.motion.{name} is {getattr(self, name)}, expected 1 or more")


def fresh_motion(network: nn.Module, size: MotionSize, seed: int) -> Any:
    """A MotionAdapter that fits `network`, whose last layers are zero: it changes nothing until it is trained."""
    from diffusers import MotionAdapter

    cls: Any = MotionAdapter  # its annotations name one-element tuples
    config: Any = network.config
    widths = tuple(config.block_out_channels)
    if wrong := [width for width in widths if width % size.heads]:
        raise RecipeError(f"model.motion.heads is {size.heads}, which does not divide the network's width {wrong[0]} ({widths})")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        modules = cls(
            block_out_channels=widths,
            motion_layers_per_block=config.layers_per_block,
            motion_transformer_layers_per_block=size.layers,
            motion_transformer_layers_per_mid_block=size.mid_layers,
            motion_num_attention_heads=size.heads,
            motion_norm_num_groups=config.norm_num_groups,
            motion_max_seq_length=size.most_frames,
            use_motion_mid_block=size.mid_block,
        )
    for name, module in modules.named_modules():
        if name.endswith("proj_out"):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return modules


def open_motion(path_or_id: str, offline: bool = False) -> Any:
    """A MotionAdapter in float32, by hub id or by its folder, or that of an AnimateDiff pipeline. From safetensors only.

    DataError where it is not whole or only pickled; RecipeError where it is not there, or something else.
    """
    from diffusers import MotionAdapter
    from safetensors import SafetensorError

    folder = _adapter_folder(path_or_id)
    for file in (STABILIZERS_FILE, CORRECTION_FILE):  # of a run of ours: without it the modules alone give something else
        if (folder.parent / "model_index.json").is_file() and (folder.parent / file).is_file():
            raise RecipeError(
                f"model.motion_adapter: the modules of {folder.parent} need its {file}, which other bases cannot hold; "
                "give the folder as pretrained_model_name_or_path"
            )
    if not folder.is_dir():
        folder = _download(path_or_id, offline)
    cls: Any = MotionAdapter
    try:
        with quiet():
            found = cls.load_config(str(folder)).get("_class_name")
            if found != "MotionAdapter":
                raise RecipeError(f"model.motion_adapter: {path_or_id} is a {found}; expected diffusers' MotionAdapter")
            settings = {"torch_dtype": torch.float32, "use_safetensors": True, "output_loading_info": True}
            modules, info = cls.from_pretrained(str(folder), local_files_only=True, **settings)
    except RecipeError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        pickled = [*folder.glob("*.bin"), *folder.glob("*.ckpt")] and not [*folder.glob("*.safetensors")]
        only = "; its weights are pickled, which is not read" if pickled else ""
        raise DataError(f"{path_or_id} cannot be loaded as a MotionAdapter{only}: {error}") from error
    if lacking := info["missing_keys"]:
        raise DataError(f"{path_or_id}: its safetensors lack {len(lacking)} weights of a MotionAdapter, first {sorted(lacking)[0]}")
    return modules


def _download(name: str, offline: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_OFFLINE

    place, _, revision = name.partition("@")
    if Path(name).expanduser().is_file() or name.startswith((".", "/", "~")) or place.count("/") != 1:
        what = "a single file" if Path(name).expanduser().is_file() else "neither a folder of one nor a hub id"
        raise RecipeError(f"model.motion_adapter: {name} is {what}; expected a MotionAdapter as diffusers saves it, or owner/name")
    local = offline or HF_HUB_OFFLINE
    files = ["config.json", "diffusion_pytorch_model.safetensors"]
    try:
        return Path(snapshot_download(place, revision=revision or None, allow_patterns=files, local_files_only=local))
    except (OSError, ValueError) as error:
        where = "in the local cache (offline)" if local else "on the hub or in the local cache"
        raise RecipeError(f"model.motion_adapter: {name} was not found {where}: {error}") from error


def beta_schedule_of(path_or_id: str) -> str | None:
    """The schedule that saved modules were trained on, where their folder belongs to a pipeline that tells; else None."""
    file = _adapter_folder(path_or_id).parent / "scheduler" / "scheduler_config.json"
    if not file.is_file():
        return None
    try:
        return str(json.loads(file.read_text(encoding="utf-8")).get("beta_schedule", "linear"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error


def _adapter_folder(path_or_id: str) -> Path:
    path = Path(path_or_id).expanduser()
    return path / "motion_adapter" if (path / "model_index.json").is_file() else path


def with_motion(base: StableDiffusion, modules: Any, where: str = "motion", notes: tuple[str, ...] = ()) -> StableDiffusion:
    """`base` with the modules of a MotionAdapter between its layers; the weights of both are copied, notes added.

    RecipeError where modules and network do not fit, or the network is one that UNetMotionModel cannot be.
    """
    from diffusers import UNetMotionModel

    unet: Any = base.unet
    _check_network(unet.config, base.origin.path)
    _check_fit(unet.config, modules.config, where)
    try:  # by names that both share: strict, so that no weight of either is left out
        motion: Any = UNetMotionModel.from_unet2d(unet, modules, load_weights=False)
        motion.load_state_dict({**unet.state_dict(), **modules.state_dict()})
    except (ValueError, RuntimeError) as error:
        raise RecipeError(f"model: the motion modules of {where} do not fit {base.origin.path}: {error}") from error
    if base.correction is not None:
        base.correction.attach(motion, base.kind, base.path)
    return dataclasses.replace(base, unet=motion, call=call_motion, notes=(*base.notes, *notes))


def _check_network(config: Any, where: Path) -> None:
    """RecipeError for settings of an image network that diffusers drops on the way to a motion network."""
    from diffusers import UNet2DConditionModel, UNetMotionModel

    known = inspect.signature(UNetMotionModel.__init__).parameters
    for name, setting in inspect.signature(UNet2DConditionModel.__init__).parameters.items():
        found = config.get(name, setting.default)
        if name not in known and name not in _IDLE and found != setting.default:
            raise RecipeError(
                f"{where}/unet: {name} is {found!r}, which a UNet with motion modules (UNetMotionModel) does not have"
            )
    for block in (*config.down_block_types, *config.up_block_types):
        if block not in _BLOCKS:
            raise RecipeError(f"{where}/unet has a {block}; motion modules go between {', '.join(_BLOCKS)}")
    if config.encoder_hid_dim_type is not None:
        raise RecipeError(f"{where}/unet: encoder_hid_dim_type is {config.encoder_hid_dim_type!r}, expected none")


def _check_fit(unet: Any, modules: Any, where: str) -> None:
    """RecipeError for modules of another network's shape. Norms with other groups would load, and give other numbers."""
    depth = len(unet.block_out_channels)

    def each(value: Any) -> list[int]:
        return [value] * depth if isinstance(value, int) else list(value)

    if modules.conv_in_channels:
        raise RecipeError(f"model.motion_adapter: {where} has input channels of its own (PIA), which is another family")
    for what, ours, theirs in (
        ("widths", list(unet.block_out_channels), list(modules.block_out_channels)),
        ("layers a block", each(unet.layers_per_block), each(modules.motion_layers_per_block)),
        ("groups of norms", unet.norm_num_groups, modules.motion_norm_num_groups),
        ("layers of the middle block", 1, modules.motion_mid_block_layers_per_block),
    ):
        if ours != theirs:
            raise RecipeError(f"model.motion_adapter: {where} is made for a UNet of {what} {theirs}, but the base has {ours}")


def motion_of(network: nn.Module) -> Any:
    """The MotionAdapter of a UNetMotionModel without LoRA, weights copied. (diffusers' `save_motion_modules` drops settings.)"""
    from diffusers import MotionAdapter

    cls: Any = MotionAdapter
    config: Any = network.config
    with torch.random.fork_rng(devices=[]):
        modules = cls(
            block_out_channels=config.block_out_channels,
            motion_layers_per_block=config.layers_per_block,
            motion_transformer_layers_per_block=config.temporal_transformer_layers_per_block,
            motion_mid_block_layers_per_block=config.mid_block_layers,
            motion_transformer_layers_per_mid_block=config.temporal_transformer_layers_per_mid_block,
            motion_num_attention_heads=config.motion_num_attention_heads,
            motion_norm_num_groups=config.norm_num_groups,
            motion_max_seq_length=config.motion_max_seq_length,
            use_motion_mid_block=config.use_motion_mid_block,
        )
    modules.load_state_dict({name: tensor for name, tensor in network.state_dict().items() if ".motion_modules." in name})
    return nn.Module.to(modules, next(network.parameters()).dtype)
