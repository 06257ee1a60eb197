"""Delimited text: its dialect, strict reading with row numbers, and that one bad row harms no other."""

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conosco.collect.files import delimited
from conosco.collect.files.delimited import Dialect, RawRow, detect_dialect, name_columns, read_rows
from conosco.collect.files.opening import content

USUAL = Dialect(",", '"', True)


def rows_of(folder: Path, body: bytes, encoding: str = "utf-8", dialect: Dialect = USUAL) -> list[RawRow]:
    path = folder / "file.csv"
    path.write_bytes(body)
    with path.open("rb") as file:
        return list(read_rows(content(file, len(body), False), encoding, dialect))


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("a,b,c\n1,2,3\n4,5,6\n", (",", '"', True)),
        ("nome;città;data\nAnna;Roma, centro;01/02/2024\n", (";", '"', True)),
        ("imię\tmiasto\nEwa\tŁódź\n", ("\t", '"', True)),
        ("a|b\nx|y\n", ("|", '"', True)),
        ('a,b\n"x, y",2\n"z ""q""",3\n', (",", '"', True)),
        ("a,b\n'x, y','2'\n'z','3'\n", (",", "'", True)),
        ("17850,2.55,anna@example.com\n17851,3.39,ewa@example.com\n", (",", '"', False)),
        ("2024-01-01;5\n2024-01-02;6\n", (";", '"', False)),
        ("email\nanna@example.com\n", (",", '"', True)),
        ("a;b\n1,5;2,5\n3,5;4,5\n", (";", '"', True)),
    ],
)
def test_the_dialect_is_found(text: str, dialect: tuple[str, str, bool]) -> None:
    assert tuple(detect_dialect(text)) == dialect


def test_what_is_said_is_kept() -> None:
    assert detect_dialect("a,b\n1,2\n", delimiter=";", header=False) == Dialect(";", '"', False)


def test_columns_get_names_that_differ() -> None:
    assert name_columns(["a", "", " a ", "b"], True) == ["a", "column_2", "a_2", "b"]
    assert name_columns(["1", "2"], False) == ["column_1", "column_2"]


def test_fields_may_hold_delimiters_quotes_and_line_breaks(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, b'a,b\r\n"x, ""y""","two\r\nlines"\r\nlast,row')
    assert [(row.number, row.fields, row.fault) for row in rows] == [
        (0, ["a", "b"], None),
        (1, ['x, "y"', "two\r\nlines"], None),
        (2, ["last", "row"], None),
    ]


def test_a_bad_row_is_told_with_its_number_and_the_others_are_read(tmp_path: Path) -> None:
    body = b'a,b\n1,2\nonly one\n"stray" quote,x\n3,4\n"never closed,5\n6,7\n8,9\n'
    rows = rows_of(tmp_path, body)
    told = [(row.number, row.fault.reason if row.fault else row.fields) for row in rows]
    assert told == [
        (0, ["a", "b"]),
        (1, ["1", "2"]),
        (2, "wrong_width"),
        (3, "stray_quote"),
        (4, ["3", "4"]),
        (5, "stray_quote"),
        (6, ["6", "7"]),
        (7, ["8", "9"]),
    ]
    assert rows[3].fields == ['"stray" quote,x']


def test_a_quote_that_swallows_a_thousand_lines_costs_one_row(tmp_path: Path) -> None:
    body = b"a,b\n" + b'"open,1\n' + b"x,y\n" * 3_000
    rows = rows_of(tmp_path, body)
    assert [row.number for row in rows if row.fault] == [1]
    assert sum(row.fields == ["x", "y"] for row in rows) == 3_000


def test_bytes_that_are_no_text_reject_their_row_only(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, b"a,b\nx,\xff\ny,\xc4\x85\n")
    assert [row.fault.reason if row.fault else row.fields[1] for row in rows] == ["b", "undecodable_text", "ą"]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert rows_of(tmp_path, b"\xef\xbb\xbfa,b\n1,2\n")[0].fields == ["a", "b"]
    assert rows_of(tmp_path, "a,b\n1,2\n".encode("utf-16"), "utf-16-le")[0].fields == ["a", "b"]


FIELDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)


@given(st.lists(st.lists(FIELDS, min_size=2, max_size=2), min_size=1, max_size=20))
def test_what_is_written_properly_is_read_as_it_was(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    body = "".join(",".join('"' + field.replace('"', '""') + '"' for field in row) + "\n" for row in rows)
    found = rows_of(tmp_path_factory.mktemp("rows"), ("h1,h2\n" + body).encode())
    # U+FFFD stands for what could not be decoded, so a row that holds it cannot be told from a broken one.
    expected = [row for row in rows if "\ufffd" not in "".join(row)]
    assert [row.fields for row in found[1:] if row.fault is None] == expected


PIECES = ["a", "bc", "1", ",", ",", "\n", "\n", "\r\n", "\r", "à", "\ufffd", "\ufeff", "\u2028", "\x0b", " "]


@settings(max_examples=200, deadline=None)
@given(
    pieces=st.lists(st.sampled_from([*PIECES, '"']) | st.just("x"), max_size=40),
    size=st.sampled_from([1, 2, 3, 7, 1 << 18]),
    header=st.booleans(),
)
def test_many_lines_at_once_are_read_as_one_by_one(pieces: list[str], size: int, header: bool) -> None:
    body = "".join(pieces).encode() + b"\n\x81,b\n" * (len(pieces) % 2)

    def read() -> list[RawRow]:
        return list(read_rows(io.BytesIO(body), "utf-8", Dialect(",", '"', header)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "_STRETCH_CHARACTERS", size)
        at_once = read()
        patch.setattr(delimited._Lines, "stretch", lambda lines, quote: "")
        assert read() == at_once
