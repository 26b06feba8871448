"""Noun phrases: which objects of a scene a phrase names, and which phrases are true or absent.

A phrase is `[size] [pattern] [colour] noun`. Each word is true, false or unclear of an object; a phrase is
true of an object when all its words are, false when one of them is false. Unclear words (is a coin a circle?)
keep a phrase out of the scene altogether: it is neither asked as present nor as absent.

Grammar:
    size     small | large           only where the scene has two clearly different sizes
    pattern  striped | dotted | checkered | plain
    colour   the words of `colors.HSV_RANGES`; none in greyscale scenes
    noun     a kind or its synonym (circle, disc), a wider word (fruit), "thing" or "object" with an attribute
    forms    "red circle", "red circles", "a red circle"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from conceptseg.data.scenes.colors import ACHROMATIC, COLORS, HSV_RANGES, UNCLEAR
from conceptseg.data.scenes.kinds import GENERAL_NOUNS, KINDS, NOUNS, is_reserved, noun_truth
from conceptseg.data.scenes.seeding import pick
from conceptseg.data.scenes.textures import PATTERNS

SIZES = ("small", "large")
_PATTERN_WORDS = (*PATTERNS, "plain")
_IRREGULAR = {
    "leaf": "leaves",
    "fish": "fish",
    "nucleus": "nuclei",
    "box": "boxes",
    "cross": "crosses",
    "strawberry": "strawberries",
    "plus": "pluses",
    "butterfly": "butterflies",
}


@dataclass(frozen=True)
class Words:
    """A phrase taken apart; `None` where it says nothing."""

    noun: str
    color: str | None = None
    pattern: str | None = None
    size: str | None = None

    @property
    def is_noun(self) -> bool:
        """Nothing but a noun: no colour, pattern or size."""
        return self.color is None and self.pattern is None and self.size is None

    def text(self) -> str:
        return " ".join(word for word in (self.size, self.pattern, self.color, self.noun) if word)


@dataclass(frozen=True)
class Attributes:
    """What decides which phrases are true of an object."""

    kind: str
    color: str | None
    pattern: str | None
    size: str | None
    unclear_colors: frozenset[str] = frozenset()  # words some would use for it, beside its own


def parse(phrase: str) -> Words:
    """Take a phrase of the grammar apart.

    Raises:
        ValueError: it has a word outside the grammar.
    """
    left = phrase.split()
    if left and left[0] in ("a", "an"):
        left = left[1:]
    size = left.pop(0) if left and left[0] in SIZES else None
    pattern = left.pop(0) if left and left[0] in _PATTERN_WORDS else None
    # "orange" is a colour before a noun and a noun at the end; "red blood cell" is a noun as a whole.
    whole = " ".join(left)
    color = left.pop(0) if len(left) > 1 and left[0] in HSV_RANGES and _SINGULAR.get(whole) is None else None
    noun = _SINGULAR.get(" ".join(left))
    if noun is None:
        raise ValueError(
            f"{phrase!r} is not a phrase of the scenes; its noun {' '.join(left)!r} is not known"
        )
    return Words(noun, color, pattern, size)


def plural(noun: str) -> str:
    """The plural of a noun or noun phrase."""
    *before, last = noun.split()
    return " ".join([*before, _IRREGULAR.get(last, last + "s")])


_SINGULAR = {form: noun for noun in (*NOUNS, *GENERAL_NOUNS) for form in (noun, plural(noun))}


def vocabulary() -> list[str]:
    """Every word a phrase can contain, sorted; a tokenizer for scenes needs no other."""
    words = {"a", "an", *SIZES, *_PATTERN_WORDS, *HSV_RANGES}
    words.update(word for form in _SINGULAR for word in form.split())
    return sorted(words)


def truth(words: Words, it: Attributes, *, greyscale: bool, sizes_clear: bool) -> bool | None:
    """Whether a phrase names an object: yes, no, or None when people would disagree."""
    answers = [noun_truth(words.noun, it.kind, greyscale)]
    if words.color is not None:
        answers.append(None if greyscale else _color_truth(words.color, it))
    if words.pattern is not None:
        answers.append(_pattern_truth(words.pattern, it))
    if words.size is not None:
        answers.append(None if not sizes_clear or it.size is None else it.size == words.size)
    if False in answers:
        return False
    return None if None in answers else True


def _color_truth(word: str, it: Attributes) -> bool | None:
    if it.color == word:
        return True
    return None if word in it.unclear_colors else False


def _pattern_truth(word: str, it: Attributes) -> bool | None:
    known = KINDS[it.kind]
    if word == "plain":
        return False if it.pattern else True if known.patterned else None
    if it.pattern == word:
        return True
    return None if word in known.near_patterns else False


def unclear_colors(
    kind: str, color: str | None, others: frozenset[str], tones_unclear: bool
) -> frozenset[str]:
    """Colour words that are neither true nor false of an object.

    Args:
        others: words for its parts and the second colour of its pattern.
        tones_unclear: the scene is lit so unevenly that white, grey and black cannot be told apart.
    """
    words = set(others) | (UNCLEAR[color] if color else KINDS[kind].near_colors)
    if tones_unclear:
        words.update(ACHROMATIC, ("brown",))
    words.discard(color or "")
    return frozenset(words)


class Census:
    """The objects of a scene, equal ones counted together, to ask what a phrase names."""

    def __init__(self, objects: Sequence[Attributes], *, greyscale: bool, sizes_clear: bool) -> None:
        self.greyscale, self.sizes_clear = greyscale, sizes_clear
        self.groups: dict[Attributes, list[int]] = {}
        for index, it in enumerate(objects):
            self.groups.setdefault(it, []).append(index)

    def named(self, words: Words) -> list[int] | None:
        """Indices of the objects a phrase names; None when it is unclear for any of them."""
        indices: list[int] = []
        for it, own in self.groups.items():
            answer = truth(words, it, greyscale=self.greyscale, sizes_clear=self.sizes_clear)
            if answer is None:
                return None
            if answer:
                indices += own
        return sorted(indices)


def present_phrases(census: Census, rng: np.random.Generator) -> dict[str, list[int]]:
    """Every clear phrase of the grammar that names something, with all that it names.

    A few of them also appear in another form ("circles", "a red circle"), which means the same.
    """
    candidates: dict[Words, None] = {}
    sizes_clear = census.sizes_clear
    for it in census.groups:
        nouns = (it.kind, *KINDS[it.kind].nouns, *GENERAL_NOUNS[:1])
        patterns: list[str | None] = [None, it.pattern or ("plain" if KINDS[it.kind].patterned else None)]
        for noun in nouns:
            for size in (None, it.size if sizes_clear else None):
                for pattern in dict.fromkeys(patterns):
                    for color in dict.fromkeys((None, it.color)):
                        bare = size is None and pattern is None and color is None
                        # "orange orange", "plain small thing" and the like say nothing.
                        if (noun in GENERAL_NOUNS and (bare or pattern == "plain")) or color == noun:
                            continue
                        candidates[Words(noun, color, pattern, size)] = None
    phrases: dict[str, list[int]] = {}
    for words in candidates:
        indices = census.named(words)
        if indices:
            phrases[words.text()] = indices
    for text in list(phrases)[:40]:
        form = float(rng.random())
        if form < 0.06:
            phrases[f"{'an' if text[0] in 'aeiou' else 'a'} {text}"] = phrases[text]
        elif form < 0.12:
            words = parse(text)
            phrases[replace(words, noun=plural(words.noun)).text()] = phrases[text]
    return phrases


def absent_phrases(
    census: Census, rng: np.random.Generator, *, unseen: bool, theme: Sequence[Words] = (), count: int = 8
) -> list[str]:
    """Phrases that name nothing here: one word away from a true one first, then any kind.

    Args:
        unseen: reserved combinations may be named.
        theme: looks of the theme that this scene may lack; good hard negatives.
    """
    tried: dict[str, None] = {}
    absent: list[str] = []

    def offer(words: Words) -> None:
        text = words.text()
        if text in tried or len(absent) >= count or words.color == words.noun:
            return
        tried[text] = None
        if words.noun not in GENERAL_NOUNS:
            if words.color and not any(words.color in KINDS[kind].colors for kind in NOUNS[words.noun]):
                return  # a purple banana is absent, but nobody learns from it
            if words.pattern and not any(KINDS[kind].patterned for kind in NOUNS[words.noun]):
                return
            combined = [word for word in (words.color, words.pattern) if word and word != "plain"]
            if not unseen and any(is_reserved(kind, word) for kind in NOUNS[words.noun] for word in combined):
                return
        elif not (words.color or words.pattern or words.size) or words.pattern == "plain":
            return
        if census.named(words) == []:
            absent.append(text)

    hard = max(count - 2, 1)
    present, greyscale, sizes_clear = list(census.groups), census.greyscale, census.sizes_clear
    here_colors = list({it.color: None for it in present if it.color}) or list(COLORS)
    here_kinds = list({it.kind: None for it in present})
    for words in theme:
        if float(rng.random()) < 0.5 and len(absent) < hard // 2:
            offer(words)
    for _ in range(40):
        if len(absent) >= hard:
            break
        it = pick(rng, present)
        words = Words(
            it.kind,
            it.color if it.color and float(rng.random()) < 0.8 else None,
            it.pattern if it.pattern and float(rng.random()) < 0.7 else None,
            it.size if sizes_clear and float(rng.random()) < 0.2 else None,
        )
        change = float(rng.random())
        if change < 0.35 and not greyscale:
            color = pick(rng, here_colors if float(rng.random()) < 0.4 else COLORS)
            general = float(rng.random()) < 0.25
            offer(replace(words, color=color, noun="thing" if general else words.noun))
        elif change < 0.65:
            noun = pick(rng, here_kinds) if float(rng.random()) < 0.4 else pick(rng, tuple(NOUNS))
            offer(replace(words, noun=noun))
        elif change < 0.9:
            pattern = pick(rng, PATTERNS)
            general = float(rng.random()) < 0.3
            offer(replace(words, pattern=pattern, noun="thing" if general else words.noun))
        elif sizes_clear and it.size:
            offer(replace(words, size="small" if it.size == "large" else "large"))
    for _ in range(30):
        if len(absent) >= count:
            break
        offer(Words(pick(rng, tuple(NOUNS))))
    return absent
