"""Numbers and moments as clients send them: read exactly, whatever their size, and alike on the fast and the slow way."""

import json
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conosco.model.event import read_json
from conosco.model.moment import parse_moment

DIGITS = "7" * 5_000


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"1", 1),
        (b"123456789012345678901234567890", 123456789012345678901234567890),
        (b"0.1", Decimal("0.1")),
        (b"1e999", Decimal("1e999")),
        (b"1e99999999999999999999", Decimal("Infinity")),
        (b"-1e99999999999999999999", Decimal("Infinity")),
        (b"1e-99999999999999999999", Decimal(0)),
        (DIGITS.encode(), Decimal(DIGITS)),
        (f"-{DIGITS}".encode(), Decimal(f"-{DIGITS}")),
        (f'["{DIGITS}", {DIGITS}, 0.{DIGITS}, {DIGITS}e2, "\\"{DIGITS}"]'.encode(), ...),
    ],
)
def test_numbers_of_any_size_are_read(raw: bytes, value: object) -> None:
    if value is ...:
        value = [DIGITS, Decimal(DIGITS), Decimal(f"0.{DIGITS}"), Decimal(f"{DIGITS}e2"), f'"{DIGITS}']
    assert read_json(raw) == value


def test_many_numbers_as_long_as_they_may_be_cost_no_more_than_others() -> None:
    numbers = [int("7" * 4_300)] * 200
    assert read_json(f"[{DIGITS}, {json.dumps(numbers)[1:]}".encode())[1:] == numbers


@given(st.datetimes(), st.sampled_from(["seconds", "milliseconds", "microseconds"]))
def test_what_clients_send_means_the_same_as_its_other_spelling(moment: object, precision: str) -> None:
    text = moment.isoformat(timespec=precision)  # type: ignore[attr-defined]  # a datetime
    # Only the first is spelled as the short way knows it.
    assert parse_moment(text + "Z") == parse_moment(text + "+00:00") == parse_moment(text) == parse_moment(text + "z")


@given(st.lists(st.tuples(st.integers(0, 23), st.sampled_from("0123456789-:TZ.,+W ")), min_size=1, max_size=3))
@example([(8, "W")])
@example([(11, "2"), (12, "4")])
@example([(19, ":")])
def test_what_is_spelled_otherwise_takes_the_long_way(changes: list[tuple[int, str]]) -> None:
    text = list("2026-01-01T00:00:00.000Z")
    for place, character in changes:
        text[place] = character
    spelled = "".join(text)
    # A space in front of the zone is read by the long way only.
    slow = parse_moment(spelled[:-1] + " Z") if spelled.endswith("Z") else parse_moment(spelled)
    assert parse_moment(spelled) == slow


def test_the_last_moment_that_can_be_spelled() -> None:
    assert parse_moment("9999-12-31T23:59:59Z") == 253_402_300_799_000_000
    assert parse_moment("9999-12-31T23:59:59.999Z") is None
