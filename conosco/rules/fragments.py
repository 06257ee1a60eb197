"""The smallest pieces of compiled conditions: literals, calls, and a test on the values that the index keeps at a path.

Every value of a customer becomes a literal node here. Each piece is NULL or false for what is absent, and never raises.
"""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from sqlglot import exp

from conosco.model.number import LIMIT, SCALE, UNIT, spell
from conosco.rules.condition import Scalar, Test
from conosco.rules.values import OBJECT_LEAF, index_key, leaf_of

TEXT: Final = exp.DataType.build("TEXT")
HUGE: Final = exp.DataType.build("INT128")
TEXTS: Final = exp.DataType(this=exp.DataType.Type.ARRAY, expressions=[TEXT.copy()], nested=True)
MOMENTS: Final = exp.DataType(this=exp.DataType.Type.ARRAY, expressions=[exp.DataType.build("BIGINT")], nested=True)
EXACT: Final = exp.DataType.build(f"DECIMAL(38, {SCALE})")
_COMPARISONS: Final[dict[str, type[exp.Expression]]] = {
    "more_than": exp.GT,
    "after": exp.GT,
    "at_least": exp.GTE,
    "less_than": exp.LT,
    "before": exp.LT,
    "at_most": exp.LTE,
}


class Leaves(NamedTuple):
    """The values at a path, as lists: by folded key, with case, and the moments among them; NULL where there are none."""

    folded: exp.Expression
    cased: exp.Expression
    moments: exp.Expression


def column(name: str, table: str | None = None) -> exp.Column:
    """A column of ours."""
    return exp.column(name, table)


def text(value: str) -> exp.Literal:
    """A text as a literal."""
    return exp.Literal.string(value)


def number(value: int) -> exp.Expression:
    """A whole number as a literal."""
    return exp.Literal.number(value)


def moment(micros: int) -> exp.Expression:
    """A moment as a timestamp."""
    return call("make_timestamp", number(micros))


def call(name: str, *arguments: exp.Expression) -> exp.Anonymous:
    """A call of a function by its name."""
    return exp.Anonymous(this=name, expressions=list(arguments))


def cast(value: exp.Expression, to: exp.DataType) -> exp.Cast:
    """A cast that cannot fail."""
    return exp.Cast(this=value, to=to.copy())


def try_cast(value: exp.Expression, to: exp.DataType) -> exp.TryCast:
    """A cast that gives NULL where it fails."""
    return exp.TryCast(this=value, to=to.copy())


def each(condition: Callable[[exp.Column], exp.Expression]) -> exp.Lambda:
    """A function of one element, ``x``."""
    return exp.Lambda(this=condition(column("x")), expressions=[exp.to_identifier("x")])


def fold_conditions(connector: type[exp.Connector], parts: Iterable[exp.Expression], *, empty: bool) -> exp.Expression:
    """Join conditions by AND or OR as a balanced tree, so that many of them do not nest deeply; of none it is ``empty``."""
    level = [exp.paren(part, copy=False) for part in parts]
    if not level:
        return exp.true() if empty else exp.false()
    while len(level) > 1:
        pairs = [level[at : at + 2] for at in range(0, len(level), 2)]
        level = [
            exp.paren(connector(this=pair[0], expression=pair[1]), copy=False) if len(pair) == 2 else pair[0] for pair in pairs
        ]
    return level[0]


def leaves_at(index: exp.Expression, path: tuple[str, ...]) -> Leaves:
    """The values at a path of an index (a column made by ``values.canonical_json``)."""
    folded, cased, moments = (_pointed(index, index_key(section, path)) for section in ("f", "c", "m"))
    # With case is kept only where that differs.
    return Leaves(
        folded=try_cast(folded, TEXTS),
        cased=try_cast(call("coalesce", cased, folded.copy()), TEXTS),
        moments=try_cast(moments, MOMENTS),
    )


def scalars_only(leaves: Leaves) -> Leaves:
    """The same without objects; an empty list where there were only those."""
    return leaves._replace(folded=_without_objects(leaves.folded), cased=_without_objects(leaves.cased))


def is_some(values: exp.Expression) -> exp.Expression:
    """True if a list has an element."""
    return exp.GT(this=call("len", values), expression=number(0))


def rest_of(leaf: exp.Expression) -> exp.Expression:
    """A leaf without its tag."""
    return call("substring", leaf, number(2))


def millionths_of(leaf: exp.Expression) -> exp.Expression:
    """A number leaf as whole millionths: it has six decimals, so only the point is in the way."""
    return try_cast(call("replace", rest_of(leaf), text("."), text("")), HUGE)


def spelled(millionths: exp.Expression) -> exp.Expression:
    """Whole millionths as ``number.spell`` spells them; NULL for what does not fit."""
    size = call("abs", millionths.copy())
    sign = exp.case().when(exp.LT(this=millionths.copy(), expression=number(0)), text("-")).else_(text(""))
    whole = cast(exp.paren(exp.IntDiv(this=size, expression=number(UNIT))), TEXT)
    fraction = cast(exp.paren(exp.Mod(this=size.copy(), expression=number(UNIT))), TEXT)
    fits = exp.LT(this=size.copy(), expression=cast(text(str(LIMIT)), HUGE))
    return exp.case().when(fits, call("concat", sign, whole, text("."), call("lpad", fraction, number(SCALE), text("0"))))


def as_json(leaf: exp.Expression) -> exp.Expression:
    """A leaf as the shortest JSON."""
    shortest = call("rtrim", call("rtrim", rest_of(leaf), text("0")), text("."))
    return (
        exp.case()
        .when(call("starts_with", leaf.copy(), text("n")), shortest)
        .when(exp.EQ(this=leaf.copy(), expression=text("b1")), text("true"))
        .when(exp.EQ(this=leaf.copy(), expression=text("b0")), text("false"))
        .else_(cast(call("to_json", rest_of(leaf.copy())), TEXT))
    )


def passes(leaves: Leaves, test: Test, now: exp.Expression) -> exp.Expression:
    """True if any value passes the test, as ``values.compile_test`` says; ``now`` are the micros that ages are counted from."""
    values = leaves.cased if test.case else leaves.folded
    wanted = [text(leaf_of(operand, test.case)) for operand in test.operands]
    match test.name:
        case "exists":
            return exp.Not(this=exp.Is(this=leaves.folded, expression=exp.null()))
        case "is" | "in":
            return call("list_has_any", values, exp.Array(expressions=wanted))
        case "is_not":
            return _any(values, lambda leaf: exp.NEQ(this=leaf, expression=wanted[0]))
        case "not_in":
            return _any(values, lambda leaf: exp.Not(this=exp.In(this=leaf, expressions=wanted)))
        case "contains" | "starts_with" | "ends_with":
            operand = test.operands[0]
            part = text(operand.exact if test.case else operand.folded)
            return _any_text(values, lambda rest: call(test.name, rest, part))
        case "matches":
            pattern, case = text(test.operands[0].exact), text("c" if test.case else "i")
            return _any_text(leaves.cased, lambda rest: call("regexp_matches", rest, pattern, case))
        case "within" | "before_last":
            return _passes_age(leaves.moments, test, now)
        case "more_than" | "at_least" | "less_than" | "at_most" | "between" | "before" | "after":
            if test.operands[0].kind == "moment":
                return _any(leaves.moments, lambda micros: _ordered(micros, test, lambda operand: number(operand.number)))
            return _any_number(leaves.folded, lambda value: _ordered(value, test, _exact_literal))


def _passes_age(moments: exp.Expression, test: Test, now: exp.Expression) -> exp.Expression:
    start = exp.paren(exp.Sub(this=now, expression=number(test.operands[0].number)))
    if test.name == "before_last":
        return _any(moments, lambda micros: exp.LTE(this=micros, expression=start))
    return _any(
        moments,
        lambda micros: exp.And(
            this=exp.GT(this=micros, expression=start), expression=exp.LTE(this=micros.copy(), expression=now.copy())
        ),
    )


def _ordered(value: exp.Expression, test: Test, literal: Callable[[Scalar], exp.Expression]) -> exp.Expression:
    if test.name == "between":
        return exp.Between(this=value, low=literal(test.operands[0]), high=literal(test.operands[1]))
    return _COMPARISONS[test.name](this=value, expression=literal(test.operands[0]))


def _exact_literal(operand: Scalar) -> exp.Expression:
    return cast(text(spell(operand.number)), EXACT)


def _any(values: exp.Expression, condition: Callable[[exp.Expression], exp.Expression]) -> exp.Expression:
    return is_some(call("list_filter", values, each(condition)))


def _any_text(values: exp.Expression, condition: Callable[[exp.Expression], exp.Expression]) -> exp.Expression:
    return _any(values, lambda leaf: _tagged(leaf, "t", condition(rest_of(leaf.copy()))))


def _any_number(values: exp.Expression, condition: Callable[[exp.Expression], exp.Expression]) -> exp.Expression:
    def compares(leaf: exp.Expression) -> exp.Expression:
        value = try_cast(rest_of(leaf.copy()), EXACT)
        return _tagged(leaf, "n", condition(value))

    return _any(values, compares)


def _tagged(leaf: exp.Expression, tag: str, condition: exp.Expression) -> exp.Expression:
    return exp.And(this=call("starts_with", leaf, text(tag)), expression=exp.paren(condition, copy=False))


def _without_objects(values: exp.Expression) -> exp.Expression:
    return call("list_filter", values, each(lambda leaf: exp.NEQ(this=leaf, expression=text(OBJECT_LEAF))))


def _pointed(index: exp.Expression, key: str) -> exp.Expression:
    """A member of an index, by JSON pointer: its quoting is complete, that of JSON paths is not."""
    return call("json_extract", index.copy(), text("/" + key.replace("~", "~0").replace("/", "~1")))
