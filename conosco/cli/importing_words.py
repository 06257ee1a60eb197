"""What `conosco import` says: a preview and a result in plain words."""

import re
from collections.abc import Callable
from typing import Any, Final

EXAMPLES: Final = 3
_SHOWN_CHARACTERS: Final = 60
_AMOUNT: Final = re.compile(r"-?\d[\d., '\u00a0\u202f]*")
Echo = Callable[[str], object]
KINDS: Final = {"csv": "delimited text", "xlsx": "a workbook", "parquet": "Parquet", "jsonl": "JSON Lines"}
ORDERS: Final = {"dmy": "day, month, year", "mdy": "month, day, year", "ymd": "year, month, day"}
REASONS: Final = {
    "wrong_width": "another number of fields than the first row",
    "wrong_value": "a value of another kind than its column holds",
    "stray_quote": "a quotation mark that is not closed",
    "undecodable_text": "bytes that are no text in this encoding",
    "unreadable_row": "no JSON",
    "not_an_object": "JSON, but no object",
    "key_missing": "nothing in the key columns",
    "no_usable_identifier": "nothing that says whose row it is: no customer number, e-mail address or phone number",
    "mapping_missing": "a value is missing that the mapping needs",
    "mapping_unreadable": "a value that cannot be read as what it should be",
    "mapping_wrong_type": "a value of another type than the mapping needs",
    "mapping_no_mapping_applies": "the mapping's tests do not hold",
    "unreadable_time": "a time that cannot be read",
    "mapping_nothing_in_list": "a list without elements, where each of them would become an event",
    "mapping_too_many_elements": "a list with too many elements",
    "mapping_too_large": "the event would become too large",
    "too_large": "a value or the whole row is too long",
    "too_deep": "objects within objects, too many levels deep",
    "too_many_keys": "too many names in one object",
    "missing_field": "something that every event of its kind needs is missing",
    "wrong_field_type": "a value of another type than its place in an event needs",
    "unknown_type": "a type of event that there is not",
}


def count(number: int, noun: str) -> str:
    """A number with its noun, thousands apart."""
    plural = noun.removesuffix("person") + "people" if noun.endswith("person") else noun + "s"
    return f"{number:,} {noun if number == 1 else plural}"


def tell_preview(preview: dict[str, Any], file_name: str, echo: Echo) -> None:
    """What an import would do."""
    description = preview["description"]
    form = description["format"]
    how = [KINDS[form["kind"]]]
    if form.get("encoding"):
        how.append(f"encoding {form['encoding']}")
    if form.get("delimiter"):
        how.append("separated by " + {"\t": "tabs", " ": "spaces"}.get(form["delimiter"], form["delimiter"]))
    if form.get("sheet"):
        how.append(f"sheet {form['sheet']}")
    echo(f"{file_name}: {', '.join(how)}.")
    for column in form.get("columns", ()):
        echo(f"  {column['name']}: {_column(column)}{_doubt(column, description['rows'])}")
    for question in description["questions"]:
        _ask(question, echo)
    if description["questions"]:
        return
    echo(f"{count(preview['rows_read'], 'row')} read: {count(preview['accepted'], 'event')}, {preview['rejected']:,} rejected.")
    names = list(description["names"])
    for reason, number in sorted(preview["reasons"].items(), key=lambda each: -each[1]):
        echo(f"  {number:,} rejected: {REASONS.get(reason, reason)}")
        shown = [row for row in preview["rejected_rows"] if row[1] == reason][:EXAMPLES]
        for row in shown:
            echo(f"    {_example(row, names)}")
        if number > len(shown) and shown:
            echo("    ...")
    identity = preview["identity"]
    if identity:
        echo(
            f"{count(identity['new_people'], 'new person')}, {count(identity['known_people'], 'known person')}"
            f", {identity['people_merged']:,} merged into another, {count(identity['conflicting'], 'event')} against the identity rules."
        )


def _example(row: list[Any], names: list[str]) -> str:
    """One rejected row: its number, and what in it is wrong."""
    number, _, params, fields = row
    if "expected" in params and "actual" in params:
        return f"row {number}: {count(params['actual'], 'field')} instead of {params['expected']}"
    column = params.get("column") or params.get("columns") or params.get("field") or ""
    if column in names and names.index(column) < len(fields):
        return f"row {number}: {column} is “{_short(fields[names.index(column)])}”"
    what = f" ({column})" if column else ""
    return f"row {number}{what}: {_short('; '.join(fields))}"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _doubt(column: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """What to say of a column of texts that are numbers for the most part: nothing can be summed up in it."""
    values = [str(row[column["name"]]) for row in rows if row.get(column["name"]) is not None]
    numbers = [value for value in values if _AMOUNT.fullmatch(value.strip())]
    others = [value for value in values if value not in numbers]
    marked = [value for value in numbers if "," in value or "." in value]
    if column.get("type", "text") != "text" or not marked or not others or len(numbers) < len(others):
        return ""
    mark = "," if sum(value.rfind(",") > value.rfind(".") for value in marked) * 2 > len(marked) else "."
    return (
        f". Mostly numbers, but not “{_short(others[0])}”; to take numbers only, and reject rows with anything else: "
        f"--decimal '{column['name']}={mark}'"
    )


def _column(column: dict[str, Any]) -> str:
    match column.get("type", "text"):
        case "number":
            marks = [f"decimal {column.get('decimal', '.')}"]
            if column.get("thousands"):
                marks.append(f"thousands {column['thousands']!r}")
            return f"number ({', '.join(marks)})"
        case "moment":
            return f"date or time ({ORDERS.get(column.get('order', ''), 'as written')})"
        case _:
            return "text"


def _ask(question: dict[str, Any], echo: Echo) -> None:
    """What the file does not say, and the option that says it."""
    examples = ", ".join(question["examples"])
    match question["about"]:
        case "date_order":
            echo(
                f"Is {question['column']} ({examples}) written day first or month first? Say --order '{question['column']}=dmy' or =mdy."
            )
        case "decimal_mark":
            echo(
                f"What separates the decimals of {question['column']} ({examples})? Say --decimal '{question['column']}=,' or =."
            )
        case _:
            echo(f"The encoding could be any of {', '.join(question['choices'])}. Say --encoding.")


def tell_import(made: dict[str, Any], echo: Echo) -> None:
    """What became of an import."""
    words = f"{count(made['accepted'], 'event')} imported, {count(made['rejected'], 'row')} rejected"
    match made["status"]:
        case "done":
            echo(f"{made['name']} ({made['import_id']}): {words}.")
        case "cancelled":
            echo(
                f"{made['name']} ({made['import_id']}) was cancelled: {words}. To take them back: conosco import undo {made['import_id']}"
            )
        case _:
            details = ", ".join(f"{name} {value}" for name, value in made["problem_params"].items())
            echo(f"{made['name']} ({made['import_id']}) failed: {made['problem']} ({details}). {words} before that.")
