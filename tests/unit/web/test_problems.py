"""Errors: their shape, their places, their words in four languages, and what they must never say."""

import ast
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import conosco
from conosco.cli.words import SENTENCES
from conosco.model.problem import Refused
from conosco.ports.log import LogFull
from conosco.rules.mapping_parse import CODES as MAPPING_CODES
from conosco.rules.parse import CODES
from conosco.web.wording import LANGUAGES, Language, Wording, choose_language, load_catalogues
from tests.unit.web.conftest import Client
from tests.unit.web.fake_office import FakeOffice

CATALOGUES = load_catalogues()
Notes = list[tuple[str, dict[str, Any]]]
PLACE = re.compile(r"\{([a-z_]+)\}")
SEGMENT = {"key": "loyal", "name": "Loyal", "purpose": "marketing", "spec": {"language": 1, "where": {"kind": "wrong"}}}


def test_a_problem_has_the_promised_members(ask: Client) -> None:
    answer = ask("GET", "/api/segments/none", headers={"X-Request-Id": "request-7"})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:conosco:error:not_found",
        "title": "Not found",
        "status": 404,
        "detail": "There is nothing of the type “segment” under “none”.",
        "code": "not_found",
        "params": {"kind": "segment", "ref": "none"},
        "pointer": "",
        "next": "Check the spelling; ids and keys are case-sensitive.",
        "request_id": "request-7",
    }
    assert answer.headers["x-request-id"] == "request-7"


@pytest.mark.parametrize("wanted", ["a b", "<script>", "x", "y" * 65])
def test_a_request_id_that_is_no_plain_word_is_replaced(ask: Client, wanted: str) -> None:
    answer = ask("GET", "/api/segments/none", headers={"X-Request-Id": wanted})
    assert answer.json()["request_id"] == answer.headers["x-request-id"] != wanted


def test_all_problems_of_a_refusal_are_told(ask: Client) -> None:
    body = ask("POST", "/api/segments", json=SEGMENT).json()
    assert (body["status"], body["code"], body["pointer"]) == (422, "unknown_kind", "/spec/where/kind")
    assert [(part["code"], part["pointer"]) for part in body["problems"]] == [("missing_field", "/spec/where/of")]
    assert body["next"] == "Did you mean “group”?"


@pytest.mark.parametrize(
    ("path", "body", "code", "pointer", "params"),
    [
        ("/api/purposes", {"key": "a", "nam": "A"}, "unknown_field", "/nam", {"field": "nam", "nearest": "name"}),
        ("/api/purposes", {"key": "a", "name": "A"}, "missing_field", "/basis", {"field": "basis"}),
        ("/api/purposes", {"key": 7, "name": "A"}, "wrong_type", "/key", {"expected": "text", "actual": "whole_number"}),
        ("/api/purposes", {"key": "a", "name": "A", "basis": "whim"}, "invalid_choice", "/basis", {"value": "whim"}),
        ("/api/purposes", {"key": "a", "name": {"xx": "A"}}, "invalid_choice", "/name", {"value": "xx"}),
        ("/api/purposes", [], "wrong_type", "", {"expected": "object", "actual": "list"}),
        (
            "/api/links",
            {"kind": "manual_same", "left": {"namespce": "a"}},
            "unknown_field",
            "/left/namespce",
            {"nearest": "namespace"},
        ),
        (
            "/api/quarantine/replay",
            {"addresses": [{"position": 1, "slt": 2}]},
            "unknown_field",
            "/addresses/0/slt",
            {"nearest": "slot"},
        ),
        ("/api/sql", {"sql": "select 1", "parameters": []}, "unknown_field", "/parameters", {"nearest": "params"}),
    ],
)
def test_a_wrong_body_is_told_with_its_place(
    ask: Client, path: str, body: Any, code: str, pointer: str, params: dict[str, Any]
) -> None:
    answer = ask("POST", path, json=body)
    told = answer.json()
    assert (answer.status_code, told["code"], told["pointer"]) == (422, code, pointer)
    assert params.items() <= told["params"].items()


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "code"),
    [
        ("POST", "/api/sql", b"{nope", 400, "unreadable_body"),
        ("POST", "/api/sql", b"\xff\xfe", 400, "unreadable_body"),
        ("POST", "/api/sql", b"", 422, "body_missing"),
        ("POST", "/api/sql", b"[" * 100_000, 400, "unreadable_body"),
        ("POST", "/api/sql", b" " * 10_000_001, 413, "body_too_large"),
        ("GET", "/api/nothing", b"", 404, "no_such_path"),
        ("DELETE", "/api/status", b"", 405, "method_not_allowed"),
        ("GET", "/api/segments?limit=0", b"", 422, "invalid_value"),
        ("GET", "/api/segments?limit=many", b"", 422, "wrong_type"),
        ("GET", "/api/segments?cursor=xyz", b"", 422, "bad_cursor"),
        ("GET", "/api/profiles/nobody", b"", 422, "bad_reference"),
        ("GET", "/api/profiles/:x", b"", 422, "bad_reference"),
        ("GET", "/api/profiles/pro_unknown", b"", 404, "not_found"),
        ("GET", "/api/profiles/email:x/explain", b"", 422, "missing_parameter"),
    ],
)
def test_a_wrong_request_is_told(ask: Client, method: str, path: str, content: bytes, status: int, code: str) -> None:
    answer = ask(method, path, content=content)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_crash_tells_nothing_and_notes_no_values(ask: Client, office: FakeOffice, notes: Notes) -> None:
    office.progress.crash = ValueError("anna@example.com is secret")
    answer = ask("GET", "/api/status")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert "ValueError" not in answer.text
    (_, crashed), (_, answered) = notes
    assert crashed["error"] == "ValueError"
    assert any("fake_office.py" in place for place in crashed["places"])
    assert crashed["request_id"] == answered["request_id"] == answer.json()["request_id"]
    assert "secret" not in str(notes)


def test_notes_name_routes_and_no_people(ask: Client, notes: Notes) -> None:
    ask("GET", "/api/profiles/email:anna%40example.com/explain?segment=loyal")
    assert notes == [], "reads that went well are not noted"
    ask("GET", "/api/profiles/email:nobody%40example.com/explain?segment=loyal")
    ((what, facts),) = notes
    assert (what, facts["route"], facts["status"], facts["method"]) == ("answered", "/api/profiles/{ref}/explain", 404, "GET")
    assert "nobody" not in str(notes)
    assert b"nobody".hex() not in str(notes)
    ask("POST", "/api/quarantine/replay")
    assert notes[1][1]["route"] == "/api/quarantine/replay"


def test_a_full_disk_is_told(ask: Client, office: FakeOffice) -> None:
    office.progress.crash = LogFull()
    answer = ask("GET", "/api/status")
    assert (answer.status_code, answer.json()["code"]) == (503, "log_full")


def test_a_refusal_without_problems_is_still_a_problem(ask: Client, office: FakeOffice) -> None:
    office.progress.crash = Refused([])
    assert ask("GET", "/api/status").json()["code"] == "internal_error"


@pytest.mark.parametrize(
    ("header", "language", "title"),
    [
        ("it", "it", "Non trovato"),
        ("pl-PL,en;q=0.5", "pl", "Nie znaleziono"),
        ("fr, pt-BR;q=0.8, en;q=0.2", "pt", "Não encontrado"),
        ("de", "en", "Not found"),
        ("it;q=0.1, en;q=0.9", "en", "Not found"),
    ],
)
def test_words_come_in_the_readers_language(ask: Client, header: str, language: str, title: str) -> None:
    answer = ask("GET", "/api/segments/none", headers={"Accept-Language": header})
    assert (answer.json()["title"], answer.headers["content-language"]) == (title, language)


@given(st.text(max_size=60))
def test_any_accept_language_gives_a_known_language(header: str) -> None:
    assert choose_language(header) in LANGUAGES


def told_codes() -> dict[str, list[set[str]]]:
    """Every code that the product's own source refuses with, and the parameters of each place where they can be read.

    Left out are the places whose refusals never pass through the management API.
    """
    folder = Path(conosco.__file__).parent
    elsewhere = {"collect", "cli", "testing", "web/tracking.py", "runtime/settings.py"}
    found: dict[str, list[set[str]]] = {}
    for path in folder.rglob("*.py"):
        place = path.relative_to(folder)
        if place.parts[0] in elsewhere or place.as_posix() in elsewhere:
            continue
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and (told := _told(call)):
                found.setdefault(told[0], []).append(told[1])
    return found


def _told(call: ast.Call) -> tuple[str, set[str]] | None:
    """The code and the parameters of a call that makes a problem; none for other calls."""
    name = ast.unparse(call.func)
    named = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    if name == "Problem":
        code, params = named.get("code"), named.get("params")
        keys = params.keys if isinstance(params, ast.Dict) else []
        given_names = {key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
        given_names |= {"*"} if params is not None and not isinstance(params, ast.Dict) else set()
    elif name in ("refuse", "QueryFailed", "PlaceFailed") or name.endswith("found.add"):
        code = call.args[0] if call.args else None
        given_names = set(named) | ({"*"} if any(keyword.arg is None for keyword in call.keywords) else set())
    else:
        return None
    return (code.value, given_names) if isinstance(code, ast.Constant) and isinstance(code.value, str) else None


def test_every_code_has_words() -> None:
    codes = set(told_codes()) | set(CODES) | set(MAPPING_CODES)
    assert len(codes) > 50, "the search must find what there is"
    # What only a command can meet has its words beside the commands.
    assert sorted(codes - set(CATALOGUES["en"].codes) - set(SENTENCES)) == []


def test_words_speak_only_of_parameters_that_are_given() -> None:
    wrong = [
        (code, name)
        for code, places in told_codes().items()
        for given_names in places
        for name in PLACE.findall(CATALOGUES["en"].codes[code].detail if code in CATALOGUES["en"].codes else SENTENCES[code])
        if "*" not in given_names and name not in given_names
    ]
    assert wrong == []


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
def test_catalogues_agree_with_the_english_one(language: Language) -> None:
    english, other = CATALOGUES["en"], CATALOGUES[language]
    assert set(other.codes) == set(english.codes)
    assert set(other.values) == set(english.values)
    assert set(other.deliveries) == set(english.deliveries)
    for code, words in english.codes.items():
        told = other.codes[code]
        for mine, theirs in ((words.title, told.title), (words.detail, told.detail), (words.next, told.next)):
            assert set(PLACE.findall(theirs)) <= set(PLACE.findall(mine)) | {"key", "kind"}, code
            assert bool(theirs) == bool(mine), code
        assert told.detail != words.detail or PLACE.sub("", words.detail).strip(" .") == "" or code == "invalid_value", code


@given(
    code=st.sampled_from([*CATALOGUES["en"].codes, "never_heard_of"]),
    language=st.sampled_from(get_args(Language)),
    params=st.dictionaries(st.sampled_from(["field", "kind", "value", "nearest"]), st.text() | st.integers(), max_size=4),
)
def test_words_never_leave_a_place_open(code: str, language: Language, params: dict[str, str | int]) -> None:
    clean = {name: str(value).replace("{", "").replace("}", "") for name, value in params.items()}
    words = Wording(CATALOGUES).words(code, clean, language)
    for text in (words.title, words.detail, words.next):
        assert not PLACE.search(text)
        assert len(text) < 1_500
    assert words.title


def test_advice_without_its_parameter_is_left_out() -> None:
    wording = Wording(CATALOGUES)
    assert wording.words("unknown_field", {"field": "x", "nearest": "y"}, "en").next == "Did you mean “y”?"
    assert wording.words("unknown_field", {"field": "x"}, "en").next == ""
    assert wording.words("unknown_field", {"field": "x", "nearest": ""}, "en").next == ""
