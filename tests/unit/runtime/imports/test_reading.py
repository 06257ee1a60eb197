"""The reading child, as its parent sees it: every kind of file, bombs, walls, and being killed."""

import gzip
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from conosco.collect.files.messages import Converted, Described, Finished, Task
from conosco.collect.files.suggesting import suggest
from conosco.model.importing import Description, FileFormat, RejectedRow
from conosco.model.problem import Refused
from conosco.runtime.imports.reading import Cancelled, Reader
from tests.unit.collect.files.workbooks import archive, workbook

MAPPING = [{"type": "track", "event": "Bought", "user_id": {"path": ["id"], "as": "text"}, "properties": {"rest": True}}]


def task(**changes: Any) -> Task:
    return msgspec.structs.replace(Task(handle=0, size=0, format=FileFormat(), key=b"key"), **changes)


def describe(path: Path, **form: Any) -> Description:
    with Reader(path, task(format=FileFormat(**form))) as reader:
        (message,) = reader.messages()
    assert isinstance(message, Described)
    return message.description


def convert(path: Path, mapping: Any = None, **changes: Any) -> tuple[list[dict[str, Any]], list[RejectedRow], int]:
    events: list[dict[str, Any]] = []
    rejected: list[RejectedRow] = []
    rows = -1
    with Reader(path, task(mapping=mapping or MAPPING, **changes)) as reader:
        for message in reader.messages():
            if isinstance(message, Converted):
                events += [msgspec.json.decode(raw) for raw in message.slices]
                rejected += message.rejected
            if isinstance(message, Finished):
                rows = message.rows
    return events, rejected, rows


def refusal(path: Path, **changes: Any) -> str:
    with pytest.raises(Refused) as refused:
        convert(path, **changes)
    return refused.value.problems[0].code


def parquet(path: Path, sql: str) -> Path:
    duckdb.connect().execute(f"COPY ({sql}) TO '{path}' (FORMAT parquet)")
    return path


def test_a_workbook_is_read_with_its_own_types(tmp_path: Path) -> None:
    path = tmp_path / "orders.xlsx"
    path.write_bytes(
        workbook([["id", "Nome", "Prezzo", "Testo"], ["c1", "Łucja", 2.55, "007"], [17850, "Zoë", 3, None], [None] * 4])
    )
    description = describe(path)
    assert description.sheets == ("Orders",)
    events, rejected, rows = convert(path)
    assert [event["userId"] for event in events] == ["c1", "17850"]
    assert [event["properties"] for event in events] == [
        {"Nome": "Łucja", "Prezzo": 2.55, "Testo": "007"},
        {"Nome": "Zoë", "Prezzo": 3},
    ]
    assert (rejected, rows) == ([], 2)


def test_a_column_file_is_read_exactly(tmp_path: Path) -> None:
    sql = (
        "SELECT * FROM (VALUES ('a', 0.1::DOUBLE, 12345678901234567890.12::DECIMAL(22,2), TIMESTAMP '2024-03-01 08:26:00', ['x', 'y'], "
        '{\'deep\': DATE \'2024-03-02\'}), (\'b\', 17850.0, NULL, NULL, NULL, NULL)) AS t("id", "near", "exact", "at", "list", "nested")'
    )
    path = parquet(tmp_path / "orders.parquet", sql)
    assert describe(path).rows[0]["exact"] == Decimal("12345678901234567890.12")
    with Reader(path, task(mapping=MAPPING)) as reader:
        slices = [raw for message in reader.messages() if isinstance(message, Converted) for raw in message.slices]
    assert b'"near":0.1,"exact":12345678901234567890.12,"at":"2024-03-01T08:26:00Z","list":["x","y"]' in slices[0]
    assert b'"nested":{"deep":"2024-03-02"}' in slices[0]
    assert b'"properties":{"near":17850}' in slices[1]


def test_json_lines_are_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl.gz"
    body = b'{"id": 1, "n": 0.10, "deep": {"x": [1]}}\n\n[1]\n{"id": \n{"id": "2"}\n'
    path.write_bytes(gzip.compress(body))
    events, rejected, rows = convert(path)
    assert [event["userId"] for event in events] == ["1", "2"]
    assert [(row.row, row.reason) for row in rejected] == [(2, "not_an_object"), (3, "unreadable_row")]
    assert rows == 4


def test_rows_that_were_done_are_passed_over_and_ids_stay_the_same(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("id,n\n" + "".join(f"c{number},{number}\n" for number in range(5_000)))
    whole, _, _ = convert(path)
    rest, _, rows = convert(path, after=4_990)
    assert rest == whole[4_990:] and rows == 5_000
    assert len({event["messageId"] for event in whole}) == 5_000
    again, _, _ = convert(path, key=b"another file")
    assert {event["messageId"] for event in again}.isdisjoint({event["messageId"] for event in whole})


def test_rejected_rows_keep_what_stood_in_them(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("id,n\nc1,1\n,2\nc3\n")
    _, rejected, _ = convert(path)
    assert [(row.row, row.reason, row.fields) for row in rejected] == [
        (2, "no_usable_identifier", ("", "2")),
        (3, "wrong_width", ("c3",)),
    ]


@pytest.mark.parametrize(
    ("heading", "event"),
    [
        ("e-mail,imię,nazwisko,telefon", {"email": "a@b.pl", "firstName": "x", "lastName": "y", "phone": "+48600100200"}),
        (
            "Indirizzo email,Nome,Cognome,Cellulare",
            {"email": "a@b.pl", "firstName": "x", "lastName": "y", "phone": "+48600100200"},
        ),
        (
            "E-mail,Primeiro nome,Apelido,Telemóvel",
            {"email": "a@b.pl", "firstName": "x", "lastName": "y", "phone": "+48600100200"},
        ),
        (
            "Email address,First name,Surname,Phone number",
            {"email": "a@b.pl", "firstName": "x", "lastName": "y", "phone": "+48600100200"},
        ),
    ],
)
def test_headings_are_understood_in_four_languages(tmp_path: Path, heading: str, event: dict[str, str]) -> None:
    path = tmp_path / "people.csv"
    path.write_text(f"{heading}\nA@B.pl,x,y,+48 600 100 200\n")
    mapping = suggest(describe(path), path.name)
    events, rejected, _ = convert(path, mapping)
    assert (events[0]["type"], events[0]["traits"], rejected) == ("identify", event, [])


def test_a_time_and_a_customer_make_events_named_after_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ordini_2024.csv"
    path.write_text("codice cliente;data;importo\n007;13/03/2024;1,50\n")
    events, _, _ = convert(path, suggest(describe(path), path.name))
    assert (events[0]["event"], events[0]["userId"], events[0]["timestamp"]) == ("Ordini", "007", "2024-03-13T00:00:00Z")
    assert events[0]["properties"] == {"importo": 1.5}


# Files that were made to do harm.


def test_bombs_are_refused_quickly(tmp_path: Path) -> None:
    begun = time.monotonic()
    bomb = tmp_path / "bomb.xlsx"
    bomb.write_bytes(workbook([["id"], ["x"]], extra=bytes(200 << 20)))
    assert refusal(bomb) == "file_is_a_bomb"
    huge = tmp_path / "huge.xlsx"
    huge.write_bytes(
        archive(
            '<worksheet><sheetData><row r="1048576"><c r="XFD1048576"><v>1</v></c></row><row r="1"><c r="A1"><v>1</v></c></row></sheetData></worksheet>'
        )
    )
    assert refusal(huge) in ("file_needs_too_much_memory", "file_too_large", "too_many_columns", "file_damaged")
    wide = tmp_path / "wide.csv"
    wide.write_text(",".join("c" for _ in range(1_000_000)) + "\n" + "," * 999_999 + "\n")
    assert refusal(wide) == "too_many_columns"
    footer = tmp_path / "footer.parquet"
    footer.write_bytes(b"PAR1" + bytes(20 << 20) + (20 << 20).to_bytes(4, "little") + b"PAR1")
    assert refusal(footer) == "file_too_large"
    many = parquet(tmp_path / "many.parquet", "SELECT " + ", ".join(f"1 AS c{number}" for number in range(2_500)))
    assert refusal(many) == "too_many_columns"
    assert time.monotonic() - begun < 60


def test_damaged_files_of_every_kind_are_refused_in_words(tmp_path: Path) -> None:
    good = workbook([["id"], ["x"]])
    broken = tmp_path / "broken.xlsx"
    broken.write_bytes(good[: len(good) // 2])
    assert refusal(broken) == "file_damaged"
    no_book = tmp_path / "document.docx"
    no_book.write_bytes(good.replace(b"xl/workbook.xml", b"xx/workbook.xml"))
    assert refusal(no_book) in ("file_kind_unknown", "file_damaged")
    path = parquet(tmp_path / "p.parquet", "SELECT range AS id FROM range(10000)")
    body = bytearray(path.read_bytes())
    body[100:2_000] = bytes(1_900)
    path.write_bytes(body)
    assert refusal(path) == "file_damaged"


def test_the_child_can_reach_nothing() -> None:
    code = """
import os, socket, subprocess
from conosco.collect.files.confinement import close_the_door, limit_resources
limit_resources(1 << 30, 60)
if not close_the_door(may_open=False):
    print("no help"); raise SystemExit
for what in (lambda: socket.socket(), lambda: open("/etc/hostname"), lambda: subprocess.run(["true"]), lambda: os.kill(os.getppid(), 0)):
    try:
        what(); print("reached")
    except OSError:
        print("refused")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if ran.stdout.startswith("no help"):
        pytest.skip("this kernel offers no filter of system calls")
    assert ran.stdout.split() == ["refused"] * 4, ran.stderr


def test_a_child_that_is_no_longer_wanted_is_killed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("id,n\n" + "".join(f"c{number},{number}\n" for number in range(200_000)))
    wanted = [True]
    with Reader(path, task(mapping=MAPPING), lambda: not wanted[0]) as reader:
        with pytest.raises(Cancelled):
            for _ in reader.messages():
                wanted[0] = False
        pid = reader._process.pid
    assert not Path(f"/proc/{pid}/stat").exists()
