"""Words for error codes, in four languages: a catalogue turns a code and its parameters into text for a reader."""

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Final, Literal, get_args

import msgspec

Language = Literal["en", "it", "pl", "pt"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)
# Parameters may be a customer's own text: enough of it to recognise it, never a page of it.
_SHOWN_CHARACTERS_MAX: Final = 200
# Parameters whose values are words of ours, several of them joined by a bar.
_WORDED: Final = ("kind", "expected", "actual")
_PLACE: Final = re.compile(r"\{([a-z_]+)\}")


class Words(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is wrong in a few words, in a sentence, and what to do next. ``{name}`` stands for a parameter."""

    title: str
    detail: str
    next: str = ""


class Catalogue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One language's words: by error code, for those parameters whose values are words of ours, and for codes of deliveries."""

    values: dict[str, str]
    codes: dict[str, Words]
    deliveries: dict[str, str] = {}


def load_catalogues() -> dict[Language, Catalogue]:
    """Read the catalogues that lie beside this module."""
    folder = files("conosco.web") / "words"
    return {language: msgspec.json.decode((folder / f"{language}.json").read_bytes(), type=Catalogue) for language in LANGUAGES}


class Wording:
    """All catalogues. A code that has no words is told in the words of ``unworded`` and keeps its code."""

    def __init__(self, catalogues: Mapping[Language, Catalogue]) -> None:
        self._catalogues = catalogues

    def words(self, code: str, params: Mapping[str, str | int], language: Language) -> Words:
        """The words for a code with its parameters filled in."""
        catalogue = self._catalogues[language]
        words = catalogue.codes.get(code)
        if words is None:
            words, params = catalogue.codes["unworded"], {**params, "code": code}

        def filled(template: str) -> str:
            return _PLACE.sub(lambda place: _shown(place[1], params, catalogue.values), template)

        # Advice that lacks its parameter is no advice: "Did you mean ...?" with nothing near.
        advice = words.next if all(params.get(name, "") != "" for name in _PLACE.findall(words.next)) else ""
        return Words(title=filled(words.title), detail=filled(words.detail), next=filled(advice))

    def delivery(self, code: str, language: Language) -> str:
        """What came of an attempt, in a sentence; a code without words is shown as it is."""
        sentences = self._catalogues[language].deliveries
        kind, _, status = code.partition("_")
        if code not in sentences and kind == "http":
            return sentences.get("http", code).replace("{status}", status)
        return sentences.get(code, code)


def _shown(name: str, params: Mapping[str, str | int], values: Mapping[str, str]) -> str:
    """A parameter as it is shown; one that is missing is shown as an ellipsis."""
    value = str(params.get(name, "…"))
    if name in _WORDED:
        return " / ".join(values.get(part, part) for part in value.split("|"))
    return value if len(value) <= _SHOWN_CHARACTERS_MAX else value[:_SHOWN_CHARACTERS_MAX] + "…"


def choose_language(accept_language: str) -> Language:
    """The best language for an Accept-Language header: the known one with the highest weight, else English."""
    best: Language = "en"
    best_weight = 0.0
    for part in accept_language[:500].split(","):
        tag, _, weighted = part.partition(";")
        language = tag.strip().lower().partition("-")[0]
        for known in LANGUAGES:
            weight = _weight(weighted)
            if language == known and weight > best_weight:
                best, best_weight = known, weight
    return best


def _weight(text: str) -> float:
    """The q-value of a language range: 1 if there is none, 0 if it cannot be read."""
    name, _, value = text.strip().partition("=")
    if not name:
        return 1.0
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0
