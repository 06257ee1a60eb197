"""Documents say what the code says: generated pages are fresh, and the glossary has the words that are in use."""

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from conosco.model import definition, delivery, event, identifier, outcome
from conosco.runtime.settings import VARIABLES
from tools.reference import MEANINGS, PAGES

ROOT = Path(__file__).parents[2]
GLOSSARY = (ROOT / "GLOSSARY.md").read_text()

WORDS = """Event Identifier Link Cell Profile Trait Visit Object Group Segment Membership Attribute Purpose Consent Journey Step Round
Enrollment Broadcast Action Treatment Placement Decision Response Source Destination Channel Delivery Outcome Verdict Permit""".split()
AVOIDED = "user contact cohort audience list campaign node integration connection".split()
STRUCTS = (
    event.Event,
    identifier.Link,
    outcome.Outcome,
    delivery.Verdict,
    delivery.Permit,
    definition.Purpose,
    definition.Source,
    definition.Destination,
    definition.Segment,
    definition.Attribute,
)


def test_every_reason_is_explained() -> None:
    assert set(MEANINGS) == set(outcome.REASONS)
    assert {kind for kind, _, _ in MEANINGS.values()} == {*get_args(outcome.OutcomeKind), "refused"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_generated_page_is_fresh(path: Path) -> None:
    assert path.read_text() == PAGES[path](), "run make docs"


def test_every_variable_that_is_read_is_explained() -> None:
    code = (ROOT / "conosco" / "runtime" / "settings.py").read_text().split("class Settings")[1]
    read = set(re.findall(r'"(CONOSCO_[A-Z_]+)"', code))
    assert read == set(VARIABLES)


@pytest.mark.parametrize("word", WORDS)
def test_the_glossary_has_the_word(word: str) -> None:
    assert re.search(rf"\*\*{word}\*\*", GLOSSARY)


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_the_glossary_has_every_field(struct: type[msgspec.Struct]) -> None:
    assert missing_fields(_entry(struct.__name__), struct) == []


def test_a_field_without_a_word_is_found() -> None:
    entry = _entry("Verdict").replace("`reason`", "reason")
    assert missing_fields(entry, delivery.Verdict) == ["reason"]


@pytest.mark.parametrize("word", AVOIDED)
def test_the_glossary_names_the_word_to_avoid(word: str) -> None:
    table = GLOSSARY.split("## Words to avoid")[1]
    assert re.search(rf"^\| [^|]*\b{word}\b", table, re.MULTILINE)


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    assert dead_links(path) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[a](page.md#top) [b](gone.md) [c](https://example.com/x)")
    assert dead_links(page) == ["gone.md"]


def missing_fields(entry: str, struct: type[msgspec.Struct]) -> list[str]:
    """The fields of a struct that a glossary entry does not name."""
    return [field for field in struct.__struct_fields__ if f"`{field}`" not in entry]


def dead_links(page: Path) -> list[str]:
    """Relative links of a Markdown page to files that do not exist."""
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    return [link for link in links if ":" not in link and not (page.parent / link).exists()]


def _entry(word: str) -> str:
    """The paragraph of a word."""
    return next(part for part in GLOSSARY.split("\n\n") if part.startswith(f"**{word}**"))


BARS = (ROOT / "docs" / "reference" / "bars.md").read_text()
BAR_NAMES = "R1 R2 R3 R4 R5 R6 R7 R8 R9 R11 R12 R13 R14 R16 R17 R18 S2 S6 S7".split()


def test_every_bar_is_listed_once() -> None:
    assert re.findall(r"^\| ([RS]\d+) ", BARS, re.MULTILINE) == BAR_NAMES


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`(tests/[^`]+)`", BARS))))
def test_the_test_of_a_bar_exists_and_is_deep_where_it_says_so(named: str) -> None:
    path, _, name = named.partition("::")
    found = re.search(rf"((?:^@.*\n|^\)\n|^    .*\n)*)^def {name}\(", (ROOT / path).read_text(), re.MULTILINE)
    assert found, named
    assert ("pytest.mark.deep" in found[1]) == (f"`{named}` (deep)" in BARS), named
