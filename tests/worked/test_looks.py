"""Looks: scores in CLIP's space, two captions merged, and looks run over clips, which fail, run out of memory and are killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch

from relatum.core.errors import DataError, RecipeError
from relatum.curation.base import Clip, Facts, Look, Shown
from relatum.curation.looking import JpegStills, look_at, needed, pick
from relatum.curation.stages.aesthetic import Aesthetic
from relatum.curation.stages.caption_image import ImageCaption
from relatum.curation.stages.caption_merged import MergedCaption
from relatum.curation.stages.caption_video import VideoCaption
from relatum.curation.stages.clip_score import ClipScore
from relatum.curation.store import Store
from support.captioners import save_all, save_head


def still(number: int, height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


def shown(number: int, stills: int = 9, content: str = "a" * 64, **texts: list[str]) -> Shown:
    clip = Clip(f"clip{number}", content, number * 50, number * 50 + 50, 2.0 * number, 2.0 * number + 2, 0, 1, "hard", "edge")
    return Shown(clip, [still(100 * number + i) for i in range(stills)], texts, {"motion.mean": 0.1 * number})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_all(tmp_path_factory.mktemp("models"))


def test_scores_are_those_of_transformers(models: Path, tmp_path: Path) -> None:
    """Stills of the model's own 16 px, so that nothing is resized; the head adds numbers 1 to 8 times those of the embedding."""
    from PIL import Image
    from transformers import CLIPModel, CLIPProcessor

    path = str(models / "clip")
    stills, caption = [still(i, 16, 16) for i in range(3)], "a red ball rolls to the left"
    model, processor = CLIPModel.from_pretrained(path), CLIPProcessor.from_pretrained(path, backend="pil")
    with torch.no_grad():
        out = model(**processor(text=[caption], images=[Image.fromarray(one) for one in stills], return_tensors="pt"))
    truth = (out.image_embeds @ out.text_embeds.T)[:, 0]
    look = ClipScore(path, captions=("merged", "sidecar"))
    look.open("cpu")
    clip = Shown(shown(0).clip, stills, {"merged": [], "image": ["other words"], "sidecar": [caption, "more"]}, {})
    facts = look([clip])[0]
    np.testing.assert_allclose(facts["scores"], truth.numpy(), atol=2e-4)
    np.testing.assert_allclose(facts["score"], truth.mean().item(), atol=2e-4)
    assert facts["caption"] == "sidecar"
    mean = torch.nn.functional.normalize(out.image_embeds.mean(0), dim=0)
    np.testing.assert_allclose(facts["embedding"], mean.numpy(), atol=2e-4)

    without = look([Shown(clip.clip, stills, {"image": ["other words"]}, {})])[0]
    assert without == {"score": None, "scores": None, "caption": None, "embedding": facts["embedding"]}

    head = save_head(tmp_path / "head.safetensors", {"weight": [[1.0, 2, 3, 4, 5, 6, 7, 8]], "bias": [0.0]})
    pleasing = Aesthetic(path, str(head))
    pleasing.open("cpu")
    scores = out.image_embeds @ torch.arange(1.0, 9)
    np.testing.assert_allclose(pleasing([clip])[0]["scores"], scores.numpy(), atol=2e-3)
    np.testing.assert_allclose(pleasing([clip])[0]["score"], scores.mean().item(), atol=2e-3)
    with pytest.raises(DataError, match="knows pictures and words in one space"):
        ClipScore("tinyconv").open("cpu")


def test_merging_by_a_language_model(models: Path) -> None:
    look = MergedCaption(str(models / "gpt"), prompt="Image: {image} Video: {video} Caption:", tokens=6)
    look.open("cpu")
    seen: list[str] = []
    ask = look._writer

    def listen(prompts: list[str], template: Any) -> Any:
        seen.extend(prompts)
        return ask(prompts, template)

    look._writer = listen
    clips = [
        shown(0, image=["a {video} dog"], video=["runs"]),
        shown(1, image=["a cat"]),
        shown(2, image=["a " * 200], video=["b"]),
    ]
    facts = look(clips)
    assert seen[0] == "Image: a {video} dog Video: runs Caption:"  # a caption's braces are its own
    assert (facts[0]["text"] is None) == (facts[0]["text_fault"] is not None)
    assert facts[1] == {"text": None, "text_fault": "no caption 'video' to merge"}
    assert facts[2] == {"text": None, "text_fault": "prompt and answer are longer than the model reads"}
    plain = MergedCaption()
    plain.open("cpu")
    assert plain(clips)[0] == {"text": "A {video} dog. Runs.", "text_fault": None}
    with pytest.raises(RecipeError, match=r"has no \{video\}"):
        MergedCaption(prompt="{image}")


def test_which_stills() -> None:
    """8 of 9 are k 8/7 = 0, 1.14, 2.29, 3.43, 4.57, 5.71, 6.86, 8."""
    assert pick(8, 9) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert (pick(1, 9), pick(3, 9), pick(3, 5), pick(0, 9), pick(2, 0)) == ([4], [0, 4, 8], [0, 2, 4], [], [])
    assert (pick(3, 2), pick(8, 3)) == ([0, 0, 1], [0, 0, 1, 1, 1, 1, 2, 2])  # halves to the even one
    image, video = ImageCaption("x"), VideoCaption("x")
    assert (needed({}), needed({"merged": MergedCaption()}), needed({"image": image})) == (3, 3, 9)
    assert (needed({"video": video, "image": image}), needed({"video": VideoCaption("x", stills=12)})) == (9, 13)


@dataclass
class Stub:
    """Says which stills it saw; fails of the clips in `bad`, and of more than `most` at once."""

    version: ClassVar[int] = 1
    writes: ClassVar[tuple[str, ...]] = ("text", "saw")
    cheap: ClassVar[tuple[str, ...]] = ("bad", "most", "calls", "weights", "batch_size")  # weights: only `identity` knows them

    word: str = "word"
    stills: int = 3
    batch_size: int = 4
    bad: dict[str, Exception | BaseException] = field(default_factory=dict)
    most: int = 99
    weights: str = "w"
    reads: tuple[str, ...] = ()
    calls: list[list[str]] = field(default_factory=list)
    answer: Callable[[Shown], Facts] | None = None

    def open(self, device: str) -> None: ...

    def identity(self) -> str:
        return self.weights

    def __call__(self, clips: Sequence[Shown]) -> list[Facts]:
        self.calls.append([clip.clip.id for clip in clips])
        if len(clips) > self.most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        for clip in clips:
            if clip.clip.id in self.bad:
                raise self.bad[clip.clip.id]
        return [self.answer(clip) if self.answer else self.plain(clip) for clip in clips]

    def plain(self, clip: Shown) -> Facts:
        return {
            "text": " ".join([self.word, *(clip.texts.get("image") or [])]),
            "saw": [float(one[0, 0, 0]) for one in clip.stills],
        }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_looks_see_what_those_before_them_said(store: Store) -> None:
    first: dict[str, Look] = {"image": Stub("seen", stills=1), "later": Stub("after", reads=("image",))}
    clips = [shown(i, content=("a" if i < 3 else "b") * 64) for i in range(5)]
    looked = look_at(first, clips, "stills", store)
    assert list(looked.facts) == [f"clip{i}" for i in range(5)]
    assert looked.facts["clip1"] == {
        "image.text": "seen", "image.saw": [float(still(104)[0, 0, 0])],
        "later.text": "after seen", "later.saw": [float(still(100 + i)[0, 0, 0]) for i in (0, 4, 8)],
    }  # fmt: skip
    assert looked.errors == {}
    assert looked.asked == {"image": 5, "later": 5}
    again = look_at(first, clips, "stills", store)
    assert again.asked == {"image": 0, "later": 0}
    assert again.facts == looked.facts


def test_memory_that_runs_out_halves_the_batch_for_good(store: Store) -> None:
    look = Stub(batch_size=8, most=3)
    looked = look_at({"x": look}, [shown(i) for i in range(8)], "stills", store)
    assert [len(call) for call in look.calls] == [8, 4, 2, 2, 2, 2]
    assert not looked.errors
    small = Stub(batch_size=2, most=0, weights="other")
    assert set(look_at({"x": small}, [shown(i) for i in range(3)], "stills", store).errors) == {"clip0", "clip1", "clip2"}


def test_a_clip_that_fails_loses_its_own_facts_alone(store: Store) -> None:
    look = Stub(bad={"clip2": KeyError("planted\nhere"), "clip5": ValueError("")})
    looks: dict[str, Look] = {"image": look, "later": Stub("after", reads=("image",))}
    clips = [shown(i) for i in range(6)]
    looked = look_at(looks, clips, "stills", store)
    assert looked.errors == {"clip2": [r"image: KeyError: 'planted\nhere'"], "clip5": ["image: ValueError: no words"]}
    assert look.calls == [
        [f"clip{i}" for i in range(4)],
        *([f"clip{i}"] for i in range(4)),
        ["clip4", "clip5"],
        ["clip4"],
        ["clip5"],
    ]
    assert looked.facts["clip2"]["image.text"] is None
    assert looked.facts["clip2"]["later.text"] == "after"
    assert [looked.facts[f"clip{i}"]["image.text"] for i in (0, 1, 3, 4)] == ["word"] * 4
    # They are asked about again, and what depends on them with them.
    look.bad.pop("clip2")
    again = look_at(looks, clips, "stills", store)
    assert again.asked == {"image": 2, "later": 6}
    assert set(again.errors) == {"clip5"}
    assert again.facts["clip2"]["later.text"] == "after word"
    assert look_at(looks, clips, "stills", store).errors == again.errors


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda clip: {"text": "a", "saw": [1.0, float("nan")]}, "x: DataError: saw is not finite"),
        (lambda clip: {"text": "a"}, "x: DataError: gave text; it writes text, saw"),
        (lambda clip: {"text": "a", "saw": np.float32(1)}, "x: DataError: saw is of type float32"),
    ],
)
def test_facts_that_are_none_are_errors(store: Store, answer: Any, words: str) -> None:
    looked = look_at({"x": Stub(answer=answer)}, [shown(0)], "stills", store)
    assert looked.errors["clip0"][0].startswith(words)
    assert looked.facts["clip0"] == {"x.text": None, "x.saw": None}


def test_what_makes_a_look_ask_again(store: Store) -> None:
    def asked(look: Stub, stills: str = "stills", name: str = "x", **texts: list[str]) -> int:
        return look_at({name: look}, [shown(i, **texts) for i in range(2)], stills, store).asked[name]

    assert asked(Stub(reads=("title",))) == 2
    assert asked(Stub(reads=("title",)), name="other") == 0
    assert asked(Stub(reads=("title",), batch_size=1)) == 0
    assert asked(Stub(reads=("title",)), sidecar=["not read"]) == 0
    assert asked(Stub(reads=("title",)), title=["read"]) == 2
    assert asked(Stub("word2", reads=("title",))) == 2
    assert asked(Stub(reads=("title",), weights="others")) == 2
    assert asked(Stub(reads=("title",)), stills="other") == 2
    assert asked(ImageCaptionLike("x")) == 2
    assert asked(ImageCaptionLike("x", weight=0.9, device="cpu", batch_size=3)) == 0


@dataclass
class ImageCaptionLike(ImageCaption):
    def open(self, device: str) -> None: ...

    def identity(self) -> str:
        return ""

    def __call__(self, clips: Sequence[Shown]) -> list[Facts]:
        return [{"text": "a dog", "text_fault": None} for _ in clips]


def test_a_run_that_is_killed_goes_on(store: Store) -> None:
    """Video a (clips 0 to 3) is done when the kill comes in the second batch; only video b is asked about again."""
    clips = [shown(i, content=("a" if i < 4 else "b") * 64) for i in range(8)]
    with pytest.raises(KeyboardInterrupt):
        look_at({"x": Stub(bad={"clip6": KeyboardInterrupt()})}, clips, "stills", store)
    look = Stub()
    whole = look_at({"x": look}, clips, "stills", store)
    assert look.calls == [["clip4", "clip5", "clip6", "clip7"]]
    assert whole.facts == look_at({"x": Stub(weights="fresh")}, clips, "stills", store).facts


def test_stills_are_decoded_when_they_are_asked_for(store: Store) -> None:
    """A flat orange still survives JPEG within 3 of 255, and in RGB."""
    orange = np.full((16, 24, 3), (240, 120, 10), np.uint8)
    jpegs = [cv2.imencode(".jpg", np.ascontiguousarray(frame[..., ::-1]))[1].tobytes() for frame in (orange, orange // 2)]
    store.write_stills("a" * 64, "key", {"clip0": jpegs, "clip1": []})
    stills = JpegStills(store, "a" * 64, "key", "clip0")
    assert len(stills) == 2
    np.testing.assert_allclose(stills[0], orange, atol=3)
    np.testing.assert_allclose(stills[:2][1], orange // 2, atol=3)
    looked = look_at({"x": Stub(stills=3)}, [Shown(shown(0).clip, stills, {}, {})], "key", store)
    np.testing.assert_allclose(looked.facts["clip0"]["x.saw"], [240, 240, 120], atol=3)
    without = Shown(shown(1).clip, JpegStills(store, "a" * 64, "key", "clip1"), {}, {})
    assert look_at({"x": Stub()}, [without], "key", store).errors == {"clip1": ["x: DataError: the clip has no stills"]}
    store.write_stills("a" * 64, "other", {"clip0": [b"no jpeg"]})
    with pytest.raises(DataError, match="no JPEG that can be read"):
        JpegStills(store, "a" * 64, "other", "clip0")[0]


def test_the_whole_way_with_models(models: Path, tmp_path: Path, store: Store) -> None:
    head = save_head(tmp_path / "head.safetensors", {"weight": [[1.0] * 8], "bias": [0.0]})
    looks: dict[str, Look] = {
        "image": ImageCaption(str(models / "blip"), tokens=3),
        "video": VideoCaption(str(models / "llava"), tokens=3),
        "merged": MergedCaption(),
        "clip": ClipScore(str(models / "clip")),
        "aesthetic": Aesthetic(str(models / "clip"), str(head)),
    }
    for look in looks.values():
        look.open("cpu")
    clips = [shown(i, sidecar=["a boat at night"]) for i in range(3)]
    looked = look_at(looks, clips, "stills", store)
    assert looked.errors == {}
    for facts in looked.facts.values():
        kinds = [kind for kind in ("merged", "video", "image") if facts[f"{kind}.text"]]
        assert facts["clip.caption"] == (kinds or ["sidecar"])[0]
        assert -1 <= facts["clip.score"] <= 1
        assert len(facts["clip.embedding"]) == 8
        assert len(facts["aesthetic.scores"]) == 3
    assert look_at(looks, clips[::-1], "other", store).facts == looked.facts
    assert [getattr(look, "weight", None) for look in looks.values()] == [0.5, 0.25, 0.25, None, None]


def test_neither_torch_nor_transformers_is_imported() -> None:
    code = "import sys, relatum.curation.looking, relatum.curation.stages; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("set()", 0), done.stderr
