"""Conversions of the mapping language: one value read as a number, a moment, an address and the like, or plainly refused."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal, get_args
from zoneinfo import ZoneInfo

import msgspec

from conosco.model.moment import DAY, EARLIEST, EPOCH, HOUR, LATEST, MINUTE, SECOND, parse_moment, spell_moment

As = Literal["text", "number", "integer", "boolean", "moment", "email", "phone", "lower", "upper", "trim"]
CONVERSIONS: Final[tuple[As, ...]] = get_args(As)
NUMBER_CHARACTERS_MAX: Final = 64
EMAIL_CHARACTERS_MAX: Final = 320
PHONE_DIGITS_MIN: Final = 5
PHONE_DIGITS_MAX: Final = 20
# What a number may count since 1970: (name, its length in microseconds).
UNITS: Final = {"seconds": SECOND, "milliseconds": 1_000, "microseconds": 1}


class Absent(msgspec.Struct, frozen=True):
    """There is no value: not null, which a customer may have meant."""


ABSENT: Final = Absent()


class Unreadable(Exception):
    """A value is there and cannot be what it is meant to be."""

    def __init__(self, cause: str, field: str = "", path: str = "") -> None:
        super().__init__(cause, field, path)
        self.cause = cause
        self.field = field
        self.path = path


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """How a value is read. ``pattern`` and ``zone`` belong to moments, ``decimal`` (the mark) to numbers."""

    kind: As
    pattern: str = ""
    zone: str = ""
    decimal: str = "."


def text_of(value: Any) -> str | None:
    """A scalar as text, a number as it was sent; None for what is no scalar, or absent."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | Decimal) else None


def compile_conversion(conversion: Conversion) -> Callable[[Any], Any]:
    """Make the function that converts one value; it raises Unreadable, and gives ABSENT for a blank text."""
    match conversion.kind:
        case "text":
            return _as_text
        case "lower":
            return lambda value: _as_text(value).lower()
        case "upper":
            return lambda value: _as_text(value).upper()
        case "trim":
            return lambda value: _as_text(value).strip() or ABSENT
        case "number":
            return _compile_number(conversion.decimal)
        case "integer":
            return _compile_integer(conversion.decimal)
        case "boolean":
            return _as_boolean
        case "moment":
            return _compile_moment(conversion.pattern, conversion.zone)
        case "email":
            return _as_email
        case "phone":
            return _as_phone


def _as_text(value: Any) -> str:
    if value.__class__ is str:
        return value
    text = text_of(value)
    if text is None:
        raise Unreadable("wrong_type")
    return text


# Numbers ------------------------------------------------------------------------------------------------------------------

# Spaces of all kinds and the apostrophe group thousands, and so does whichever of comma and point is not the decimal mark.
_GROUPING: Final = " \u00a0\u202f\u2009'\u2019"


def _compile_number(decimal: str) -> Callable[[Any], Any]:
    mark, other = (",", ".") if decimal == "," else (".", ",")
    grouping = f"[{re.escape(_GROUPING + other)}]"
    shape = re.compile(
        rf"([+-]?)((?:[0-9]{{1,3}}(?:{grouping}[0-9]{{3}})+)|[0-9]+)?(?:{re.escape(mark)}([0-9]+))?(?:[eE]([+-]?[0-9]{{1,3}}))?\Z",
        re.ASCII,
    )
    digits = re.compile("[^0-9]+", re.ASCII)

    def convert(value: Any) -> Any:
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            return value
        if not isinstance(value, str):
            raise Unreadable("wrong_type")
        text = value.strip()
        if not text:
            return ABSENT
        found = shape.match(text) if len(text) <= NUMBER_CHARACTERS_MAX else None
        if found is None or not (found[2] or found[3]):
            raise Unreadable("unreadable")
        sign, whole, fraction, exponent = found.groups()
        spelled = f"{'-' if sign == '-' else ''}{digits.sub('', whole or '0')}"
        if fraction is None and exponent is None:
            return int(spelled)
        try:
            return Decimal(f"{spelled}.{fraction or '0'}e{exponent or '0'}")
        except InvalidOperation:
            raise Unreadable("unreadable") from None

    return convert


def _compile_integer(decimal: str) -> Callable[[Any], Any]:
    number = _compile_number(decimal)

    def convert(value: Any) -> Any:
        found = number(value)
        if isinstance(found, Decimal):
            # A whole number in another spelling, such as 12.0, but nothing with thousands of digits.
            if not found.is_finite() or (not -1 < found.adjusted() < NUMBER_CHARACTERS_MAX and found != 0):
                raise Unreadable("unreadable")
            if found != int(found):
                raise Unreadable("unreadable")
            return int(found)
        return found

    return convert


# Yes and no ---------------------------------------------------------------------------------------------------------------

_YES: Final = frozenset({"true", "t", "yes", "y", "1", "on", "si", "s\u00ec", "tak", "sim"})
_NO: Final = frozenset({"false", "f", "no", "n", "0", "off", "nie", "n\u00e3o", "nao"})


def _as_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    text = text_of(value)
    if text is None:
        raise Unreadable("wrong_type")
    word = text.strip().lower()
    if word in _YES:
        return True
    if word in _NO:
        return False
    if not word:
        return ABSENT
    raise Unreadable("unreadable")


# Moments ------------------------------------------------------------------------------------------------------------------

_HAS_ZONE: Final = re.compile(r"[Tt ].*(?:[Zz]|[+-]\d\d(?::?\d\d)?)\Z", re.ASCII)
_CODES: Final = {
    "Y": r"(?P<Y>\d{4})",
    "y": r"(?P<y>\d{2})",
    "m": r"(?P<m>\d{1,2})",
    "d": r"(?P<d>\d{1,2})",
    "H": r"(?P<H>\d{1,2})",
    "I": r"(?P<I>\d{1,2})",
    "M": r"(?P<M>\d{2})",
    "S": r"(?P<S>\d{2})",
    "f": r"(?P<f>\d{1,6})",
    "p": r"(?P<p>[AaPp][Mm])",
    "z": r"(?P<z>[Zz]|[+-]\d{2}:?\d{2})",
}
# Two-digit years up to this one belong to this century, as POSIX has it.
_CENTURY_TURN: Final = 68


def compile_pattern_of_moment(pattern: str) -> re.Pattern[str] | None:
    """The expression for a pattern such as ``%d/%m/%Y %H:%M``; None if it is none: it must name year, month and day once."""
    parts: list[str] = []
    seen: list[str] = []
    at = 0
    while at < len(pattern):
        if pattern[at] == "%":
            code = pattern[at + 1 : at + 2]
            if code == "%":
                parts.append("%")
            elif code in _CODES and code not in seen:
                seen.append(code)
                parts.append(_CODES[code])
            else:
                return None
            at += 2
        else:
            parts.append(re.escape(pattern[at]))
            at += 1
    is_dated = ("Y" in seen) != ("y" in seen) and {"m", "d"} <= set(seen)
    if not is_dated or ("I" in seen) != ("p" in seen) or ("I" in seen and "H" in seen):
        return None
    return re.compile("".join(parts) + r"\Z", re.ASCII)


def _compile_moment(pattern: str, zone: str) -> Callable[[Any], Any]:
    """A moment is spelled as RFC 3339, whatever it was. Without a zone of its own it is one of ``zone``, else UTC."""
    local = ZoneInfo(zone) if zone else None
    if pattern in UNITS:
        return _compile_since_1970(UNITS[pattern])
    shape = compile_pattern_of_moment(pattern) if pattern else None

    def convert(value: Any) -> Any:
        if not isinstance(value, str):
            raise Unreadable("wrong_type")
        text = value.strip()
        if not text:
            return ABSENT
        if shape is not None:
            found = shape.match(text)
            micros = None if found is None else _of_parts(found.groupdict(), local)
        else:
            micros = parse_moment(text)
            if micros is not None and local is not None and not _HAS_ZONE.search(text):
                micros = _from_local(micros, local)
        if micros is None:
            raise Unreadable("unreadable")
        return spell_moment(micros)

    return convert


def _compile_since_1970(unit: int) -> Callable[[Any], Any]:
    number = _compile_number(".")

    def convert(value: Any) -> Any:
        found = number(value)
        if found is ABSENT:
            return ABSENT
        if not (EARLIEST // unit <= found <= LATEST // unit):
            raise Unreadable("unreadable")
        return spell_moment(int(found * unit))

    return convert


def _of_parts(parts: dict[str, str | None], local: ZoneInfo | None) -> int | None:
    year = int(parts.get("Y") or 0)
    if short := parts.get("y"):
        year = int(short) + (2000 if int(short) <= _CENTURY_TURN else 1900)
    hour = int(parts.get("H") or 0)
    if twelve := parts.get("I"):
        if not 1 <= int(twelve) <= 12:
            return None
        hour = int(twelve) % 12 + (12 if (parts.get("p") or "").lower() == "pm" else 0)
    fraction = (parts.get("f") or "").ljust(6, "0")
    try:
        moment = datetime(
            year,
            int(parts.get("m") or 0),
            int(parts.get("d") or 0),
            hour,
            int(parts.get("M") or 0),
            int(parts.get("S") or 0),
            int(fraction),
            tzinfo=EPOCH.tzinfo,
        )
    except ValueError:
        return None
    micros = _micros(moment - EPOCH)
    offset = parts.get("z")
    if offset and offset not in "Zz":
        digits = offset[1:].replace(":", "")
        shift = int(digits[:2]) * HOUR + int(digits[2:]) * MINUTE
        micros -= shift if offset[0] == "+" else -shift
    elif not offset and local is not None:
        return _from_local(micros, local)
    return micros if EARLIEST <= micros <= LATEST else None


def _from_local(micros: int, local: ZoneInfo) -> int | None:
    """The moment at which the clocks of a zone show what, as UTC, would be ``micros``; of two the earlier one."""
    if not EARLIEST + DAY <= micros <= LATEST - DAY:
        return None
    shown = (EPOCH + timedelta(microseconds=micros)).replace(tzinfo=local)
    return _micros(shown - EPOCH)


def _micros(delta: timedelta) -> int:
    return (delta.days * 86_400 + delta.seconds) * SECOND + delta.microseconds


# Contact points -----------------------------------------------------------------------------------------------------------

_EMAIL: Final = re.compile(r"[^\s@]+@[^\s@]+\Z")
_NOT_DIGITS: Final = re.compile("[^0-9]+")


def _as_email(value: Any) -> Any:
    if not isinstance(value, str):
        raise Unreadable("wrong_type")
    text = value.strip().lower()
    if not text:
        return ABSENT
    if len(text) > EMAIL_CHARACTERS_MAX or not _EMAIL.match(text):
        raise Unreadable("unreadable")
    return text


def _as_phone(value: Any) -> Any:
    text = (text_of(value) or "").strip() if not isinstance(value, bool) else ""
    if not text:
        if isinstance(value, str):
            return ABSENT
        raise Unreadable("wrong_type")
    digits = _NOT_DIGITS.sub("", text)
    is_international = "+" in text.partition(digits[:1])[0] if digits else False
    if digits.startswith("00") and not is_international:
        is_international, digits = True, digits[2:]
    if not PHONE_DIGITS_MIN <= len(digits) <= PHONE_DIGITS_MAX:
        raise Unreadable("unreadable")
    return "+" + digits if is_international else digits
