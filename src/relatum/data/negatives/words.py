"""What is known of English words without a library: closed classes, adjectives of captions, plurals, the article's sound."""

from __future__ import annotations

import re

__all__ = [
    "ADJECTIVES",
    "CLOSED",
    "COLORS",
    "COMPOUND_RELATIONS",
    "GROUPS",
    "ING_NOUNS",
    "MASS",
    "NUMBERS",
    "SIZES",
    "VAGUE",
    "VERBS",
    "agree",
    "article",
    "plural",
    "singular",
    "vocabulary",
]


def vocabulary(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


COLORS = vocabulary(
    """
    red green blue yellow orange purple pink brown black white gray grey gold golden silver beige tan cyan magenta teal
    maroon turquoise violet navy cream crimson olive lime blond blonde reddish bluish greenish
    """
)
SIZES = vocabulary(
    """
    big small large tiny little huge giant tall short long wide narrow thick thin smaller larger bigger taller
    """
)
ADJECTIVES = (
    COLORS
    | SIZES
    | vocabulary(
        """
    old young new empty full open closed clean dirty wet dry dark bright light wooden metal metallic plastic glass stuffed
    striped spotted plaid checkered dotted shaded plain round square rectangular triangular oval flat curved straight
    fluffy furry fuzzy grassy snowy sandy rocky sunny cloudy rainy foggy busy crowded quiet calm hot cold warm fresh ripe
    sliced baked fried elderly male female happy sad smiling beautiful pretty colorful shiny rusty broken clear heavy fat
    skinny lush leafy wild tame vintage modern antique fancy elegant stone brick leather soft hard sharp deep shallow low
    high different same other several many few various own whole double single colored tiled paved parked fenced painted
    folded framed
    """
    )
    - frozenset(("square", "glass", "metal", "plastic", "stone", "brick", "leather", "light"))
)
VAGUE = vocabulary(
    """
    other same several many few various own next top different such more most less least last first second third only
    entire whole front back left right side multiple numerous another opposite certain able ready more
    """
)  # adjectives of Penn that say nothing of how a thing looks
GROUPS = vocabulary(
    """
    lot lots bunch few little couple variety bit number series half row kind type sort piece set side top front middle
    center background foreground bottom edge end corner part view picture photo image photograph shot close-up closeup day
    night time way while moment distance one ones
    """
)  # nouns that "a" goes with but that are not counted or denied

MASS = vocabulary(
    """
    snow water grass food sand air trash dirt rice broccoli cauliflower bread cheese meat fruit furniture luggage traffic
    clothing hair equipment mud ice wood metal glass paper milk coffee tea wine beer juice soup sauce corn lettuce spinach
    rain smoke fog broth butter chocolate cream sunlight foliage hay gravel concrete scenery silverware jewelry salt sugar
    pasta bacon ham beef tofu sky ground floor
    """
)  # not counted

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

CLOSED: dict[str, str] = {
    word: tag
    for tag, words in {
        "DT": "a an the this that these those some any no each every another both all either neither",
        "IN": "of in on at by with from for about into onto over under above below beneath underneath behind beside besides "
        "between among amongst through across along around near inside outside within without against toward towards past during "
        "upon off like as beyond while because if than since until after before via per amid atop aboard alongside",
        "CC": "and or but nor yet &",
        "TO": "to",
        "PRP": "i you he she it we they him her them us me itself himself herself themselves one's someone something",
        "PRP$": "his its their my your our",
        "MD": "can could may might will would shall should must",
        "VBZ": "is has does isn't doesn't",
        "VBP": "are have do am aren't don't",
        "VBD": "was were had did wasn't weren't",
        "VB": "be",
        "VBN": "been",
        "VBG": "being having doing",
        "WDT": "which",
        "WP": "who whom what",
        "WRB": "where when how why",
        "EX": "there",
        "RB": "not very too also just up down out away back together so quite really only here n't never outdoors indoors upside "
        "almost well apart",
        "CD": " ".join(NUMBERS[1:]) + " dozen hundred thousand",
    }.items()
    for word in words.split()
}
VERBS = vocabulary(
    """
    sits stands holds rides wears looks lies lays walks runs flies hangs eats drinks plays jumps carries shows has rests
    waits leans moves faces watches surrounds contains features takes makes drives sleeps swings hits catches throws sit
    stand hold ride wear look lie lay walk run fly hang eat drink play jump carry show rest wait lean watch sat stood held
    rode wore lay ran flew hung ate drank made seen taken shown held lit set cut is are
    """
)  # for the rule tagger

_COMPOUNDS = """
    to the left of | to the right of | on the left of | on the right of | at the left of | at the right of |
    on the left side of | on the right side of | in front of | in back of | on top of | on the top of | on the side of |
    on the other side of | in the middle of | in the center of | on the back of | at the top of | at the bottom of |
    on the bottom of | next to | close to | close by | near to | adjacent to | across from | far from | out of | left of |
    right of | top of | instead of | because of | each other | one another | up and down | side by side | away from |
    along with | in between | on either side of | facing away from
    """
# Their words are no nouns and adjectives of their own.
COMPOUND_RELATIONS: tuple[tuple[str, ...], ...] = tuple(tuple(words.split()) for words in _COMPOUNDS.split("|"))

ING_NOUNS = vocabulary(
    """
    building ceiling clothing string ring king wing thing something nothing anything everything evening morning railing
    lighting awning wedding icing topping stuffing dressing seating parking frosting painting drawing sibling duckling
    pudding spring earring landing opening dining living swimming swing sling wing skiing surfing snowboarding
    skateboarding crossing bedding flooring carving filling housing writing outing clearing meeting serving
    """
)

_IRREGULAR = {
    "man": "men",
    "woman": "women",
    "child": "children",
    "person": "people",
    "foot": "feet",
    "tooth": "teeth",
    "goose": "geese",
    "mouse": "mice",
    "ox": "oxen",
    "knife": "knives",
    "wife": "wives",
    "life": "lives",
    "leaf": "leaves",
    "loaf": "loaves",
    "half": "halves",
    "shelf": "shelves",
    "calf": "calves",
    "wolf": "wolves",
    "scarf": "scarves",
    "thief": "thieves",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "hero": "heroes",
    "bus": "buses",
    "movie": "movies",
    "cookie": "cookies",
    "brownie": "brownies",
    "tie": "ties",
    "pie": "pies",
    "selfie": "selfies",
    "smoothie": "smoothies",
    "zombie": "zombies",
    "horse": "horses",
    "house": "houses",
    "vase": "vases",
    "axe": "axes",
    "shoe": "shoes",
    "canoe": "canoes",
    "toe": "toes",
}
_BACK = {many: one for one, many in _IRREGULAR.items()}
_SAME = vocabulary(
    """
    sheep fish deer moose aircraft bison series species scissors pants jeans shorts glasses sunglasses
    """
)
_PEOPLE = ("man", "woman")  # "policeman", "fisherwoman"; not "human"


def plural(noun: str) -> str:
    """ "cats" for "cat", "boxes" for "box"; what is plural already, or the same for both, comes back."""
    if noun in _SAME or noun in _BACK or (noun.endswith("s") and singular(noun) != noun):
        return noun
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith(("men", "women")) and len(noun) > 5:
        return noun
    if noun.endswith(_PEOPLE) and noun not in ("human", "german", "roman"):
        return noun[:-2] + "en"
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + "s"


def singular(noun: str) -> str:
    """ "cat" for "cats"; what is singular already, or the same for both, comes back."""
    if noun in _SAME or noun in _IRREGULAR or noun.endswith(("ss", "us", "is")):
        return noun
    if noun in _BACK:
        return _BACK[noun]
    if noun.endswith(("men", "women")) and len(noun) > 5:
        return noun[:-2] + "an"
    if noun.endswith("ies") and len(noun) > 4:
        return noun[:-3] + "y"
    if noun.endswith(("ches", "shes", "sses", "xes", "zzes")):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and len(noun) > 3 else noun


_AN = re.compile(r"[aeiou]|hour|honest|honou?r|heir|8|11$|18$", re.IGNORECASE)
_A = re.compile(r"uni(?!n|m)|us[aeiu]|ut[ei]|u[bf]|eu|one\b|once|ewe|ura|uku", re.IGNORECASE)


def article(following: str) -> str:
    """ "a" or "an", by how the word after it begins to sound: an hour, a unicorn, an SUV, an 8."""
    if len(following) > 1 and following.isupper():
        return "an" if following[0] in "AEFHILMNORSX" else "a"
    return "an" if _AN.match(following) and not _A.match(following) else "a"


_BE = (("is", "are"), ("was", "were"), ("has", "have"), ("does", "do"), ("isn't", "aren't"), ("wasn't", "weren't"))


def agree(verb: str, many: bool) -> str:
    """ "are" for "is", "sits" for "sit": a verb of the present in the number of its subject; others come back."""
    for one, several in _BE:
        if verb in (one, several):
            return several if many else one
    if not many:
        return verb if verb.endswith(("s", "ed")) else plural(verb)
    if verb.endswith(("shes", "ches", "sses", "xes", "oes", "zzes")):
        return verb[:-2]
    if verb.endswith("ies") and len(verb) > 4:
        return verb[:-3] + "y"
    return verb[:-1] if verb.endswith("s") and not verb.endswith("ss") else verb
