"""The files of the start page: nothing inline, nothing from elsewhere, markup never made from text, words in four languages."""

import re

import msgspec
import pytest

from conosco.web.page import load_static
from tests.unit.web.conftest import Client

FILES = load_static()
LANGUAGES = ("en", "it", "pl", "pt")
PLURAL_FORMS = {"en": {"one", "other"}, "it": {"one", "many", "other"}, "pl": {"one", "few", "many", "other"}}
PLURAL_FORMS["pt"] = PLURAL_FORMS["it"]


def words_of(language: str) -> dict[str, str]:
    """The page's catalogue of a language."""
    return msgspec.json.decode(FILES[f"words/{language}.json"].body, type=dict[str, str])


def text_of(name: str) -> str:
    """A file as text."""
    return FILES[name].body.decode()


def test_the_page_has_nothing_inline() -> None:
    html = text_of("page.html")
    assert not re.search(r"<script(?![^>]*\ssrc=)", html)
    assert not re.search(r"\s(style|on\w+)=", html)
    assert "<style" not in html


@pytest.mark.parametrize("name", ["page.html", "page.js", "page.css", "wording.js"])
def test_the_page_needs_nothing_from_elsewhere(name: str) -> None:
    assert set(re.findall(r"https?://[^\s\"'`)]+", text_of(name))) <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("name", ["page.js", "wording.js"])
def test_markup_is_never_made_from_text(name: str) -> None:
    for danger in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "DOMParser", "srcdoc"):
        assert danger not in text_of(name)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_of_the_page_is_in_the_catalogue(language: str) -> None:
    catalogue = words_of(language)
    script = text_of("page.js")
    used = set(re.findall(r'data-word="(\w+)"', text_of("page.html")))
    used |= set(re.findall(r'words\.text\("(\w+)"', script)) | set(re.findall(r'(?:entry|empty)\("(\w+)"', script))
    used |= {word for pair in re.findall(r'words\.text\([^()"]*\? "(\w+)" : "(\w+)"', script) for word in pair}
    used |= {f"state_{state}" for state in ("pending", "delivered", "dead", "denied", "unknown", "cancelled")}
    assert len(used) > 50
    assert used - set(catalogue) == set()
    for counted in re.findall(r'words\.count\("(\w+)"', script):
        assert {f"{counted}_{form}" for form in PLURAL_FORMS[language]} <= set(catalogue)


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_words_are_translated(language: str) -> None:
    english, other = words_of("en"), words_of(language)
    plural = re.compile(r"_(one|few|many|other)\Z")
    assert {plural.sub("", key) for key in other} == {plural.sub("", key) for key in english}
    same = [key for key in english if other.get(key) == english[key]]
    assert len(same) <= 2, f"left in English: {same}"


def test_files_come_with_type_and_tag(ask: Client) -> None:
    script = ask("GET", "/static/page.js")
    assert script.headers["content-type"].startswith("text/javascript")
    again = ask("GET", "/static/page.js", headers={"If-None-Match": script.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert ask("GET", "/static/words/pl.json").json()["find"] == "Znajdź"
    for outside in ("../app.py", "..%2Fapp.py", "%2e%2e/app.py", "words", "none.css"):
        assert ask("GET", f"/static/{outside}").status_code == 404
