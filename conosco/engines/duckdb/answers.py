"""From DuckDB's values to those of an answer: what JSON can say, moments as RFC 3339 text, numbers exact."""

import base64
import math
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

_UNCHANGED: Final = frozenset("BIGINT INTEGER SMALLINT TINYINT UBIGINT UINTEGER USMALLINT UTINYINT BOOLEAN VARCHAR JSON".split())


def outside(value: Any) -> Any:
    """One value. Decimals stay exact: as int or float where those say the same, else as Decimal.

    A number that JSON cannot say (NaN, infinity) is None; bytes are base64, durations ISO 8601 in seconds.
    """
    match value:
        case None | str() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return _number(value)
        case datetime():
            return value.isoformat() + "Z" if value.tzinfo is None else value.isoformat()
        case date() | time():
            return value.isoformat()
        case timedelta():
            return f"PT{_number(Decimal(value // timedelta(microseconds=1)) / 1_000_000)}S"
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode()
        case dict():
            return {str(key): outside(item) for key, item in value.items()}
        case list() | tuple():
            return [outside(item) for item in value]
        case _:
            return str(value)


def rows_outside(rows: Sequence[tuple[Any, ...]], kinds: Sequence[str]) -> list[tuple[Any, ...]]:
    """Rows whose columns are of these DuckDB types."""
    changing = [index for index, kind in enumerate(kinds) if kind not in _UNCHANGED]
    if not changing:
        return list(rows)
    converts: list[Callable[[Any], Any] | None] = [outside if index in changing else None for index in range(len(kinds))]
    return [
        tuple(value if convert is None else convert(value) for value, convert in zip(row, converts, strict=True)) for row in rows
    ]


def size_of(rows: Sequence[tuple[Any, ...]]) -> int:
    """Roughly how many bytes these values take when they are spelled."""
    return sum(_size(value) for row in rows for value in row)


def _size(value: Any) -> int:
    match value:
        case str() | bytes():
            return len(value) + 2
        case dict():
            return sum(len(str(key)) + _size(item) for key, item in value.items()) + 2
        case list() | tuple():
            return sum(map(_size, value)) + 2
        case _:
            return 8


def _number(value: Decimal) -> int | float | Decimal:
    if value == (whole := int(value)):
        return whole
    near = float(value)
    return near if Decimal(repr(near)) == value else value
