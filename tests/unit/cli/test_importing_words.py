"""What a preview says of rows that would be rejected, and of a column that is nearly numbers."""

from typing import Any

from conosco.cli.importing_words import tell_preview


def told(columns: list[dict[str, str]], rows: list[dict[str, Any]], rejected: list[Any]) -> list[str]:
    lines: list[str] = []
    reasons: dict[str, int] = {}
    for _, reason, _, _ in rejected:
        reasons[reason] = reasons.get(reason, 0) + 1
    names = [column["name"] for column in columns]
    form = {"kind": "csv", "encoding": "cp1250", "delimiter": ";", "columns": columns}
    preview = {
        "description": {"format": form, "questions": [], "names": names, "rows": rows},
        "rows_read": 9,
        "accepted": 9 - len(rejected),
        "rejected": len(rejected),
        "reasons": reasons,
        "rejected_rows": rejected,
        "identity": None,
    }
    tell_preview(preview, "file.csv", lines.append)
    return lines


def test_a_rejected_row_is_shown_with_what_is_wrong_in_it() -> None:
    columns = [{"name": "E-mail", "type": "text"}, {"name": "Kwota", "type": "text"}]
    bad = {"field": "context/traits/email", "column": "E-mail"}
    rejected = [
        *([at, "mapping_unreadable", bad, [f"a@@{at}", "1"]] for at in range(2, 7)),
        [7, "wrong_width", {"expected": 2, "actual": 3}, ["a", "b", "c"]],
        [8, "no_usable_identifier", {}, ["", "5,00"]],
    ]
    lines = told(columns, [], rejected)
    assert lines[4:9] == [
        "  5 rejected: a value that cannot be read as what it should be",
        "    row 2: E-mail is “a@@2”",
        "    row 3: E-mail is “a@@3”",
        "    row 4: E-mail is “a@@4”",
        "    ...",
    ]
    assert "    row 7: 3 fields instead of 2" in lines and "    row 8: ; 5,00" in lines


def test_a_column_of_amounts_with_one_word_in_it_is_pointed_out() -> None:
    amounts = [{"name": "Kwota", "type": "text"}]
    lines = told(amounts, [{"Kwota": "1 234,50"}, {"Kwota": "19,99"}, {"Kwota": "brak"}], [])
    assert "“brak”" in lines[1] and "--decimal 'Kwota=,'" in lines[1]
    assert told(amounts, [{"Kwota": "A12"}, {"Kwota": "12"}], [])[1] == "  Kwota: text"
