"""`relatum compare` where trainings diverge: the others go on, nothing is trained twice, and the report says so."""

from __future__ import annotations

import shutil
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from relatum.cli import main
from relatum.compare.schema import Report, from_json
from support.runs import tiny_recipe

PLUGIN = '''
"""An objective that is not finite with some seeds, from some sample on."""

from dataclasses import dataclass

import torch

from relatum.core.outcome import MATCHED, Outcome
from relatum.core.registry import objective


@objective("breaks")
@dataclass(frozen=True)
class Breaks:
    seeds: tuple[int, ...] = ()
    after: int = 4
    asks = (MATCHED,)

    def __call__(self, outcome: Outcome) -> torch.Tensor:
        first = outcome.draws.addresses[0]
        bad = outcome.draws.seed in self.seeds and not isinstance(first, str) and first >= self.after
        return outcome.error() * (float("nan") if bad else 1.0)
'''


def broken(*seeds: int) -> dict[str, Any]:
    """An arm whose training breaks at its second update (batches of four samples) with these seeds."""
    return {"objectives": {"breaks": {"kind": "breaks", "seeds": list(seeds), "weight": 0.1}}}


def recipe_of(folder: Path, tiny: Path, cache: Path, arms: dict[str, Any], **compare: Any) -> Path:
    (folder / "breaks.py").write_text(PLUGIN)
    return tiny_recipe(
        folder,
        tiny,
        cache,
        plugins=["breaks.py"],
        arms=arms,
        train={"max_train_steps": 2, "validation_steps": 2, "checkpointing_steps": 2},
        evaluate={"metrics": ["psnr", "kd"], "rows": 4},
        compare={"headline": "psnr", **compare},
    )


def report_of(recipe: Path) -> tuple[Report, str, str]:
    folder = recipe.with_suffix("")
    return (
        from_json((folder / "report.json").read_text()),
        (folder / "report.html").read_text(),
        (folder / "report.md").read_text(),
    )


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The trials that were trained, "ARM/seed-N"."""
    import relatum.jobs.training

    real, found = relatum.jobs.training.train, list[str]()

    def train(job: Any) -> Any:
        found.append("/".join(job.folder.parts[-2:]))
        return real(job)

    monkeypatch.setattr(relatum.jobs.training, "train", train)
    return found


def test_an_arm_that_diverges_with_one_seed_is_compared_with_the_others(
    tmp_path: Path, tiny: Path, cache: Path, trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Seeds 0 and 1; "fragile" breaks with seed 0, "hopeless" with both, "twin" is trained as "hopeless" and so not trained."""
    arms = {"mse": {}, "fragile": broken(0), "hopeless": broken(0, 1), "twin": broken(0, 1)}
    arms["twin"]["sample"] = {"guidance_scale": 1.5}
    recipe = recipe_of(tmp_path, tiny, cache, arms, seeds=[0, 1], may_differ=["sample"])
    assert main(["compare", str(recipe)]) == 0
    said = capsys.readouterr().out
    assert "arm fragile, seed 0 (2 of 8): diverged at update 1; the other trials go on" in said
    assert len(trained) == 6
    report, page, text = report_of(recipe)
    assert [(one.arm, one.seed, one.update) for one in report.divergences] == [
        ("fragile", 0, 1), ("hopeless", 0, 1), ("twin", 0, 1), ("hopeless", 1, 1), ("twin", 1, 1)
    ]  # fmt: skip
    assert "term 'breaks' is not finite" in report.divergences[0].reason
    seeds = {(e.arm, e.metric): e.seeds for e in report.estimates}
    assert seeds == {(arm, m): n for arm, n in (("mse", 2), ("fragile", 1)) for m in {m.metric for m in report.measures}}
    fragile = next(d for d in report.differences if d.arm == "fragile" and d.metric == "psnr")
    assert (fragile.seeds, fragile.n, fragile.undefined, fragile.verdict) == (1, 4, 0, "no evidence")
    assert fragile.by_seed == (None, fragile.estimate)
    start = "fragile diverged in 1 of 2 seeds (at update 1). In the one seed that both have: "
    assert fragile.words.startswith(start)
    assert start.strip() in text
    assert "fragile (1 of 2 seeds)" in text
    verdicts = {d.arm: d.verdict for d in report.differences if d.metric == "psnr"}
    assert verdicts["hopeless"] == verdicts["twin"] == "diverged"
    assert "hopeless diverged in 2 of 2 seeds (at updates 1 and 1)" in page
    assert report.cost.keys() == report.loss_by_level.keys() == {"mse", "fragile"}
    assert report.cost["fragile"].note == "1 of 2 seeds"
    assert report.grids[0].columns == ("source", "target", "mse", "fragile")  # of seed 1, with which most came to their end
    assert report.grids[0].note.startswith("Seed 1;")
    assert "Not shown: hopeless, twin, which diverged" in report.grids[0].note

    assert main(["compare", str(recipe)]) == 0  # nothing is left to train
    assert len(trained) == 6
    assert report_of(recipe)[0].divergences == report.divergences


class Pool:
    """An executor that works at once, in this process."""

    def __init__(self, *settings: Any) -> None:
        pass

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def submit(self, work: Any, *arguments: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(work(*arguments))
        return done


def test_without_the_baseline_nothing_is_compared(
    tmp_path: Path, tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Side by side: a worker's trial that diverges does not end the others. Then every trial diverges: still a report."""
    monkeypatch.setattr("relatum.compare.trials.ProcessPoolExecutor", Pool)
    recipe = recipe_of(tmp_path, tiny, cache, {"mse": broken(0), "sound": {}}, seeds=[0], workers=2)
    assert main(["compare", str(recipe)]) == 0
    said = capsys.readouterr().out
    assert "arm mse, seed 0 (1 of 2): diverged at update 1" in said
    assert "trained arm sound, seed 0 (2 of 2)" in said
    report, page, text = report_of(recipe)
    assert {e.arm for e in report.estimates} == {"sound"}
    (only,) = report.differences
    assert (only.arm, only.metric, only.verdict, only.estimate, only.n) == ("sound", "psnr", "no evidence", None, 0)
    words = "mse diverged in 1 of 1 seed (at update 1). Nothing can be compared: the baseline has no estimates."
    assert only.words == words
    assert words in page
    assert words in text
    assert "another row" not in str([c.arm for c in report.controls])

    recipe = recipe_of(tmp_path, tiny, cache, {"mse": broken(0), "sound": broken(0, 1)}, seeds=[0])
    shutil.rmtree(recipe.with_suffix(""))
    assert main(["compare", str(recipe)]) == 0
    report, page, _ = report_of(recipe)
    assert report.estimates == ()
    assert {c.arm for c in report.controls} == {"copy the source", "round trip of the target"}
    assert [d.verdict for d in report.differences] == ["diverged"]


def test_what_diverged_stays_so_until_its_folder_is_deleted(
    tmp_path: Path, tiny: Path, cache: Path, trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_of(tmp_path, tiny, cache, {"mse": broken(0), "sound": broken(0, 1)}, seeds=[0])
    assert main(["compare", str(recipe)]) == 0
    recipe_of(tmp_path, tiny, cache, {"mse": broken(0), "sound": broken(0, 2)}, seeds=[0])
    assert main(["compare", str(recipe)]) == 2
    assert "sound/seed-0 holds a run of other settings, which diverged" in capsys.readouterr().err
    arms = recipe.with_suffix("") / "arms"
    shutil.rmtree(arms / "sound" / "seed-0")
    assert main(["compare", str(recipe)]) == 0
    assert trained == ["mse/seed-0", "sound/seed-0", "sound/seed-0"]
    kept = arms / "mse" / "seed-0" / "diverged.json"
    kept.write_text("{}")
    assert main(["compare", str(recipe)]) == 3
    assert f"{kept}: not the end of a trial" in capsys.readouterr().err
