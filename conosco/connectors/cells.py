"""Cells of CSV that no spreadsheet takes for a formula, and back."""

import unicodedata
from typing import Final

# What spreadsheets take for the beginning of a formula, in all the widths in which it can be written.
FORMULA: Final = frozenset(
    "=+-@\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b\u207a\u208a\u207b\u208b\u207c\u208c\u2212\u2795\u2796"
)
MARK: Final = "'"
_SKIPPED: Final = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Cn", "Co"})


def safe_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: with an apostrophe before it where it might.

    Exact: ``plain_cell`` gives the text back, for one that begins with an apostrophe gets another.
    """
    return MARK + text if text.startswith((MARK, "\t", "\r", "\n")) or _begins_formula(text) else text


def plain_cell(cell: str) -> str:
    """The text of which ``safe_cell`` made this cell."""
    return cell.removeprefix(MARK)


def _begins_formula(text: str) -> bool:
    """Whether a formula sign is the first thing to be seen: blanks, marks and what has no width are passed over."""
    for character in text:
        if character in FORMULA:
            return True
        if unicodedata.category(character) not in _SKIPPED and character != '"':
            return False
    return False
