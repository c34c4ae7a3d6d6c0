"""Wrong captions worked by hand: every rule, symmetry, tidy words, and text of any kind."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from relatum.core.errors import MissingExtra, RecipeError
from relatum.data.negatives import ORDER_RULES, RULES, Perturbed, RuleTagger, Tagger, open_tagger, perturb, registry
from relatum.data.negatives.phrases import noun_phrases
from relatum.data.negatives.sentence import Sentence, normal, read_sentence
from relatum.data.negatives.words import agree, article, plural, singular


@pytest.fixture(scope="module", params=["textblob", "rules"])
def tagger(request: pytest.FixtureRequest) -> Tagger:
    if request.param == "textblob":
        pytest.importorskip("textblob", reason="needs relatum[text]", exc_type=ImportError)
    return open_tagger(request.param)


def texts(caption: str, rule: str, tagger: Tagger, key: int = 0) -> list[str]:
    return [negative.text for negative in perturb(caption, [rule], key, tagger).negatives]


def reasons(caption: str, rule: str, tagger: Tagger) -> list[str]:
    return [refusal.reason for refusal in perturb(caption, [rule], tagger=tagger).refused]


@pytest.mark.parametrize(
    ("caption", "wrong"),
    [
        ("A room with blue walls and a white sink", "A room with white walls and a blue sink"),
        ("A black cat is inside a white toilet.", "A white cat is inside a black toilet."),
        ("an orange cat on a red chair", "a red cat on an orange chair"),  # the article follows the sound
        ("The cat is black and the dog is brown.", "The cat is brown and the dog is black."),  # said after the noun
        ("a girl in blue beside a boy in red", "a girl in red beside a boy in blue"),  # colors without a noun
        ("A black and white cat on a red chair!", "A red cat on a black and white chair!"),  # the whole group
    ],
)
def test_attributes_are_swapped(caption: str, wrong: str, tagger: Tagger) -> None:
    assert wrong in texts(caption, "swap_attributes", tagger)


@pytest.mark.parametrize(
    ("caption", "wrong"),
    [
        ("A lamp to the left of a bed.", "A lamp to the right of a bed."),
        ("a red ring left of a pink star", "a red ring right of a pink star"),
        ("a star above a ring", "a star below a ring"),
        ("A dog in front of a house", "A dog behind a house"),
        ("A cat sits on top of a mat", "A cat sits under a mat"),
        ("A cup on a table", "A cup under a table"),
        ("A cup on a table", "A table on a cup"),  # the things around it
        ("Two dogs are on an old bed", "An old bed is on two dogs"),  # the verb agrees with its new subject
    ],
)
def test_relations_are_swapped(caption: str, wrong: str, tagger: Tagger) -> None:
    assert wrong in texts(caption, "swap_relation", tagger)


@pytest.mark.parametrize(
    ("caption", "wrong"),
    [
        ("A small cat on a table", "A small table on a cat"),
        ("Two cats on a sofa", "Two sofas on a cat"),  # each takes the number of its place
        ("A pizza on a storage tub", "A storage tub on a pizza"),
        ("a lady by a table with a plate of food", "a plate of food by a table with a lady"),  # whole phrases further apart
    ],
)
def test_nouns_are_swapped(caption: str, wrong: str, tagger: Tagger) -> None:
    assert wrong in texts(caption, "swap_nouns", tagger)


@pytest.mark.parametrize(
    ("caption", "wrong"),
    [
        ("A cat is on a mat", "A cat is not on a mat"),
        ("A cat is not on a mat", "A cat is on a mat"),
        ("A cat isn't on a mat", "A cat is on a mat"),
        ("A cat on a mat", "No cat on a mat"),
        ("A man with a hat", "A man without a hat"),
        ("A man without a hat", "A man with a hat"),
    ],
)
def test_negation(caption: str, wrong: str, tagger: Tagger) -> None:
    assert wrong in texts(caption, "negation", tagger)


def test_places_are_not_denied(tagger: Tagger) -> None:
    """ "on no mat" is no English."""
    assert texts("A cat on a mat", "negation", tagger) == ["No cat on a mat"]


def test_quantity_agrees_in_noun_and_verb(tagger: Tagger) -> None:
    assert "A desk with a monitor and two laptops" in texts("A desk with two monitors and a laptop", "quantity", tagger)
    found = {text for key in range(20) for text in texts("Two dogs are asleep.", "quantity", tagger, key)}
    assert found == {"One dog is asleep.", "Three dogs are asleep.", "Four dogs are asleep."}  # two less one, plus one, plus two
    found = {text for key in range(20) for text in texts("There is a box with 3 eggs", "quantity", tagger, key)}
    assert {"There is a box with 1 egg", "There is a box with 5 eggs", "There are two boxes with 3 eggs"} <= found
    assert "There are 3 boxes with an egg" in found  # the numbers exchanged


def test_numbers_that_count_nothing_stay(tagger: Tagger) -> None:
    assert texts("The clock says 10:30", "quantity", tagger) == []
    assert texts("Number 1984", "quantity", tagger) == []


@pytest.mark.parametrize("rule", ORDER_RULES)
def test_orders_keep_the_bag_of_words(rule: str, tagger: Tagger) -> None:
    """Yuksekgonul et al. 2023: the same words, another order; a and an count as one word."""
    caption = "An old man and a small dog are sitting on the green bench, next to a lamp."
    for key in range(8):
        (wrong,) = texts(caption, rule, tagger, key)
        assert Counter(normal(wrong)) == Counter(normal(caption))
        assert normal(wrong) != normal(caption)
        assert wrong.endswith(".")
        assert wrong[0].isupper()
        assert wrong.count(",") == 1


def test_orders_move_what_they_say(tagger: Tagger) -> None:
    """Words 0-2, 3-5, 6-8 of "the red cat sits on the big blue mat" are its trigrams; nouns are 2, 8, adjectives 1, 6, 7."""
    caption = "the red cat sits on the big blue mat"
    words = caption.split()
    for key in range(10):
        (within,) = texts(caption, "shuffle_within_trigrams", tagger, key)
        (moved,) = texts(caption, "shuffle_trigrams", tagger, key)
        (things,) = texts(caption, "shuffle_nouns_adjectives", tagger, key)
        (others,) = texts(caption, "shuffle_all_but_nouns_adjectives", tagger, key)
        assert all(sorted(within.split()[i : i + 3]) == sorted(words[i : i + 3]) for i in (0, 3, 6))
        assert all(" ".join(words[i : i + 3]) in moved for i in (0, 3, 6))
        assert [things.split()[i] for i in (0, 3, 4, 5)] == ["the", "sits", "on", "the"]
        assert sorted(things.split()[i] for i in (2, 8)) == ["cat", "mat"]
        assert [others.split()[i] for i in (1, 2, 6, 7, 8)] == ["red", "cat", "big", "blue", "mat"]


@pytest.mark.parametrize(
    ("caption", "rule"),
    [
        ("A cat and a dog.", "swap_nouns"),  # "A dog and a cat."
        ("A cat next to a dog", "swap_relation"),  # a symmetric relation around which things were exchanged
        ("a red ball and a blue ball", "swap_attributes"),  # "a blue ball and a red ball"
        ("A white and a black bicycle", "swap_attributes"),
        ("a big red ball", "shuffle_nouns_adjectives"),  # "a red big ball"
        ("white cabinets and tops", "swap_nouns"),  # the tops are white too
    ],
)
def test_what_is_true_by_symmetry_is_refused(caption: str, rule: str, tagger: Tagger) -> None:
    made = perturb(caption, [rule], tagger=tagger)
    assert "says the same by symmetry" in [refusal.reason for refusal in made.refused]
    flipped = {("A cat next to a dog", "swap_relation"): ["A cat far from a dog"]}
    assert [negative.text for negative in made.negatives] == flipped.get((caption, rule), [])


def test_attributes_bind_where_things_differ(tagger: Tagger) -> None:
    """ "a red circle and a blue square": noun exchange binds wrongly, exchange of the whole conjuncts would say the same."""
    assert texts("a red circle and a blue square", "swap_nouns", tagger) == ["a red square and a blue circle"]
    assert texts("a red circle and a blue square", "swap_relation", tagger) == []


def test_what_equals_the_caption_is_refused(tagger: Tagger) -> None:
    assert reasons("a red cat on a red mat", "swap_attributes", tagger) == ["equals the caption"]
    made = perturb("A cat on a mat", ["swap_relation", "swap_nouns"], tagger=tagger)
    assert [negative.text for negative in made.negatives] == ["A cat under a mat", "A mat on a cat"]
    assert [(refusal.rule, refusal.reason) for refusal in made.refused] == [("swap_nouns", "equals another negative")]


def test_normal_forms() -> None:
    """Case, white space, punctuation and a/an make no difference; words and their order do."""
    assert normal(" An  APPLE, a day! ") == normal("a apple a day") == ("a", "apple", "a", "day")
    assert normal("ｃａｔ") == ("cat",)  # full width
    assert normal("cat dog") != normal("dog cat")


def test_the_same_for_the_same_key(tagger: Tagger) -> None:
    caption = "Two brown dogs and a black cat run after a red ball in a green park."
    assert perturb(caption, key=3, tagger=tagger) == perturb(caption, key=3, tagger=tagger)
    assert perturb(caption, ["quantity"], 3, tagger).negatives == tuple(
        negative for negative in perturb(caption, key=3, tagger=tagger).negatives if negative.rule == "quantity"
    )
    assert len({texts(caption, "shuffle_trigrams", tagger, key)[0] for key in range(10)}) > 5


AWKWARD = {
    "one word": "cat",
    "no noun": "running quickly and happily",
    "empty": "",
    "blank": " \t\n ",
    "emoji": "🐱‍👤 ❤️ 🎉",
    "emoji and words": "A 🐱 black cat ❤️ on a red mat 🎉!",
    "markup": '<b>A red "ball"</b> &amp; <i>a blue box</i><script>alert("x")</script>',
    "japanese": "黒い猫が赤い椅子の上にいる。",
    "arabic": "قطة سوداء على كرسي أحمر",
    "hindi": "हिन्दी में एक लाल गेंद और नीला घर",
    "line breaks": "A red cat\non a\r\nblue mat",
    "punctuation": "!!! ... ,,, ???",
    "unbalanced": 'A "red cat (on <a blue mat',
    "surrogate": "a red cat \ud83d on a blue mat",
    "nothing but articles": "a an the",
}


@pytest.mark.parametrize("caption", AWKWARD.values(), ids=AWKWARD.keys())
def test_any_text_gives_negatives_or_reasons(caption: str, tagger: Tagger) -> None:
    made = perturb(caption, tagger=tagger)
    told = {negative.rule for negative in made.negatives} | {refusal.rule for refusal in made.refused}
    assert told == set(RULES)
    seen = [normal(negative.text) for negative in made.negatives]
    assert normal(caption) not in seen
    assert len(set(seen)) == len(seen)


def test_400_words_stay_bounded() -> None:
    caption = " ".join(["a red cat on a blue mat and two old dogs behind the house,"] * 31)
    assert len(caption.split()) > 400
    made = perturb(caption, tagger=RuleTagger())
    assert {negative.rule for negative in made.negatives} == set(RULES)
    assert max(Counter(negative.rule for negative in made.negatives).values()) <= 8


def test_markup_and_emoji_stay_in_place(tagger: Tagger) -> None:
    caption = "🐱 <b>A black cat</b> on the red sofa!!"
    assert texts(caption, "swap_attributes", tagger) == ["🐱 <b>A red cat</b> on the black sofa!!"]


def test_case_inside_sentences(tagger: Tagger) -> None:
    """The moved first word loses its capital, the new one has it, also after a full stop; names and shouts keep theirs."""
    assert texts("Cats on a sofa", "swap_relation", tagger)[-1] == "A sofa on cats"
    assert "A mat on a cat. A dog sleeps." in texts("A cat on a mat. A dog sleeps.", "swap_relation", tagger)
    assert texts("A TV on a table", "swap_relation", tagger) == ["A TV under a table", "A table on a TV"]


def test_sentences_come_back_as_they_were() -> None:
    stream = random.Random(4)
    pieces = [
        "A",
        "cat",
        "dog's",
        " ",
        "  ",
        ",",
        ". ",
        "<b>",
        "😀",
        "red-hot",
        "10:30",
        "'quoted'",
        "\n",
        "é",
        "1,000",
        "(",
        "&amp;",
    ]
    for _ in range(300):
        caption = " ".join(stream.choices(pieces, k=stream.randrange(12)))
        assert read_sentence(caption, RuleTagger()).text.casefold() == caption.casefold()


def test_phrases_hold_groups_and_do_not_cross_commas(tagger: Tagger) -> None:
    def found(caption: str) -> list[str]:
        sentence = read_sentence(caption, tagger)
        return [" ".join(sentence.words[p.begin : p.end]) for p in noun_phrases(sentence)]

    assert found("two pairs of old shoes beside the big, red door") == ["two pairs of old shoes", "the big red door"]
    assert found("a tub, a sink") == ["a tub", "a sink"]


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("cat", "cats"),
        ("box", "boxes"),
        ("baby", "babies"),
        ("toy", "toys"),
        ("man", "men"),
        ("fisherman", "fishermen"),
        ("knife", "knives"),
        ("sheep", "sheep"),
        ("bus", "buses"),
        ("horse", "horses"),
        ("person", "people"),
        ("bench", "benches"),
        ("glass", "glasses"),
        ("scissors", "scissors"),
        ("vase", "vases"),
        ("woman", "women"),
        ("bee", "bees"),
        ("leaf", "leaves"),
    ],
)
def test_plurals_go_both_ways(one: str, many: str) -> None:
    assert plural(one) == many
    assert plural(many) == many
    assert singular(one) == one
    assert singular(many) == (one if many != "glasses" else "glasses")  # spectacles


@pytest.mark.parametrize(
    ("word", "sound"),
    [
        ("apple", "an"),
        ("cat", "a"),
        ("hour", "an"),
        ("unicorn", "a"),
        ("umbrella", "an"),
        ("unusual", "an"),
        ("SUV", "an"),
        ("TV", "a"),
        ("8", "an"),
        ("11", "an"),
        ("1", "a"),
        ("one-way", "a"),
        ("used", "a"),
        ("European", "a"),
        ("uninviting", "an"),
    ],
)
def test_articles_follow_the_sound(word: str, sound: str) -> None:
    assert article(word) == sound


@pytest.mark.parametrize(
    ("verb", "many"), [("is", "are"), ("sits", "sit"), ("watches", "watch"), ("flies", "fly"), ("has", "have")]
)
def test_verbs_agree(verb: str, many: str) -> None:
    assert agree(verb, True) == many
    assert agree(many, False) == verb


def test_unknown_rules_and_taggers_are_errors() -> None:
    with pytest.raises(RecipeError, match="no rule 'swap_noun'; did you mean 'swap_nouns'"):
        perturb("a cat", ["swap_noun"])
    with pytest.raises(RecipeError, match="no 'spacy'"):
        open_tagger("spacy")


def test_without_the_library_rules_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from relatum.data.negatives import tagging

    monkeypatch.setitem(sys.modules, "textblob", None)
    monkeypatch.setattr(tagging, "_opened", tagging._opened.__wrapped__)
    with pytest.raises(MissingExtra, match=r"relatum\[text\]"):
        open_tagger("textblob")
    assert "plain rules" in open_tagger("auto").name


def test_another_rule_is_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))

    @registry.register("shout", lacking="nothing to shout")
    def shout(sentence: Sentence, draw: random.Random) -> Iterator[Sentence]:
        yield sentence.put(0, 0, ["hey"], ["UH"])

    made = perturb("A cat", ["shout"], tagger=RuleTagger())
    assert isinstance(made, Perturbed)
    assert made.negatives[0].text == "Hey a cat"
    with pytest.raises(RecipeError, match="two rules"):
        registry.register("shout", lacking="")(lambda sentence, draw: [])
