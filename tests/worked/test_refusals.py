"""Settings that cannot work are refused before anything is opened or written: where, what was found, what to do."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from relatum.core.errors import DataError, RecipeError
from relatum.core.registry import Registry
from relatum.core.toml import merged
from relatum.data.parquet import Parquet
from relatum.data.toy import ToyEdits
from relatum.data.webdataset import WebDataset
from relatum.engine.settings import TrainSettings
from relatum.jobs.checking import check_recipe, check_settings
from relatum.models.schedulers import SAMPLERS, build_scheduler, check_sampler, set_steps
from relatum.objectives.blend import Weighted
from relatum.objectives.denoise import Denoise
from relatum.recipe import Recipe, recipe_from

BASE: dict[str, Any] = {
    "name": "plain",
    "data": {"train": {"kind": "toy", "count": 8}, "test": {"kind": "toy", "split": "test", "count": 4}, "resolution": 16},
    "model": {"kind": "stable_diffusion", "pretrained_model_name_or_path": "nowhere"},
    "task": {"kind": "edit"},
    "evaluate": {"metrics": ["psnr", "preservation", "fd", "fd_null", "fd_debiased"]},
    "compare": {"headline": "psnr"},
}
INF, NAN = float("inf"), float("nan")
ARMS = {"arms": {"a": {}, "b": {}}}


def recipe(**more: Any) -> Recipe:
    return recipe_from(merged(BASE, more), Path("."))


def sections(kind: str, **cases: tuple[Any, str]) -> list[Any]:
    return [pytest.param({kind: {key.rstrip("_"): value}}, says, id=f"{kind}.{key}") for key, (value, says) in cases.items()]


def test_what_all_cases_start_from_is_sound() -> None:
    assert check_recipe(recipe(**ARMS))[0].startswith("8 training rows, 4 held out")


NAMES = ["", " ", "..", ".hidden", "../up", "a/b", "a\\b", "a\nb", "a\0b", "a\x7f", "\ud800", "x" * 101, "\u00e9" * 51]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_become_folders(name: str) -> None:
    with pytest.raises(RecipeError, match="cannot name a folder") as found:
        recipe(name=name)
    str(found.value).encode()
    with pytest.raises(RecipeError, match=r"^arms\..*cannot name a folder"):
        recipe(arms={"a": {}, name: {}})


def test_names_that_stay() -> None:
    assert recipe(name="x" * 100, arms={"Größe 2": {}, "a.b": {}, "\u00e9" * 50: {}}).name == "x" * 100
    with pytest.raises(RecipeError, match=r"'Straße' and 'STRASSE' differ only in case"):
        recipe(arms={"Straße": {}, "STRASSE": {}})


LOADED = [
    *sections(
        "data",
        resolution=(4097, r"data.resolution is 4097, expected 8 to 4096"),
        resolution_=(7, r"data.resolution is 7"),
        held_out=(1.5, r"data.held_out is 1.5, expected a share"),
        held_out_=(INF, r"data.held_out: expected a finite number, found inf"),
        held_out__=(NAN, r"found nan"),
        held_out___=(0, r"data.held_out is 0"),
        held_out____=(-1, r"data.held_out is -1"),
        held_out_____=(10**400, r"data.held_out: expected a finite number"),
    ),
    *sections(
        "train",
        learning_rate=(NAN, r"train.learning_rate: expected a finite number, found nan"),
        learning_rate_=(0, r"train.learning_rate is 0"),
        max_grad_norm=(-1.0, r"train.max_grad_norm is -1"),
        adam_beta1=(1.0, r"train.adam_beta1 is 1.0, expected 0 or more and below 1"),
        adam_beta2=(-0.1, r"train.adam_beta2"),
        adam_epsilon=(0.0, r"train.adam_epsilon"),
        adam_weight_decay=(-0.1, r"train.adam_weight_decay"),
        lr_warmup_steps=(-1, r"train.lr_warmup_steps is -1, expected 0 or more"),
        sample_rows=(-1, r"train.sample_rows"),
    ),
    *sections(
        "sample",
        num_inference_steps=(1001, r"num_inference_steps is 1001, expected at least 1, at most 1000"),
        num_inference_steps_=(0, r"num_inference_steps is 0"),
        guidance_scale=(INF, r"sample.guidance_scale: expected a finite number"),
        image_guidance_scale=(NAN, r"sample.image_guidance_scale: expected a finite number"),
    ),
    *sections(
        "evaluate",
        rows=(0, r"evaluate.rows is 0, expected 1 or more"),
        batch_size=(0, r"evaluate.batch_size is 0"),
        metrics=([], r"evaluate.metrics is empty"),
    ),
    *sections(
        "compare",
        workers=(0, r"compare.workers is 0"),
        resamples=(1, r"compare.resamples is 1, expected 2 or more"),
        grid_rows=(-1, r"compare.grid_rows is -1"),
        smallest_effect=({"psnr": -0.1}, r"compare.smallest_effect.psnr is -0.1"),
        smallest_effect_=({"psnr": NAN}, r"compare.smallest_effect.psnr: expected a finite number"),
    ),
]


@pytest.mark.parametrize(("override", "says"), LOADED)
def test_numbers_out_of_range(override: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        recipe(**override)


def test_the_edges_of_the_ranges_are_in() -> None:
    assert recipe(data={"held_out": 3}).data.held_out == 3.0
    assert recipe(data={"resolution": 4096}, train={"adam_beta1": 0, "adam_weight_decay": 0}).train.adam_beta1 == 0.0
    assert recipe(sample={"num_inference_steps": 1000}, compare={"grid_rows": 0, "resamples": 2}).compare.grid_rows == 0


@pytest.mark.parametrize("name", ["learning_rate", "max_grad_norm", "adam_epsilon", "adam_beta1", "adam_weight_decay", "ema_decay"])
@pytest.mark.parametrize("value", [NAN, INF])
def test_settings_that_were_not_loaded_are_checked_too(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(RecipeError, match=f"train.{name} is {value}"):
        TrainSettings(**settings)


TERM = {"kind": "denoise"}
UNBUILDABLE = [
    ({"objectives": {"denoise": {"kind": ["denoise"]}}}, r"objectives.denoise.kind: expected the objective's name, found \["),
    ({"task": {"kind": {"a": 1}}}, r"task.kind: expected the task's name"),
    ({"objectives": {"denoise": {**TERM, "weight": NAN}}}, r"objectives.denoise.weight: expected a finite number"),
    ({"objectives": {"denoise": {**TERM, "warmup_steps": -1}}}, r"objectives.denoise: warmup_steps is -1"),
    ({"objectives": {"denoise": {**TERM, "snr_gamma": 0}}}, r"objectives.denoise: snr_gamma is 0"),
    ({"objectives": {"denoise": TERM, "b": {**TERM, "cap": -1}}}, r"objectives.b: cap is -1"),
    ({"train": {"step": "os:path"}}, r"train.step: 'os:path' is no function of \(parts, batch"),
    ({"train": {"step": "os:getcwd"}}, r"train.step: 'os:getcwd' is no function"),
    ({"train": {"step": "math"}}, r"train.step"),
    ({"train": {"step": ".x:y"}}, r"train.step: '.x:y' is not module:function"),
    ({"sample": {"scheduler_options": {"nope": 1}}}, r"DDIMScheduler has no setting 'nope'"),
    ({"sample": {"scheduler_options": {"beta_schedule": "nope"}}}, r"DDIMScheduler does not take .*NotImplementedError"),
    ({"sample": {"scheduler_options": {"timestep_spacing": "nope"}}}, r"DDIMScheduler cannot make 20 steps"),
    ({"sample": {"scheduler_options": {"num_train_timesteps": 10}}}, r"schedule has 10 timesteps; take 1 to 10"),
    ({"sample": {"scheduler_options": {"num_train_timesteps": "x"}}}, r"DDIMScheduler does not take"),
    ({"sample": {"scheduler_options": {"clip_sample": "no"}}}, r"DDIMScheduler.clip_sample: expected true or false"),
    ({"sample": {"scheduler_options": {"beta_end": NAN}}}, r"DDIMScheduler.beta_end: expected a finite number"),
    ({"sample": {"scheduler": "LCMScheduler", "num_inference_steps": 60}}, r"LCMScheduler cannot make 60 steps"),
    ({**ARMS, "compare": {"headline": "psnr.nope"}}, r"arms cannot be judged by 'psnr.nope'; they can by psnr$"),
    ({**ARMS, "compare": {"headline": "preservation.nope"}}, r"they can by preservation, preservation.mse"),
    ({**ARMS, "compare": {"headline": "fd_null"}}, r"compare.headline: 'fd_null' has no interval"),
    ({**ARMS, "compare": {"headline": "fd_debiased"}}, r"compare.headline: 'fd_debiased' has no interval"),
    ({**ARMS, "compare": {"smallest_effect": {"psnr.x": 1.0}}}, r"arms cannot be judged by 'psnr.x'"),
    ({"data": {"train": {"count": 2**40}}}, r"data.train: count: found 1099511627776"),
    ({"data": {"train": {"kind": ["toy"]}}}, r"data.train.kind: expected the reader's name"),
]


@pytest.mark.parametrize(("override", "says"), UNBUILDABLE)
def test_what_check_refuses(override: dict[str, Any], says: str) -> None:
    made = recipe(**override)
    with pytest.raises(RecipeError, match=says):
        check_recipe(made)


@pytest.mark.parametrize("headline", ["psnr", "preservation.mse", "fd"])
def test_headlines_that_decide(headline: str) -> None:
    check_settings(recipe(**ARMS, compare={"headline": headline, "smallest_effect": {headline: 0.0}}))


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")  # of diffusers, in KDPM2
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_passes_with_its_own_settings(name: str) -> None:
    check_sampler(name, {}, 20)


def test_more_steps_than_the_schedule_has() -> None:
    scheduler = build_scheduler("EulerDiscreteScheduler", {"num_train_timesteps": 30})
    set_steps(scheduler, 30)
    with pytest.raises(RecipeError, match="num_inference_steps is 31, but the model's schedule has 30"):
        set_steps(scheduler, 31)


def test_a_term_made_by_hand() -> None:
    term: Any = Denoise()
    assert Weighted(term, weight=-1.0).weight == -1.0
    with pytest.raises(RecipeError, match="weight is nan"):
        Weighted(term, weight=NAN)


def test_an_empty_list_of_files() -> None:
    for reader in (Parquet, WebDataset):
        with pytest.raises(DataError, match="path: the list is empty"):
            reader(path=[]).rows()


def test_toy_rows_are_counted_in_words_of_a_machine() -> None:
    assert len(ToyEdits(count=2**40 - 1).rows()) == 2**40 - 1


@pytest.mark.parametrize(
    ("ends", "says"), [("import sys; sys.exit(0)", "SystemExit: 0"), ("raise BaseException('x')", "BaseException: x")]
)
def test_a_plugin_that_ends_the_process(tmp_path: Path, ends: str, says: str) -> None:
    (tmp_path / "mine.py").write_text(ends)
    before = set(sys.modules)
    with pytest.raises(RecipeError, match=f"mine.py failed at import: {says}"):
        recipe_from({**BASE, "plugins": ["mine.py"]}, tmp_path)
    assert not [name for name in set(sys.modules) - before if name.startswith("relatum_plugin")]


def test_a_plugin_that_is_interrupted(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise KeyboardInterrupt")
    before = set(sys.modules)
    with pytest.raises(KeyboardInterrupt):
        recipe_from({**BASE, "plugins": ["mine.py"]}, tmp_path)
    assert not [name for name in set(sys.modules) - before if name.startswith("relatum_plugin")]


def test_a_step_whose_module_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "step_that_exits.py").write_text("raise SystemExit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(RecipeError, match=r"train.step: 'step_that_exits:step'"):
        check_settings(recipe(train={"step": "step_that_exits:step"}))


def test_a_class_that_is_no_dataclass() -> None:
    mine: Registry[Any] = Registry("objective")
    with pytest.raises(RecipeError, match="objective 'plain': Plain is no dataclass; write @dataclass below @objective"):

        @mine("plain")
        class Plain:
            asks = ()

    assert not mine.classes
