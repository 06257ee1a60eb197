"""The files connector: safe and exact cells, files that are there whole or not at all, and folders that cannot be left."""

import asyncio
import csv
import io
import json
import os
import stat
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conosco.connectors.cells import plain_cell, safe_cell
from conosco.connectors.destinations import files
from conosco.connectors.outbound import Context, Outbound
from conosco.model.delivery import Intent, Parcel, Reply
from conosco.model.problem import Refused
from conosco.runtime.bootstrap_files import to_parquet

# What makes a spreadsheet compute, in the disguises that have got past other products.
SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20\u2212\u207b"
BEFORE = ("", " ", "\t", "\r", "\n", "\u00a0", "\u200b", "\ufeff", "\u2003", "\x00", '"', " \t\u00a0\u200b", "\u202e", "\x0b")
FORMULAS = [before + sign + "cmd|' /C calc'!A0" for before in BEFORE for sign in SIGNS]
HOSTILE = [*FORMULAS, "\tx", "\rx", "\nx", "'=1+1", "''", "'", "@SUM(1)", "=", '=HYPERLINK("http://x","y")', "\uff1d1"]


def an_intent(number: int, payload: dict[str, Any] | None = None, body: bytes = b"") -> Intent:
    return Intent(
        delivery_id=f"dlv_{number}",
        destination="lake",
        destination_version=1,
        type="segment.entered",
        payload=payload or {"type": "segment.entered", "segment": "buyers", "person": {"name": f"n{number}", "points": number}},
        position=number,
        created_at=number,
        profile_id=f"pro_{number}",
        segment="buyers",
        body=body,
    )


def a_parcel(*intents: Intent) -> Parcel:
    return Parcel(id="bat_1", intents=intents)


def deliver(root: Path | None, parcel: Parcel, **spec: Any) -> Reply:
    async def scene() -> Reply:
        outbound = Outbound()
        settings = files.read_settings({"folder": "crm/daily", **spec})
        context = Context(outbound=outbound, now=1, files=root, to_parquet=to_parquet)
        reply = await files.deliver(parcel, settings, b"", context)
        await outbound.close()
        return reply

    return asyncio.run(scene())


def test_the_corpus_is_large_enough() -> None:
    assert len(HOSTILE) >= 140


@pytest.mark.parametrize("text", HOSTILE)
def test_no_hostile_cell_begins_a_formula_and_each_is_read_back_exactly(text: str) -> None:
    cell = safe_cell(text)
    assert cell.startswith("'")
    assert plain_cell(cell) == text


@given(st.text())
def test_every_text_is_read_back_exactly(text: str) -> None:
    assert plain_cell(safe_cell(text)) == text


@pytest.mark.parametrize("text", ["Anna", "5", "a=b", "x@example.org", "1-2", "", "  plain", "état"])
def test_plain_cells_stay_as_they_are(text: str) -> None:
    assert safe_cell(text) == text


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_a_csv_file_is_read_back_exactly(names: list[str]) -> None:
    settings = files.read_settings({"folder": "x", "format": "csv", "columns": ["person.name"]})
    parcel = a_parcel(*(an_intent(number, {"person": {"name": name}}) for number, name in enumerate(names)))
    text = files.to_payload(parcel, settings).decode()
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert [plain_cell(row[-1]) for row in rows[1:]] == names
    assert files.to_payload(parcel, settings).decode() == text


def test_json_lines_hold_each_body_as_it_was_made(tmp_path: Path) -> None:
    exact = an_intent(2, {}, b'{"amount":0.10,"id":12345678901234567890123}')
    assert deliver(tmp_path, a_parcel(an_intent(1), exact)) == ("delivered", "file_written", 0)
    (made,) = (tmp_path / "crm" / "daily").iterdir()
    assert made.name == "bat_1.jsonl"
    lines = made.read_bytes().splitlines()
    assert b'"body":{"amount":0.10,"id":12345678901234567890123}' in lines[1]
    assert [json.loads(line)["delivery_id"] for line in lines] == ["dlv_1", "dlv_2"]
    assert stat.S_IMODE(made.stat().st_mode) & 0o007 == 0


def test_parquet_is_made_by_a_process_of_its_own(tmp_path: Path) -> None:
    parcel = a_parcel(an_intent(1), an_intent(2, {"person": {"name": "=zoë'\n", "points": 7}}))
    assert deliver(tmp_path, parcel, format="parquet", columns=["person.name", "person.points"]).result == "delivered"
    columns = 'delivery_id, "person.name", "person.points"'
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT {columns} FROM '{tmp_path}/crm/daily/bat_1.parquet'").fetchall()
    assert found == [("dlv_1", "n1", "1"), ("dlv_2", "=zoë'\n", "7")]


def test_the_same_batch_again_is_the_same_file(tmp_path: Path) -> None:
    for _ in range(2):
        deliver(tmp_path, a_parcel(an_intent(1)))
    folder = tmp_path / "crm" / "daily"
    assert [each.name for each in folder.iterdir()] == ["bat_1.jsonl"]
    # What a kill left behind is written over.
    (folder / ".bat_1.jsonl.new").write_bytes(b"half")
    deliver(tmp_path, a_parcel(an_intent(1)))
    assert [each.name for each in folder.iterdir()] == ["bat_1.jsonl"]
    assert (folder / "bat_1.jsonl").read_bytes().endswith(b"}\n")


@pytest.mark.parametrize(
    "folder",
    ["", "/etc", "..", "a/../b", "a//b", "./a", "a/.hidden", "a\\b", "a\x00b", "a/b ", "é", "a/" * 9 + "a", "~", "-a", "a" * 80],
)
def test_a_folder_that_might_lead_elsewhere_is_refused(folder: str) -> None:
    with pytest.raises(Refused) as caught:
        files.read_settings({"folder": folder})
    assert caught.value.problems[0].pointer == "/spec/folder"


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (root / "crm").symlink_to(outside)
    assert deliver(root, a_parcel(an_intent(1))) == ("retry", "folder_refused", 0)
    (root / "crm").unlink()
    (root / "crm" / "daily").mkdir(parents=True)
    (root / "crm" / "daily" / ".bat_1.jsonl.new").symlink_to(outside / "taken")
    assert deliver(root, a_parcel(an_intent(1))) == ("retry", "folder_refused", 0)
    # A link in place of the file itself is replaced, not written through.
    (root / "crm" / "daily" / ".bat_1.jsonl.new").unlink()
    (root / "crm" / "daily" / "bat_1.jsonl").symlink_to(outside / "taken")
    assert deliver(root, a_parcel(an_intent(1))).result == "delivered"
    assert list(outside.iterdir()) == []


def test_what_cannot_be_written_waits(tmp_path: Path) -> None:
    assert deliver(None, a_parcel(an_intent(1))) == ("retry", "files_not_allowed", 0)
    assert deliver(tmp_path / "gone", a_parcel(an_intent(1))) == ("retry", "file_failed", 0)
    (tmp_path / "crm").write_text("a file where a folder should be")
    assert deliver(tmp_path, a_parcel(an_intent(1))) == ("retry", "folder_refused", 0)


def test_a_file_is_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        steps.append("sync")
        sync(handle)

    def renamed(*names: Any, **folders: Any) -> None:
        steps.append("rename")
        replace(*names, **folders)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    files.write_file(tmp_path, [], "made", b"x")
    assert steps == ["sync", "rename", "sync"]
