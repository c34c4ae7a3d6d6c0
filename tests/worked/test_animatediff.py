"""Motion modules: none until they are trained, those that fit, which weights are trained, levels of single frames, folders."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from relatum.core.errors import DataError, RecipeError, RelatumError, ShapeError
from relatum.core.load import load
from relatum.core.path import expand
from relatum.engine.ema import EMA
from relatum.engine.snapshot import load_weights, save_weights
from relatum.models.correction import Correction
from relatum.models.families.animatediff import DOWN_MID, AnimateDiffSettings, open_animatediff
from relatum.models.families.opening import open_pipeline
from relatum.models.families.stable_diffusion import StableDiffusion
from relatum.models.motion import MotionSize, fresh_motion, motion_of, open_motion, with_motion
from relatum.models.tiny import tiny_animatediff, tiny_stable_diffusion
from relatum.models.trainable import Trainable, make_trainable
from relatum.models.widen import tell

TIMES = torch.tensor([3.0, 700.0])


def noisy(images: int = 0, frames: int = 3) -> torch.Tensor:
    return torch.randn(2, 4 * (1 + images), frames, 8, 8, generator=torch.Generator().manual_seed(7))


def ask(model: StableDiffusion, sample: torch.Tensor, time: torch.Tensor = TIMES, told: torch.Tensor | None = None) -> torch.Tensor:
    tokens = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        return model.call(model.unet, sample, time, tokens, told)


def frame_by_frame(base: StableDiffusion, sample: torch.Tensor, told: torch.Tensor | None = None) -> torch.Tensor:
    return torch.stack([ask(base, sample[:, :, i], TIMES, told) for i in range(sample.shape[2])], 2)


def unet(**changes: Any) -> Any:
    """A tiny image network; by default both of its resolutions look at the text."""
    from diffusers import UNet2DConditionModel

    settings: dict[str, Any] = {
        "block_out_channels": (16, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
    }
    return UNet2DConditionModel(**{**settings, **changes})


PLAIN = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
NETWORKS: dict[str, dict[str, Any]] = {
    "convolutions about attention": {},
    "linear layers about attention": {"use_linear_projection": True},
    "heads and layers of each block": {"attention_head_dim": (2, 8), "layers_per_block": (2, 1)},
    "two transformer layers": {"transformer_layers_per_block": 2, "layers_per_block": 2},
    "no attention but in the middle": PLAIN,
    "eight input channels": {"in_channels": 8},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_fresh_modules_change_nothing(name: str) -> None:
    """Each frame is what the image network makes of it; modules whose last layers are drawn do change it."""
    base = dataclasses.replace(tiny_stable_diffusion(0), unet=unet(**NETWORKS[name]).eval())
    sample = noisy(int(name.startswith("eight")))
    modules = fresh_motion(base.unet, MotionSize(heads=2, layers=2), 0)
    assert (ask(with_motion(base, modules), sample) - frame_by_frame(base, sample)).abs().max() < 1e-6
    torch.nn.init.normal_(modules.mid_block.motion_modules[0].proj_out.weight)
    assert (ask(with_motion(base, modules), sample) - frame_by_frame(base, sample)).abs().max() > 1e-3


def test_a_widened_and_told_base_keeps_its_answers(tmp_path: Path) -> None:
    """Image to video: eight channels, the bias of the first layer kept (it is not zero here), whatever is given beside."""
    base = tiny_stable_diffusion(0, seed=1)
    torch.nn.init.normal_(base.unet.conv_in.bias)  # type: ignore[union-attr,arg-type]
    base.save_pipeline(tmp_path / "base")
    model = open_animatediff(str(tmp_path / "base"), 1, features=2)
    assert model.widened
    assert model.images == 1
    assert model.unet.config.in_channels == 8  # type: ignore[union-attr]
    sample, told = torch.cat([noisy(), 30 * noisy()], 1), torch.randn(2, 2)
    assert (ask(model, sample, told=told) - frame_by_frame(base, noisy())).abs().max() < 1e-5
    own = tiny_stable_diffusion(1, seed=1)
    sample = noisy(1)
    assert torch.allclose(ask(tiny_animatediff(1, seed=1), sample), frame_by_frame(own, sample), atol=1e-6)


def test_levels_of_frames() -> None:
    """Equal ones are the shared level; with fresh modules each frame is the image network's at its own time, and another frame's
    time moves that frame alone; with drawn modules all see it."""
    base, fresh, moved = tiny_stable_diffusion(0, seed=2), tiny_animatediff(seed=2), tiny_animatediff(seed=2, fresh=False)
    sample = noisy()
    shared = ask(moved, sample)
    assert (ask(moved, sample, TIMES[:, None].expand(2, 3)) - shared).abs().max() < 1e-6
    times = torch.tensor([[3.0, 250.0, 999.0], [700.0, 0.0, 41.0]])
    want = torch.stack([ask(base, sample[:, :, i], times[:, i]) for i in range(3)], 2)
    assert (ask(fresh, sample, times) - want).abs().max() < 1e-6
    other = times.clone()
    other[1, 2] = 900.0
    for model, still in ((fresh, True), (moved, False)):
        gap = (ask(model, sample, other) - ask(model, sample, times)).abs().amax((1, 3, 4))
        assert gap[0].max() < 1e-6
        assert gap[1, 2] > 1e-3
        assert bool(gap[1, 0] < 1e-6) is still
    assert torch.equal(ask(moved, sample), shared)  # nothing stays behind


def test_levels_of_frames_beside_other_numbers_and_with_checkpointing() -> None:
    """The gradient is the same where layers are computed again in the backward pass, after the levels were told."""
    model = tiny_animatediff(seed=3, fresh=False)
    tell(model.unet, 2)
    torch.nn.init.normal_(model.unet.time_embedding.cond_proj.weight, std=0.3)  # type: ignore[union-attr,arg-type]
    sample, tokens, told = noisy(), torch.randn(2, 5, 32), torch.randn(2, 2)
    shared = ask(model, sample, told=told)
    assert (shared - ask(model, sample, told=-told)).abs().max() > 1e-3
    assert (ask(model, sample, TIMES[:, None].expand(2, 3), told) - shared).abs().max() < 1e-6
    times = torch.tensor([[3.0, 250.0, 999.0], [700.0, 0.0, 41.0]])

    def gradients() -> list[torch.Tensor]:
        model.unet.train()
        model.unet.zero_grad()
        model.call(model.unet, sample, times, tokens, told).square().mean().backward()
        return [parameter.grad.clone() for parameter in model.unet.parameters() if parameter.grad is not None]

    plain = gradients()
    model.unet.enable_gradient_checkpointing()  # type: ignore[operator]
    again = gradients()
    assert len(plain) == len(again) > 100
    assert all((a - b).abs().max() < 1e-6 for a, b in zip(plain, again, strict=True))


def test_sizes_reach_the_modules() -> None:
    """Two transformer layers in each of the 2 down, 4 up modules (a layer more than down), three in the middle: 2 * 6 + 3."""
    base = tiny_stable_diffusion(0)

    def blocks(size: MotionSize) -> list[str]:
        names = [name for name, _ in with_motion(base, fresh_motion(base.unet, size, 0)).unet.named_modules()]
        return [name for name in names if "motion_modules" in name and name.endswith("pos_embed")]

    assert len(blocks(MotionSize(2, layers=2, mid_layers=3))) == 15
    none = blocks(MotionSize(2, mid_block=False))
    assert len(none) == 6
    assert not [name for name in none if "mid" in name]
    for table, words in (
        ({"heads": 0}, "heads is 0"),
        ({"layers": 0}, "layers is 0"),
        ({"most_frames": 0}, "most_frames is 0"),
        ({"mid_layer": 1}, "did you mean 'mid_layers'"),
    ):
        with pytest.raises(RecipeError, match=words):
            load(MotionSize, table, "model.motion")
    with pytest.raises(RecipeError, match="heads is 3, which does not divide the network's width 16"):
        fresh_motion(base.unet, MotionSize(3), 0)
    short = tiny_animatediff(motion=MotionSize(2, most_frames=2))
    assert ask(short, noisy(frames=2)).shape == (2, 4, 2, 8, 8)
    with pytest.raises(RecipeError, match="a clip of 3 frames, but the motion modules tell 2 apart at most"):
        ask(short, noisy())


def test_networks_that_motion_modules_cannot_enter() -> None:
    """What diffusers would drop without a word on the way from one class to the other."""
    for changes, words in (
        ({"flip_sin_to_cos": False}, "flip_sin_to_cos is False"),
        ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift"),
        ({"down_block_types": ("CrossAttnDownBlock2D", "AttnDownBlock2D")}, "has a AttnDownBlock2D"),
    ):
        base = dataclasses.replace(tiny_stable_diffusion(0), unet=unet(**changes))
        with pytest.raises(RecipeError, match=words):
            with_motion(base, fresh_motion(base.unet, MotionSize(2), 0))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, and clips: modules of that base that were trained, as far as one can see."""
    root = tmp_path_factory.mktemp("animatediff")
    tiny_stable_diffusion(0, seed=1).save_pipeline(root / "base")
    tiny_animatediff(seed=1, fresh=False).save_pipeline(root / "clips")
    return root


def _adapter(**changes: Any) -> Callable[[Path], None]:
    """Writes an adapter of other sizes."""

    def change(folder: Path) -> None:
        from diffusers import MotionAdapter

        settings: dict[str, Any] = {"block_out_channels": (16, 32), "motion_layers_per_block": 1, "motion_num_attention_heads": 2}
        shutil.rmtree(folder)
        MotionAdapter(**{**settings, "motion_norm_num_groups": 8, **changes}).save_pretrained(folder)

    return change


def _pickled(folder: Path) -> None:
    (folder / "diffusion_pytorch_model.safetensors").rename(folder / "diffusion_pytorch_model.bin")


def _lacking(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if "proj_out" not in name}, file)


def _cut(folder: Path) -> None:
    file = folder / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:500])


def _as_unet(folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "_class_name": "UNet2DConditionModel"}))


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (_pickled, DataError, "its weights are pickled, which is not read"),
        (_lacking, DataError, "lack 14 weights of a MotionAdapter, first down_blocks.0.motion_modules.0.proj_out.bias"),
        (_cut, DataError, "cannot be loaded as a MotionAdapter"),
        (_as_unet, RecipeError, "is a UNet2DConditionModel; expected diffusers' MotionAdapter"),
        (lambda folder: (folder / "config.json").unlink(), DataError, "cannot be loaded as a MotionAdapter"),
        (_adapter(block_out_channels=(16, 64)), RecipeError, r"of widths \[16, 64\], but the base has \[16, 32\]"),
        (_adapter(block_out_channels=(16, 32, 32)), RecipeError, r"of widths \[16, 32, 32\], but the base has \[16, 32\]"),
        (_adapter(motion_layers_per_block=2), RecipeError, r"of layers a block \[2, 2\], but the base has \[1, 1\]"),
        (_adapter(motion_norm_num_groups=4), RecipeError, "of groups of norms 4, but the base has 8"),
        (_adapter(motion_mid_block_layers_per_block=2), RecipeError, "of layers of the middle block 2, but the base has 1"),
        (_adapter(conv_in_channels=9), RecipeError, r"input channels of its own \(PIA\)"),
    ],
)
def test_modules_that_cannot_be_used(
    folders: Path, tmp_path: Path, spoil: Callable[[Path], Any], error: type[RelatumError], words: str
) -> None:
    shutil.copytree(folders / "clips" / "motion_adapter", tmp_path / "adapter")
    spoil(tmp_path / "adapter")
    with pytest.raises(error, match=words):
        with_motion(tiny_stable_diffusion(0), open_motion(str(tmp_path / "adapter")))


def test_names_that_lead_to_no_modules(folders: Path, tmp_path: Path) -> None:
    base, clips = str(folders / "base"), str(folders / "clips")
    (tmp_path / "mm_sd_v15.safetensors").write_bytes(b"")
    for name, words in (
        (str(tmp_path / "mm_sd_v15.safetensors"), "is a single file"),
        ("./nothing", "is neither a folder of one nor a hub id"),
        ("nobody/nothing@main", r"nobody/nothing@main was not found in the local cache \(offline\)"),
        (base, "is neither a folder of one nor a hub id"),  # a pipeline without motion modules
    ):
        with pytest.raises(RecipeError, match=words):
            open_animatediff(base, 0, adapter=name, offline=True)
    for more, words in (
        ({"adapter": clips}, "has motion modules; leave motion_adapter out"),
        ({"size": MotionSize()}, "has motion modules; leave motion out"),
    ):
        with pytest.raises(RecipeError, match=words):
            open_animatediff(clips, 0, **more)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="motion says how large fresh modules are"):
        open_animatediff(base, 0, adapter=clips, size=MotionSize())


def test_adapters_open_by_their_folder_and_by_their_pipelines(folders: Path) -> None:
    whole = open_animatediff(str(folders / "clips"), 0)
    for name in ("clips", "clips/motion_adapter"):
        model = open_animatediff(str(folders / "base"), 0, adapter=str(folders / name))
        assert torch.equal(ask(model, noisy()), ask(whole, noisy()))
    beside = folders / "clips" / "correction.safetensors"
    beside.write_bytes(b"")
    for name in ("clips", "clips/motion_adapter"):
        with pytest.raises(RecipeError, match=r"need its correction\.safetensors"):
            open_animatediff(str(folders / "base"), 0, adapter=str(folders / name))
    beside.unlink()
    assert open_pipeline(str(folders / "clips"), 0).call is whole.call
    assert open_pipeline(str(folders / "base"), 0).call is not whole.call
    file = folders / "clips" / "unet" / "config.json"
    before = file.read_text()
    file.write_text(json.dumps({**json.loads(before), "reverse_motion_num_attention_heads": [2, 2]}))
    with pytest.raises(RecipeError, match="reverse_motion_num_attention_heads"):
        open_animatediff(str(folders / "clips"), 0)
    file.write_text(before)


def test_schedules_and_what_is_said_of_them(folders: Path, tmp_path: Path) -> None:
    """The tiny base is scaled_linear. Published modules tell nothing of theirs; a saved pipeline tells."""
    base, clips = str(folders / "base"), str(folders / "clips")
    shutil.copytree(folders / "clips" / "motion_adapter", tmp_path / "published")
    published = str(tmp_path / "published")
    model = open_animatediff(base, 0, adapter=published)
    assert len(model.notes) == 1
    assert "scaled_linear" in model.notes[0]
    assert AnimateDiffSettings(base, published).notes() == list(model.notes)
    assert not open_animatediff(base, 0, adapter=clips).notes
    assert not AnimateDiffSettings(base, clips).notes()
    linear = open_animatediff(base, 0, adapter=published, beta_schedule="linear")
    assert not linear.notes
    assert not AnimateDiffSettings(base, published, beta_schedule="linear").notes()
    betas = torch.linspace(0.00085, 0.012, 1000, dtype=torch.float64)
    assert (linear.path.abar - (1 - betas).cumprod(0)).abs().max() < 1e-5
    assert (linear.path.abar - model.path.abar).abs().max() > 0.1
    linear.save_pipeline(tmp_path / "linear")
    again = open_animatediff(str(tmp_path / "linear"), 0)
    assert torch.equal(again.path.abar, linear.path.abar)
    assert "trained on linear" in open_animatediff(base, 0, adapter=str(tmp_path / "linear")).notes[0]
    v = open_animatediff(base, 0, prediction_type="v_prediction", rescale_betas_zero_snr=True, beta_schedule="linear")
    assert v.kind.value == "v"
    assert v.path.zero_terminal_snr
    file = tmp_path / "linear" / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "trained_betas": [0.1] * 1000}))
    with pytest.raises(RecipeError, match="trained_betas"):
        open_animatediff(str(tmp_path / "linear"), 0, beta_schedule="scaled_linear")


def test_which_weights_are_trained(folders: Path) -> None:
    base, clips = str(folders / "base"), str(folders / "clips")

    def names(images: int = 0, path: str = base, **settings: Any) -> set[str]:
        return set(AnimateDiffSettings(path, **settings).open(images, 0, 0)[1].parameters)

    every = {name for name, _ in open_animatediff(base, 0).unet.named_parameters()}
    motion = {name for name in every if ".motion_modules." in name}
    assert names() == motion
    assert names(1) == motion | {"conv_in.weight", "conv_in.bias"}  # nothing else could let the picture in
    below = names(train=Trainable("partial", pattern=DOWN_MID))
    assert below == {name for name in motion if not name.startswith("up_blocks")}
    assert {name.split(".")[0] for name in below} == {"down_blocks", "mid_block"}
    more = names(train=Trainable("partial", pattern="motion_modules|down_blocks.*attentions.*attn2"))
    assert motion < more
    assert {".".join(name.split(".")[:3]) for name in more - motion} == {"down_blocks.0.attentions"}
    assert names(train=Trainable("full")) == every
    lora = names(path=clips, train=Trainable("lora", rank=2, pattern="attentions"))
    assert lora
    assert all(".attentions." in name and "lora" in name for name in lora)
    for train in (Trainable("lora", pattern="attentions"), Trainable("lora"), Trainable("partial", pattern="attn2")):
        if train.pattern == "attn2":
            train = dataclasses.replace(train, pattern=r"attentions.*attn2")
        with pytest.raises(RecipeError, match="no frame would ever see another"):
            names(train=train)
    with pytest.raises(RecipeError, match=r"'atentions' matches none of the network's \d+ layers of `targets`"):
        make_trainable(tiny_stable_diffusion(0).unet, Trainable("lora", pattern="atentions"))
    with pytest.raises(ValueError, match="a pattern is for"):
        Trainable("full", pattern="attn2")


def test_folders_of_half_precision_and_those_that_share(folders: Path, tmp_path: Path) -> None:
    model = open_animatediff(str(folders / "clips"), 0)
    model.save_pipeline(tmp_path / "half", dtype=torch.float16)
    sizes = [sum(p.stat().st_size for p in f.rglob("*.safetensors")) for f in (tmp_path / "half", folders / "clips")]
    assert sizes[0] < 0.6 * sizes[1]
    half = open_animatediff(str(tmp_path / "half"), 0)
    assert 0 < (ask(half, noisy()) - ask(model, noisy())).abs().max() < 0.02
    shutil.copytree(folders / "base", tmp_path / "base")
    model.save_pipeline(tmp_path / "lean", shared="base")
    assert sorted(p.name for p in (tmp_path / "lean").iterdir()) == ["model_index.json", "scheduler", "unet"]
    assert torch.equal(ask(open_animatediff(str(tmp_path / "lean"), 0), noisy()), ask(model, noisy()))


def test_modules_are_taken_out_with_all_their_settings() -> None:
    size = MotionSize(heads=4, most_frames=9, layers=2, mid_block=True, mid_layers=3)
    model = tiny_animatediff(fresh=False, motion=size)
    again = with_motion(tiny_stable_diffusion(0), motion_of(model.unet))
    assert torch.equal(ask(again, noisy()), ask(model, noisy()))
    assert again.unet.config.motion_max_seq_length == 9  # type: ignore[union-attr]
    headless = tiny_animatediff(motion=MotionSize(2, mid_block=False))
    assert not motion_of(headless.unet).config.use_motion_mid_block


def test_corrections_of_clips(tmp_path: Path) -> None:
    """x0 is the target, so m is the mean itself: .8 y + .2 m, with a mean of its own for each frame, or a picture's for all."""
    model = tiny_animatediff(seed=4, fresh=False, prediction_type="sample")
    raw, mean = ask(model, noisy()), torch.randn(1, 4, 3, 8, 8)
    correction = Correction(0.2, mean)
    dataclasses.replace(model, correction=correction).save_pipeline(tmp_path / "clips")
    again = open_animatediff(str(tmp_path / "clips"), 0)
    assert torch.allclose(ask(again, noisy()), 0.8 * raw + 0.2 * mean, atol=1e-6)
    with pytest.raises(ShapeError, match=r"latents of \(3, 8, 8\), found \(2, 8, 8\)"):
        ask(again, noisy(frames=2))
    picture = dataclasses.replace(tiny_stable_diffusion(0, prediction_type="sample"), correction=Correction(0.2, mean[:, :, 0]))
    picture.save_pipeline(tmp_path / "picture")
    clips = open_animatediff(str(tmp_path / "picture"), 0)
    assert torch.allclose(ask(clips, noisy()), 0.8 * frame_by_frame(picture, noisy()) + 0.2 * mean[:, :, :1], atol=1e-6)


def test_corrections_follow_the_levels_of_frames() -> None:
    """v: the target is alpha eps - sigma x0, so m = -sigma_t * mean: each frame its own."""
    model = tiny_animatediff(seed=4, prediction_type="v_prediction")
    times = torch.tensor([[3.0, 250.0, 999.0], [700.0, 0.0, 41.0]])
    raw, mean = ask(model, noisy(), times), torch.randn(1, 4, 8, 8)
    handle = Correction(0.2, mean).attach(model.unet, model.kind, model.path)
    sigma = (1 - model.path.abar[times.long()]).sqrt()
    want = 0.8 * raw - 0.2 * expand(sigma, raw) * mean[:, :, None]
    assert torch.allclose(ask(model, noisy(), times), want, atol=1e-6)
    handle.remove()
    assert torch.equal(ask(model, noisy(), times), raw)


def test_copies_averages_and_checkpoints(tmp_path: Path) -> None:
    """A copy for reference stays as it is; a checkpoint brings back the weights, and the averages theirs."""
    model = tiny_animatediff(seed=5, fresh=False)
    trained = make_trainable(model.unet, Trainable("partial", pattern="motion_modules"))
    denoiser = model.denoiser(reference=copy.deepcopy(model.unet))
    before = ask(model, noisy())
    ema = EMA(denoiser, decay=0.5)
    save_weights(denoiser, tmp_path / "unet")
    with torch.no_grad():
        for parameter in trained.parameters.values():
            parameter.add_(0.1)
    after = ask(model, noisy())
    assert (after - before).abs().max() > 1e-3
    reference = dataclasses.replace(model, unet=denoiser._copy[0])  # type: ignore[arg-type]
    assert torch.equal(ask(reference, noisy()), before)
    with ema.applied(denoiser):
        assert torch.equal(ask(model, noisy()), before)
    assert torch.equal(ask(model, noisy()), after)
    assert json.loads((tmp_path / "unet" / "config.json").read_text())["_class_name"] == "UNetMotionModel"
    load_weights(denoiser, tmp_path / "unet")
    assert torch.equal(ask(model, noisy()), before)


def recipe_of(folder: Path, base: Path, cache: Path, **sections: Any) -> Any:
    """Four steps on two toy clips each, a checkpoint every two, the average kept."""
    import tomli_w

    from relatum.recipe import read_recipe

    clips = {"kind": "toy_clips", "frames": 3, "grounds": "white"}
    table: dict[str, Any] = {
        "name": "clips",
        "data": {"train": {**clips, "count": 8}, "test": {**clips, "count": 2, "split": "test"}, "resolution": 16},
        "model": {"kind": "animatediff", "pretrained_model_name_or_path": str(base), "motion": {"heads": 2, "most_frames": 4}},
        "task": {"kind": "video"},
        "objectives": {"denoise": {"kind": "denoise"}},
        "train": {"max_train_steps": 4, "train_batch_size": 2, "checkpointing_steps": 2, "validation_steps": 4, "use_ema": True},
        "sample": {"num_inference_steps": 2},
        "output_dir": str(folder / "run"),
        "cache_dir": str(cache),
    }
    for name, section in sections.items():
        table[name] = {**table[name], **section}
    folder.mkdir()
    (folder / "recipe.toml").write_bytes(tomli_w.dumps(table).encode())
    return read_recipe(folder / "recipe.toml")


def test_a_run_on_clips_goes_on_to_the_same_bits(folders: Path, tmp_path: Path) -> None:
    """From its second step; the network is given the first frame, so its first layer is trained with the motion modules."""
    from safetensors.torch import load_file

    from relatum.jobs.opening import open_final
    from relatum.jobs.training import DONE, train_recipe

    recipe = recipe_of(tmp_path / "one", folders / "base", tmp_path / "cache", task={"given": "first"})
    train_recipe(recipe, quiet=True)
    run = tmp_path / "one" / "run"
    weights = run / "final" / "unet" / "diffusion_pytorch_model.safetensors"
    whole = load_file(weights)
    moved = [name for name, tensor in whole.items() if name.endswith("motion_modules.0.proj_out.weight") and bool(tensor.any())]
    assert len(moved) == 5
    assert bool(whole["conv_in.weight"][:, 4:].any())
    for name in ("final", "checkpoints/checkpoint-4"):
        shutil.rmtree(run / name)
    (run / DONE).unlink()
    for word in ("latest", "last-good"):
        if (run / "checkpoints" / word).is_file():
            (run / "checkpoints" / word).write_text("checkpoint-2\n")
    second = (run / "checkpoints" / "checkpoint-2" / "trainer_state.json").stat().st_mtime_ns
    train_recipe(recipe, quiet=True)
    assert (run / "checkpoints" / "checkpoint-2" / "trainer_state.json").stat().st_mtime_ns == second  # not made again
    again = load_file(weights)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in again.items())
    model, task = open_final(run, recipe)
    assert model.images == task.images == 1
    assert model.makes_clips
    assert not model.widened


def test_check_says_what_a_recipes_modules_were_trained_on(folders: Path, tmp_path: Path) -> None:
    """The adapter's path is relative to the recipe's folder; `motion` would be the size of fresh ones."""
    from relatum.jobs.checking import check_recipe

    recipe = recipe_of(tmp_path / "one", folders / "base", tmp_path / "cache")
    shutil.copytree(folders / "clips" / "motion_adapter", tmp_path / "one" / "published")
    recipe = dataclasses.replace(recipe, model={**recipe.model, "motion_adapter": "published"})
    del recipe.model["motion"]
    lines = [line for line in check_recipe(recipe) if "beta_schedule" in line]
    assert len(lines) == 1
    assert lines[0].startswith("model: the base's beta_schedule is scaled_linear; the motion modules of ")


def test_clips_that_are_too_long_are_told_of_before_any_step(folders: Path, tmp_path: Path) -> None:
    from relatum.jobs.training import train_recipe

    motion = {"motion": {"heads": 2, "most_frames": 2}}
    recipe = recipe_of(tmp_path / "one", folders / "base", tmp_path / "cache", model=motion)
    with pytest.raises(RecipeError, match="a clip of 3 frames, but the motion modules tell 2 apart at most"):
        train_recipe(recipe, quiet=True)
    assert not (tmp_path / "cache").exists()
