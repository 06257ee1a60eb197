"""What `conosco import` says: a preview and a result in plain words."""

from collections.abc import Callable
from typing import Any, Final

Echo = Callable[[str], object]
KINDS: Final = {"csv": "delimited text", "xlsx": "a workbook", "parquet": "Parquet", "jsonl": "JSON Lines"}
ORDERS: Final = {"dmy": "day, month, year", "mdy": "month, day, year", "ymd": "year, month, day"}
REASONS: Final = {
    "wrong_width": "another number of fields than the first row",
    "wrong_value": "a value that is not what its column holds",
    "stray_quote": "a quotation mark that is not closed",
    "undecodable_text": "bytes that are no text in this encoding",
    "unreadable_row": "no JSON",
    "not_an_object": "JSON, but no object",
    "key_missing": "nothing in the key columns",
    "no_usable_identifier": "nothing that says whose it is",
    "mapping_missing": "a value is missing that the mapping needs",
    "mapping_unreadable": "a value that the mapping cannot convert",
    "mapping_wrong_type": "a value of another type than the mapping needs",
    "mapping_no_mapping_applies": "the mapping's tests do not hold",
    "unreadable_time": "a time that cannot be read",
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
        echo(f"  {column['name']}: {_column(column)}")
    for question in description["questions"]:
        _ask(question, echo)
    if description["questions"]:
        return
    echo(f"{count(preview['rows_read'], 'row')} read: {count(preview['accepted'], 'event')}, {preview['rejected']:,} rejected.")
    for reason, number in sorted(preview["reasons"].items(), key=lambda each: -each[1]):
        echo(f"  {number:,} rejected: {REASONS.get(reason, reason)}")
    identity = preview["identity"]
    if identity:
        echo(
            f"{count(identity['new_people'], 'new person')}, {count(identity['known_people'], 'known person')}"
            f", {identity['people_merged']:,} merged into another, {count(identity['conflicting'], 'event')} against the identity rules."
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
