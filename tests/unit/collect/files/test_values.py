"""Values of columns: what they are is told by all of them, is exact, and is asked where it cannot be told."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from conosco.collect.files.values import Unfit, converter, judge_columns
from conosco.model.importing import Column


def judged(values: Sequence[str], name: str = "x", delimiter: str = ",") -> tuple[Column, str]:
    (column,), questions = judge_columns([(name, values)], delimiter)
    return column, questions[0].about if questions else ""


@pytest.mark.parametrize(
    ("values", "column"),
    [
        (["1", "22", "-3"], Column(name="x", type="number")),
        (["1.5", "2"], Column(name="x", type="number")),
        (["1,5", "2"], Column(name="x", type="number", decimal=",")),
        (["1.234,50", "7,00"], Column(name="x", type="number", decimal=",", thousands=".")),
        (["1,234.50", "7.00"], Column(name="x", type="number", thousands=",")),
        (["1 234,50", "7,00"], Column(name="x", type="number", decimal=",", thousands=" ")),
        (["1\u00a0234,50", "7,00"], Column(name="x", type="number", decimal=",", thousands=" ")),
        (["1'234.50", "7.00"], Column(name="x", type="number", thousands="'")),
        (["1.234.567"], Column(name="x", type="number", decimal=",", thousands=".")),
        (["1.234"], Column(name="x", type="number")),
        (["007", "12"], Column(name="x")),
        (["+48600100200"], Column(name="x")),
        (["85123A", "71053"], Column(name="x")),
        (["1,5", "1.5"], Column(name="x")),
        (["", " "], Column(name="x")),
        (["2024-03-01", "2024-03-02T10:00:00Z"], Column(name="x", type="moment", order="ymd")),
        (["13/02/2024", "01/02/2024"], Column(name="x", type="moment", order="dmy")),
        (["02/13/2024", "01/02/2024"], Column(name="x", type="moment", order="mdy")),
        (["01.02.2024"], Column(name="x", type="moment", order="dmy")),
        (["1/2/24 3:05 PM", "25/2/24 3:05 AM"], Column(name="x", type="moment", order="dmy")),
        (["13/13/2024"], Column(name="x")),
        (["yesterday"], Column(name="x")),
    ],
)
def test_a_column_is_what_all_its_values_are(values: list[str], column: Column) -> None:
    assert judged(values) == (column, "")


@pytest.mark.parametrize(("values", "about"), [(["01/02/2024", "03/04/2024"], "date_order"), (["01-02-2024"], "date_order")])
def test_what_the_values_do_not_decide_is_asked(values: list[str], about: str) -> None:
    assert judged(values) == (Column(name="x"), about)


def test_a_lone_mark_before_three_digits_is_asked_unless_another_column_decides() -> None:
    assert judged(["1,234"]) == (Column(name="x"), "decimal_mark")
    assert judged(["1.234"], delimiter=";") == (Column(name="x"), "decimal_mark")
    columns, questions = judge_columns([("x", ["1,234"]), ("y", ["0,5"])], ";")
    assert (columns[0].decimal, questions) == (",", [])


def test_eight_digits_are_a_date_only_where_the_heading_says_so() -> None:
    assert judged(["20240131"], "data")[0].type == "moment"
    assert judged(["20240131"], "amount")[0].type == "number"


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        (Column(name="x", type="number"), " 12 ", 12),
        (Column(name="x", type="number"), "0.10", Decimal("0.10")),
        (Column(name="x", type="number"), "123456789012345678901234567890.5", Decimal("123456789012345678901234567890.5")),
        (Column(name="x", type="number", decimal=",", thousands="."), "1.234.567,89", Decimal("1234567.89")),
        (Column(name="x", type="number", decimal=",", thousands=" "), "-1\u202f234,5", Decimal("-1234.5")),
        (Column(name="x", type="number"), "", None),
        (Column(name="x", type="moment", order="dmy"), "03/04/2024", "2024-04-03T00:00:00Z"),
        (Column(name="x", type="moment", order="mdy"), "03/04/2024 11:05 pm", "2024-03-04T23:05:00Z"),
        (Column(name="x", type="moment", order="ymd"), "2024-03-04T10:00:00+02:00", "2024-03-04T10:00:00+02:00"),
        (Column(name="x", type="moment", order="dmy"), "1.2.69", "1969-02-01T00:00:00Z"),
    ],
)
def test_values_are_exact(column: Column, text: str, value: Any) -> None:
    read = converter(column, "")
    assert read is not None
    assert read(text) == value and type(read(text)) is type(value)


def test_a_time_without_a_zone_is_that_of_the_file() -> None:
    read = converter(Column(name="x", type="moment", order="dmy"), "Europe/Warsaw")
    assert read is not None
    assert read("01.07.2024 12:00") == "2024-07-01T10:00:00Z"
    assert read("01.01.2024 12:00") == "2024-01-01T11:00:00Z"


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (Column(name="x", type="number"), "12a"),
        (Column(name="x", type="number", thousands=","), "1,23,456"),
        (Column(name="x", type="number", decimal=",", thousands="."), "12345.678,9"),
        (Column(name="x", type="number", decimal=","), "1.5"),
        (Column(name="x", type="moment", order="dmy"), "31/02/2024"),
        (Column(name="x", type="moment", order="mdy"), "13/01/2024"),
        (Column(name="x", type="moment", order="ymd"), "2024-13-01"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(column: Column, text: str) -> None:
    read = converter(column, "")
    assert read is not None
    with pytest.raises(Unfit):
        read(text)


def test_text_stays_as_it_is_written() -> None:
    assert converter(Column(name="x"), "") is None


def test_thousands_apart_by_spaces_are_read_whatever_mark_was_said() -> None:
    read = converter(Column(name="kwota", type="number", decimal=",", thousands="."), "")
    assert read is not None
    assert [read(text) for text in ("1 234,50", "1\u00a0234 567,5", "1.234,50", "19")] == [
        Decimal("1234.50"),
        Decimal("1234567.5"),
        Decimal("1234.50"),
        19,
    ]
    for text in ("1 2,5", "1.234 567,0", "12 34"):
        with pytest.raises(Unfit):
            read(text)
