"""The model card: front matter that hubs read, and no word of the user's that Markdown or HTML would act on."""

import json
from pathlib import Path

from relatum.engine.card import Card, CardMetric, model_card, write_card


def card(**changes: object) -> Card:
    settings: dict = {
        "name": "edits | <b>bold</b>",
        "task": "edit",
        "base_model": "timbrooks/instruct-pix2pix",
        "data": "toy_*scenes*",
        "objectives": {"denoise": {"kind": "denoise", "weight": 1.0}},
        "settings": {"learning_rate": 1e-4, "pretrained_model_name_or_path": "/somebody/secret/base"},
        "metrics": [CardMetric("psnr", 20.25, 19.5, 21.0, 64), CardMetric("fd", 3.0)],
    }
    return Card(**{**settings, **changes})  # type: ignore[arg-type]


def test_the_card_holds_what_was_measured(tmp_path: Path) -> None:
    text = write_card(tmp_path, card()).read_text()
    front = text.split("---\n")[1]
    about = {line.partition(": ")[0]: json.loads(line.partition(": ")[2]) for line in front.splitlines()}
    assert about == {
        "library_name": "diffusers",
        "tags": ["relatum", "edit"],
        "pipeline_tag": "image-to-image",
        "base_model": "timbrooks/instruct-pix2pix",
    }
    assert "| psnr | 20.25 | 19.5 to 21 | 64 |" in text
    assert "| fd | 3 |  |  |" in text
    assert r"| denoise | kind = denoise, weight = 1.0 |" in text


def test_words_of_the_user_do_nothing() -> None:
    text = model_card(card(name="x | <script>alert(1)</script>\n# heading [a](b)"))
    assert r"# x \| &lt;script&gt;alert\(1\)&lt;/script&gt; \# heading \[a\]\(b\)" in text
    assert "<script>" not in text


def test_folders_of_the_machine_are_left_out() -> None:
    text = model_card(card(base_model="/somebody/secret/base"))
    assert "secret" not in text
    assert "base_model" not in text
    assert "Not evaluated." in model_card(card(metrics=()))
