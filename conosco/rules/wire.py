"""Checked reading of what people wrote: each reader notes what is wrong, with its pointer, and goes on.

A reader gives None for what it could not read, so that one pass finds every problem of a definition.
"""

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Any, Final, get_args

import re2

from conosco.model.moment import parse_duration, parse_moment
from conosco.model.number import exact
from conosco.model.problem import Problem
from conosco.model.text import compose, fold
from conosco.rules.condition import Scalar, Test, TestName
from conosco.rules.values import MAX_PART_CHARACTERS, MAX_PATH_PARTS, compile_pattern

MAX_TEXT_CHARACTERS: Final = 1_000
MAX_PATTERN_CHARACTERS: Final = 500
MAX_OPERANDS: Final = 10_000
MAX_ECHO_CHARACTERS: Final = 80

TESTS: Final[tuple[TestName, ...]] = get_args(TestName)
# Tests that compare texts and so can be asked to mind case.
_CASE_TESTS: Final = ("is", "is_not", "in", "not_in", "contains", "starts_with", "ends_with", "matches")


class Findings:
    """The problems found so far."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, code: str, pointer: str, **params: str | int) -> None:
        """Note a problem. ``nearest`` is left out where there is nothing near."""
        self.problems.append(
            Problem(code=code, params={name: value for name, value in params.items() if value != ""}, pointer=pointer)
        )


def step(pointer: str, part: str | int) -> str:
    """The pointer (RFC 6901) to a part of what is at a pointer."""
    return f"{pointer}/{str(part).replace('~', '~0').replace('/', '~1')}"


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that looks most like this one; empty if none does."""
    return next(iter(get_close_matches(name[:MAX_ECHO_CHARACTERS], list(known), n=1, cutoff=0.55)), "")


def echo(value: Any) -> str:
    """What was sent, short enough to be repeated in a sentence."""
    text = value if isinstance(value, str) else str(value)
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= MAX_ECHO_CHARACTERS else text[: MAX_ECHO_CHARACTERS - 1] + "…"


def read_members(
    found: Findings, spec: Any, pointer: str, required: Collection[str], optional: Collection[str] = ()
) -> dict[str, Any] | None:
    """Check that this is an object with the required members and no unknown ones; missing ones do not stop the reading."""
    if not isinstance(spec, dict):
        found.add("wrong_type", pointer, expected="object")
        return None
    known = (*required, *optional)
    for name in spec:
        if name not in known:
            found.add("unknown_field", step(pointer, str(name)), field=echo(name), nearest=nearest(str(name), known))
    for name in required:
        if name not in spec:
            found.add("missing_field", pointer, field=name)
    return spec


def read_text(found: Findings, value: Any, pointer: str, max_characters: int = MAX_TEXT_CHARACTERS) -> str | None:
    """A text that can be stored and compared: no NUL, no half of a surrogate pair, not too long."""
    if not isinstance(value, str):
        found.add("wrong_type", pointer, expected="text")
        return None
    if len(value) > max_characters:
        found.add("too_long", pointer, limit=max_characters)
        return None
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        found.add("unreadable_text", pointer)
        return None
    return value


def read_name(found: Findings, value: Any, pointer: str, max_characters: int = MAX_TEXT_CHARACTERS) -> str | None:
    """A text that is not empty."""
    text = read_text(found, value, pointer, max_characters)
    if text == "":
        found.add("empty_text", pointer)
        return None
    return text


def read_path(found: Findings, value: Any, pointer: str) -> tuple[str, ...] | None:
    """A path: a list of names, from the outside in."""
    if not isinstance(value, list | tuple):
        found.add("wrong_type", pointer, expected="list")
        return None
    if not value:
        found.add("empty_list", pointer)
        return None
    if len(value) > MAX_PATH_PARTS:
        found.add("too_many_parts", pointer, limit=MAX_PATH_PARTS)
        return None
    parts = [read_text(found, part, step(pointer, at), MAX_PART_CHARACTERS) for at, part in enumerate(value)]
    return tuple(part for part in parts if part is not None) if None not in parts else None


def read_duration(found: Findings, value: Any, pointer: str) -> int | None:
    """A duration such as ``30d``, in micros."""
    if isinstance(value, dict) and "calendar" in value:
        found.add("not_built_yet", pointer, kind="calendar")
        return None
    text = read_text(found, value, pointer)
    if text is None:
        return None
    duration = parse_duration(text)
    if duration is None:
        found.add("unreadable_duration", pointer, value=echo(text))
    return duration


def read_count(found: Findings, value: Any, pointer: str, limit: int) -> int | None:
    """A whole number from 0 to the limit."""
    if isinstance(value, bool) or not isinstance(value, int):
        found.add("wrong_type", pointer, expected="whole_number")
        return None
    if not 0 <= value <= limit:
        found.add("out_of_range", pointer, least=0, most=limit)
        return None
    return value


def read_test(found: Findings, spec: dict[str, Any], pointer: str) -> Test | None:
    """The test that the members ``test``, ``value`` and ``case`` of an object spell. A missing ``test`` is already noted."""
    if "test" not in spec:
        return None
    name = spec["test"]
    if name not in TESTS:
        found.add("unknown_test", step(pointer, "test"), test=echo(name), nearest=nearest(echo(name), TESTS))
        return None
    case = spec.get("case", False)
    if not isinstance(case, bool):
        found.add("wrong_type", step(pointer, "case"), expected="boolean")
    elif case and name not in _CASE_TESTS:
        found.add("field_not_used", step(pointer, "case"), field="case", test=name)
    at = step(pointer, "value")
    if name == "exists":
        if "value" in spec:
            found.add("field_not_used", at, field="value", test=name)
        return Test(name="exists")
    if spec.get("value") is None:
        found.add("missing_field", pointer, field="value")
        return None
    operands = _read_operands(found, name, spec["value"], at, case is True)
    if operands is None:
        return None
    # Case means nothing to numbers: equal tests must be equal trees.
    return Test(name=name, operands=operands, case=case is True and any(operand.kind == "text" for operand in operands))


def _read_operands(found: Findings, name: TestName, value: Any, pointer: str, case: bool) -> tuple[Scalar, ...] | None:
    operand: Scalar | None
    match name:
        case "in" | "not_in":
            return _read_list(found, value, pointer)
        case "between":
            return _read_bounds(found, value, pointer)
        case "is" | "is_not":
            operand = _read_scalar(found, value, pointer)
        case "contains" | "starts_with" | "ends_with":
            text = read_name(found, value, pointer)
            operand = None if text is None else _text_operand(text)
        case "matches":
            operand = _read_pattern(found, value, pointer, case)
        case "within" | "before_last":
            duration = read_duration(found, value, pointer)
            operand = None if duration is None else Scalar("duration", duration)
        case "before" | "after":
            operand = _read_moment(found, value, pointer)
        case "more_than" | "at_least" | "less_than" | "at_most":
            operand = _read_ordered(found, value, pointer)
        case "exists":
            return ()
    return None if operand is None else (operand,)


def _text_operand(text: str) -> Scalar:
    return Scalar("text", folded=fold(text), exact=compose(text))


def _read_scalar(found: Findings, value: Any, pointer: str) -> Scalar | None:
    if isinstance(value, bool):
        return Scalar("boolean", int(value))
    if isinstance(value, str):
        text = read_text(found, value, pointer)
        return None if text is None else _text_operand(text)
    if isinstance(value, dict | list | tuple) or value is None:
        found.add("wrong_type", pointer, expected="text_number_or_boolean")
        return None
    return _read_number(found, value, pointer)


def _read_number(found: Findings, value: Any, pointer: str) -> Scalar | None:
    number = exact(value)
    if number is None:
        found.add("number_does_not_fit", pointer)
        return None
    return Scalar("number", number)


def _read_list(found: Findings, value: Any, pointer: str) -> tuple[Scalar, ...] | None:
    if not isinstance(value, list | tuple):
        found.add("wrong_type", pointer, expected="list")
        return None
    if not value:
        found.add("empty_list", pointer)
        return None
    if len(value) > MAX_OPERANDS:
        found.add("too_many_values", pointer, limit=MAX_OPERANDS)
        return None
    operands = [_read_scalar(found, entry, step(pointer, at)) for at, entry in enumerate(value)]
    # Said twice is said once.
    return tuple(dict.fromkeys(operand for operand in operands if operand is not None)) if None not in operands else None


def _read_bounds(found: Findings, value: Any, pointer: str) -> tuple[Scalar, ...] | None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        found.add("wrong_type", pointer, expected="two_bounds")
        return None
    least, most = (_read_ordered(found, bound, step(pointer, at)) for at, bound in enumerate(value))
    if least is None or most is None:
        return None
    if least.kind != most.kind:
        found.add("mixed_bounds", pointer)
        return None
    if least.number > most.number:
        found.add("bounds_reversed", pointer)
        return None
    return least, most


def _read_ordered(found: Findings, value: Any, pointer: str) -> Scalar | None:
    """A number, or a text that spells a moment."""
    if isinstance(value, str):
        return _read_moment(found, value, pointer)
    if isinstance(value, bool | dict | list | tuple) or value is None:
        found.add("wrong_type", pointer, expected="number_or_moment")
        return None
    return _read_number(found, value, pointer)


def _read_moment(found: Findings, value: Any, pointer: str) -> Scalar | None:
    text = read_text(found, value, pointer)
    if text is None:
        return None
    moment = parse_moment(text)
    if moment is None:
        found.add("unreadable_moment", pointer, value=echo(text))
        return None
    return Scalar("moment", moment)


def _read_pattern(found: Findings, value: Any, pointer: str, case: bool) -> Scalar | None:
    text = read_name(found, value, pointer, MAX_PATTERN_CHARACTERS)
    if text is None:
        return None
    pattern = compose(text)
    refused = _refused_syntax(pattern)
    if refused:
        found.add("pattern_refused", pointer, part=refused)
        return None
    try:
        compile_pattern(pattern, case)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        found.add("pattern_unreadable", pointer, reason=echo(reason.decode() if isinstance(reason, bytes) else str(reason)))
        return None
    return Scalar("text", exact=pattern)


def _refused_syntax(pattern: str) -> str:
    """The first part of a pattern that not every engine understands alike; empty if there is none.

    Of groups only ``(...)`` and ``(?:...)`` are taken: look-around and back-references cannot be answered in bounded time,
    inline flags and names differ between engines. ``\\C`` may cut a character in two, ``\\Q`` would hide what follows it.
    """
    at = 0
    in_class = False
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            escaped = pattern[at : at + 2]
            if escaped[1:] in ("C", "Q", "E", "k", "g") or (escaped[1:] in "123456789" and escaped[1:]):
                return escaped
            at += 1
        elif in_class:
            # A class ends at the first bracket that is not its first character.
            in_class = character != "]"
        elif character == "[":
            in_class = True
            at += 1 if pattern[at + 1 : at + 2] == "^" else 0
            at += 1 if pattern[at + 1 : at + 2] == "]" else 0
        elif pattern.startswith("(?", at) and not pattern.startswith("(?:", at):
            return pattern[at : at + 4]
        at += 1
    return ""
