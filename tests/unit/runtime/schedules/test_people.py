"""Files of people: formats, changes since the last file, the gate."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from conosco.connectors.cells import plain_cell
from conosco.model.scheduled import ExportColumn, ExportFormat, ExportSpec
from conosco.runtime.schedules.people import Allows, Known, PeopleFile, question_of

COLUMNS = (ExportColumn(kind="profile_id"), ExportColumn(kind="trait", name="plan", heading="=Plan"))


def written(
    tmp_path: Path, rows: Sequence[object], spec: ExportSpec, before: Known | None = None, allows: Allows = lambda _: True
) -> tuple[PeopleFile, bytes]:
    extract, made = tmp_path / "extract", tmp_path / "made"
    made.unlink(missing_ok=True)
    extract.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    writing = PeopleFile(spec, allows, b"secret", before)
    writing.write(extract, made)
    return writing, made.read_bytes()


def spec_of(form: ExportFormat = "jsonl", content: str = "full") -> ExportSpec:
    return msgspec.structs.replace(ExportSpec(place={}, columns=COLUMNS), format=form, content=content)


def test_cells_of_csv_are_no_formulas(tmp_path: Path) -> None:
    _, body = written(tmp_path, [["pro_a", True, '"=1+1"'], ["pro_b", True, "-2"], ["pro_c", True, None]], spec_of("csv"))
    rows = list(csv.reader(io.StringIO(body.decode(), newline="")))
    assert rows == [["profile_id", "'=Plan"], ["pro_a", "'=1+1"], ["pro_b", "'-2"], ["pro_c", ""]]
    assert plain_cell(rows[1][1]) == "=1+1"


def test_json_lines_keep_values_as_they_are(tmp_path: Path) -> None:
    _, body = written(tmp_path, [["pro_a", True, '{"a":1.10}'], ["pro_b", True, None]], spec_of())
    assert body == b'{"profile_id":"pro_a","=Plan":{"a":1.10}}\n{"profile_id":"pro_b","=Plan":null}\n'


@pytest.mark.parametrize("rows", [[], [["pro_a", True, '"gold"']]])
def test_a_parquet_file_has_its_columns_with_and_without_rows(tmp_path: Path, rows: list[object]) -> None:
    _, body = written(tmp_path, rows, spec_of("parquet"))
    assert body.startswith(b"PAR1") and body.endswith(b"PAR1")


def test_changes_are_told_once_and_only_of_those_who_may_be_used(tmp_path: Path) -> None:
    spec = spec_of(content="changes")
    everyone = [[f"pro_{letter}", True, None] for letter in "abc"]
    first, body = written(tmp_path, everyone, spec, Known(b""), lambda who: who != "pro_c")
    assert [msgspec.json.decode(line)["change"] for line in body.splitlines()] == ["entered", "entered"]
    assert (first.counts.entered, first.counts.left_out) == (2, 1)
    again, body = written(tmp_path, everyone, spec, Known(first.now), lambda who: who != "pro_c")
    assert body == b""
    later = [["pro_a", False, None], ["pro_b", True, None], ["pro_c", True, None], ["pro_d", False, None]]
    last, body = written(tmp_path, later, spec, Known(again.now))
    found = [msgspec.json.decode(line) for line in body.splitlines()]
    assert [(row["change"], row["profile_id"]) for row in found] == [("exited", "pro_a"), ("entered", "pro_c")]
    # Who left and may no longer be used is not even told to have left.
    _, body = written(tmp_path, [["pro_b", False, None]], spec, Known(last.now), lambda who: False)
    assert body == b""


def test_names_are_parameters_and_never_part_of_the_question() -> None:
    evil = "x') --"
    spec = ExportSpec(place={}, segment=evil, columns=(ExportColumn(kind="identifier", name=evil),))
    question = question_of(spec)
    assert evil not in question.sql
    assert question.params == [evil, evil, [evil]]
