"""Strict loading: every wrong key, type or value is an error that names its place in the recipe and the near name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from relatum.core.errors import RecipeError
from relatum.core.load import load
from relatum.core.registry import Registry


@dataclass(frozen=True)
class Optimizer:
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, found {self.learning_rate}")


@dataclass(frozen=True)
class Train:
    steps: int
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(1e-4))
    precision: Literal["no", "bf16"] = "no"
    resume: bool = True
    snr_gamma: float | None = None
    folder: Path | None = None
    names: list[str] = field(default_factory=list)
    weights: Mapping[str, float] = field(default_factory=dict)
    extra: Any = None


def test_a_whole_table() -> None:
    table = {
        "steps": 100,
        "optimizer": {"learning_rate": 1, "betas": [0.5, 1]},
        "precision": "bf16",
        "snr_gamma": 5,
        "folder": "data/x",
        "names": ["a"],
        "weights": {"pull": 2},
        "extra": {"any": "thing"},
    }
    want = Train(100, Optimizer(1.0, (0.5, 1.0)), "bf16", True, 5.0, Path("data/x"), ["a"], {"pull": 2.0}, {"any": "thing"})
    got = load(Train, table, "train")
    assert got == want
    assert isinstance(got.snr_gamma, float)
    assert isinstance(got.weights["pull"], float)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"stepz": 1}, "train.stepz: Train has no setting 'stepz'; did you mean 'steps'?"),
        (
            {"steps": 1, "optimizer": {"learning_rat": 1.0}},
            "train.optimizer.learning_rat: Optimizer has no setting 'learning_rat'; did you mean",
        ),
        ({}, "train: Train needs a value for 'steps' (a whole number)"),
        ({"steps": 1, "optimizer": {}}, "train.optimizer: Optimizer needs a value for 'learning_rate' (a number)"),
        ({"steps": "ten"}, "train.steps: expected a whole number, found the string 'ten'"),
        ({"steps": 1.5}, "train.steps: expected a whole number, found the number 1.5"),
        ({"steps": True}, "train.steps: expected a whole number, found the boolean True"),
        ({"steps": 1, "resume": 1}, "train.resume: expected true or false, found the number 1"),
        ({"steps": 1, "precision": "bf15"}, "train.precision: found 'bf15', expected one of 'no', 'bf16'; did you mean 'bf16'?"),
        ({"steps": 1, "snr_gamma": "5e-5"}, "train.snr_gamma: expected a number, found the string '5e-5'"),
        ({"steps": 1, "names": "a"}, "train.names: expected a list, found the string 'a'"),
        ({"steps": 1, "names": ["a", 2]}, "train.names[1]: expected a string, found the number 2"),
        ({"steps": 1, "weights": {"pull": "much"}}, "train.weights.pull: expected a number, found the string 'much'"),
        ({"steps": 1, "optimizer": 3}, "train.optimizer: expected a table, found the number 3"),
        ({"steps": 1, "optimizer": {"learning_rate": 1.0, "betas": [1.0]}}, "train.optimizer.betas: expected 2 values, found 1"),
        ({"steps": 1, "optimizer": {"learning_rate": -1.0}}, "train.optimizer: learning_rate must be positive, found -1.0"),
    ],
)
def test_wrong_tables_are_named(table: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(Train, table, "train")
    assert says in str(caught.value)


def test_something_else_than_a_table() -> None:
    with pytest.raises(RecipeError, match=r"^train: expected a table, found a list"):
        load(Train, [("steps", 1)], "train")


def test_settings_that_are_not_set_by_init_are_unknown() -> None:
    @dataclass
    class Counter:
        start: int = 0
        seen: int = field(default=0, init=False)

    with pytest.raises(RecipeError, match="no setting 'seen'"):
        load(Counter, {"seen": 3}, "counter")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"kind": "contrst"}, "objectives.pull.kind: no term of kind 'contrst'; did you mean 'contrast'?"),
        ({}, "objectives.pull.kind: say which term; known: contrast"),
        (
            {"kind": "contrast", "temprature": 2},
            "objectives.pull.temprature: Contrast has no setting 'temprature'; did you mean 'temperature'?",
        ),
    ],
)
def test_registry_names_what_is_wrong(table: dict[str, Any], says: str) -> None:
    term: Registry = Registry("term")

    @term("contrast")
    @dataclass(frozen=True)
    class Contrast:
        temperature: float = 1.0

    assert term.build({"kind": "contrast", "temperature": 2}, "objectives.pull") == Contrast(2.0)
    with pytest.raises(RecipeError) as caught:
        term.build(table, "objectives.pull")
    assert says in str(caught.value)


def test_two_classes_of_one_name_are_refused() -> None:
    term: Registry = Registry("term")

    @term("same")
    @dataclass
    class One: ...

    with pytest.raises(RecipeError, match="two terms are named 'same'"):

        @term("same")
        @dataclass
        class Two: ...

    assert term("same")(One) is One  # importing a file twice is not a clash


def test_what_a_dataclass_refuses_says_in_which_table() -> None:
    @dataclass
    class Range:
        low: float = 0.0

        def __post_init__(self) -> None:
            if self.low < 0:
                raise RecipeError(f"expected a low of 0 or more, found {self.low}")

    with pytest.raises(RecipeError, match=r"^keep\.motion: expected a low of 0 or more, found -1\.0$"):
        load(Range, {"low": -1}, "keep.motion")
