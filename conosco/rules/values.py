"""How the customer's JSON values are read: the same paths, comparisons and rounding for live evaluation and for SQL.

Live conditions use :func:`at_path` and :func:`compile_test`. SQL reads :func:`canonical_json`, an index that is made once
for each event: every value at every path in the very form in which live evaluation compares it.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec
import re2

from conosco.model.event import read_json
from conosco.model.moment import parse_moment
from conosco.model.number import SCALE, exact, plain, spell
from conosco.model.text import compose, fold
from conosco.rules.condition import Scalar, Test

MAX_PATH_PARTS: Final = 16
MAX_PART_CHARACTERS: Final = 1_000

Passes = Callable[[Any, int], bool]
# What a value is compared by: a number is its millionths, a text its key, a boolean and an object cannot be mistaken for either.
Comparable = int | str | tuple[bool, ...]
# The index has three sections: folded keys of all values, the same with case, and the moments that texts spell.
Section = Literal["f", "c", "m"]

OBJECT_LEAF: Final = "o"
_OBJECT: Final[tuple[bool, ...]] = ()
_SHORT: Final = 10**15


def at_path(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """Yield all values at a path; on the way and at its end a list stands for each of its elements, however deep."""
    for at, part in enumerate(path):
        if isinstance(value, list):
            for element in value:
                yield from at_path(element, path[at:])
            return
        if not isinstance(value, dict) or part not in value:
            return
        value = value[part]
    if isinstance(value, list):
        for element in value:
            yield from at_path(element, ())
    else:
        yield value


def value_at(properties: Any, path: tuple[str, ...]) -> Any:
    """The value that an event gives to ``last``: a number as rounded, a text in NFC or a boolean; None if there is none.

    Several at the path come as a list. An object is not a value, null is none, and a number that does not fit is absent.
    """
    found = [scalar for scalar in map(_scalar_of, at_path(properties, path)) if scalar is not None]
    return found[0] if len(found) == 1 else found or None


def number_at(properties: Any, path: tuple[str, ...]) -> int | None:
    """The millionths that an event adds to ``sum``: of all readable numbers at the path; None if there is none.

    The result itself is unlimited; only the finished sum must fit (:func:`conosco.model.number.exact`'s limit) or is absent.
    """
    found = [number for number in map(exact, at_path(properties, path)) if number is not None]
    return sum(found) if found else None


def compile_test(test: Test) -> Passes:
    """Make the function (value, now in micros) -> passes for one value of :func:`at_path`.

    Null, and a number that does not fit, pass no test. Never raises, whatever the value.
    """
    match test.name:
        case "exists":
            return lambda value, now: _comparable(value, False) is not None
        case "is" | "in":
            wanted = frozenset(comparable_of(operand, test.case) for operand in test.operands)
            return lambda value, now: _comparable(value, test.case) in wanted
        case "is_not" | "not_in":
            # Null shares the set with the operands: it is not different, it is absent.
            unwanted = frozenset((None, *(comparable_of(operand, test.case) for operand in test.operands)))
            return lambda value, now: _comparable(value, test.case) not in unwanted
        case "contains" | "starts_with" | "ends_with" | "matches":
            return _compile_text_test(test)
        case "within" | "before_last":
            return _compile_age_test(test)
        case "more_than" | "at_least" | "less_than" | "at_most" | "between" | "before" | "after":
            return _compile_order_test(test)


def change_points(test: Test, value: Any) -> tuple[int, ...]:
    """The moments (micros) at which the result for this one value changes while time passes; none for most tests."""
    if test.name not in ("within", "before_last"):
        return ()
    moment = _moment_of(value)
    if moment is None:
        return ()
    left_at = moment + test.operands[0].number
    return (moment, left_at) if test.name == "within" else (left_at,)


def compile_pattern(pattern: str, case: bool) -> Any:
    """Compile an RE2 pattern, case ignored unless ``case``. Raises re2.error; the product is ``.search(text)``-able."""
    options = re2.Options()
    options.case_sensitive = case
    options.log_errors = False
    return re2.compile(pattern, options)


def _compile_text_test(test: Test) -> Passes:
    """Tests that look into a text, by its folded key, with case by its NFC key; patterns always look at the NFC key."""
    operand = test.operands[0]
    if test.name == "matches":
        search = compile_pattern(operand.exact, test.case).search
        return lambda value, now: isinstance(value, str) and search(compose(value)) is not None
    key, part = (compose, operand.exact) if test.case else (fold, operand.folded)
    match test.name:
        case "starts_with":
            return lambda value, now: isinstance(value, str) and key(value).startswith(part)
        case "ends_with":
            return lambda value, now: isinstance(value, str) and key(value).endswith(part)
        case _:
            return lambda value, now: isinstance(value, str) and part in key(value)


def _compile_age_test(test: Test) -> Passes:
    """Tests of how long ago a moment was: ``within`` is the window (now - d, now], ``before_last`` all before it."""
    age = test.operands[0].number
    if test.name == "within":
        return lambda value, now: (moment := _moment_of(value)) is not None and now - age < moment <= now
    return lambda value, now: (moment := _moment_of(value)) is not None and moment <= now - age


def _compile_order_test(test: Test) -> Passes:
    """Tests of order, among numbers or among moments: a value of the other kind does not pass."""
    read = _moment_of if test.operands[0].kind == "moment" else exact
    bound, last = test.operands[0].number, test.operands[-1].number
    match test.name:
        case "more_than" | "after":
            return lambda value, now: (found := read(value)) is not None and found > bound
        case "at_least":
            return lambda value, now: (found := read(value)) is not None and found >= bound
        case "less_than" | "before":
            return lambda value, now: (found := read(value)) is not None and found < bound
        case "at_most":
            return lambda value, now: (found := read(value)) is not None and found <= bound
        case _:
            return lambda value, now: (found := read(value)) is not None and bound <= found <= last


def comparable_of(operand: Scalar, case: bool) -> Comparable:
    """What an operand of is, is_not, in and not_in is compared by."""
    match operand.kind:
        case "text":
            return operand.exact if case else operand.folded
        case "boolean":
            return (operand.boolean,)
        case "number" | "moment" | "duration":
            return operand.number


def _comparable(value: Any, case: bool) -> Comparable | None:
    """What a value is compared by; None if it is absent."""
    if isinstance(value, str):
        return compose(value) if case else fold(value)
    if isinstance(value, bool):
        return (value,)
    if isinstance(value, dict):
        return _OBJECT
    return exact(value)


def _moment_of(value: Any) -> int | None:
    """The moment that a text spells. Most texts spell none, and the fifth character tells that at once."""
    return parse_moment(value) if isinstance(value, str) and value[4:5] == "-" else None


def _scalar_of(value: Any) -> Any:
    if isinstance(value, str):
        return compose(value)
    if isinstance(value, bool):
        return value
    number = exact(value)
    return None if number is None else plain(number)


# The index --------------------------------------------------------------------------------------------------------------


def canonical_json(raw: bytes) -> str:
    """Index a JSON value for SQL: a flat JSON object from section and path to the list of all values at that path.

    A value is its tag and its text: ``n12.500000``, ``b1``, ``tfolded text``, ``o`` for an object, whose members have paths of
    their own. Null and numbers that do not fit are left out. Section ``f`` has texts by folded key; ``c`` has them in NFC and
    is there only where that differs; ``m`` has the moments (micros) that texts spell. A tag comes first and JSON does the
    quoting, so no character of a text can pass for something else. Paths longer than a condition may name are left out.
    Raises msgspec.DecodeError if it is not JSON.
    """
    index = _Index()
    index.enter(read_json(raw), "", 0)
    return msgspec.json.encode(index.sections()).decode()


def index_key(section: Section, path: tuple[str, ...]) -> str:
    """The key under which the index keeps a path."""
    return section + "".join(map(_path_part, path))


def leaf_of(operand: Scalar, case: bool) -> str:
    """An operand as the index spells a value that is equal to it."""
    match operand.kind:
        case "text":
            return "t" + (operand.exact if case else operand.folded)
        case "boolean":
            return "b1" if operand.boolean else "b0"
        case "number" | "moment" | "duration":
            return "n" + spell(operand.number)


def _path_part(part: str) -> str:
    """One step of a path; a dot separates steps, so a dot inside a name is spelled ``~1`` (and a tilde ``~0``)."""
    if "~" in part or "." in part:
        part = part.replace("~", "~0").replace(".", "~1")
    return "." + part


class _Index:
    """The index while it is filled. ``cased`` has a path only once a text there differs from its folded key."""

    __slots__ = ("cased", "folded", "moments")

    def __init__(self) -> None:
        self.folded: dict[str, list[str]] = {}
        self.cased: dict[str, list[str]] = {}
        self.moments: dict[str, list[int]] = {}

    def sections(self) -> dict[str, list[Any]]:
        flat: dict[str, list[Any]] = {"f" + path: values for path, values in self.folded.items()}
        for path, values in self.cased.items():
            flat["c" + path] = values
        for path, moments in self.moments.items():
            flat["m" + path] = moments
        return flat

    def enter(self, value: Any, path: str, depth: int) -> None:
        """Enter a value and all that it contains."""
        kind = type(value)
        if kind is str:
            self._enter_text(value, path)
        elif kind is dict:
            if OBJECT_LEAF not in self.folded.get(path, ()):
                self._enter_leaf(OBJECT_LEAF, path)
            if depth < MAX_PATH_PARTS:
                for name, member in value.items():
                    if len(name) <= MAX_PART_CHARACTERS:
                        self.enter(member, path + _path_part(name), depth + 1)
        elif kind is list:
            for element in value:
                self.enter(element, path, depth)
        elif kind is bool:
            self._enter_leaf("b1" if value else "b0", path)
        elif value is not None:
            number = _spelled(value)
            if number is not None:
                self._enter_leaf("n" + number, path)

    def _enter_leaf(self, leaf: str, path: str) -> None:
        values = self.folded.get(path)
        if values is None:
            self.folded[path] = [leaf]
            return
        values.append(leaf)
        if path in self.cased:
            self.cased[path].append(leaf)

    def _enter_text(self, text: str, path: str) -> None:
        key, composed = fold(text), compose(text)
        values = self.folded.setdefault(path, [])
        if path in self.cased:
            self.cased[path].append("t" + composed)
        elif key != composed:
            self.cased[path] = [*values, "t" + composed]
        values.append("t" + key)
        if text[4:5] == "-" and (moment := parse_moment(text)) is not None:
            self.moments.setdefault(path, []).append(moment)


def _spelled(value: int | Decimal) -> str | None:
    """A number as ``spell`` spells it. Most are short, and need no more than zeros at their end."""
    text = str(value) if -_SHORT < value < _SHORT else ""
    if text and value:
        whole, _, fraction = text.partition(".")
        if len(fraction) <= SCALE and "E" not in text:
            return whole + "." + fraction.ljust(SCALE, "0")
    number = exact(value)
    return None if number is None else spell(number)
