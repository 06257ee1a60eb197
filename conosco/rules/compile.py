"""From the condition tree to one SQL question over all people, with the answers that live evaluation gives.

A neutral sqlglot tree comes out; values enter it as literals only, never as text that is parsed. Named steps (CTEs) give
the people who satisfy each leaf; the last step asks for everyone who satisfies the whole, so that NOT is total.

Numbers are exact in DECIMAL(38,6), texts are compared by their keys, moments as micros, all through the index of
``values.canonical_json``. What does not fit is absent, a finished sum too: it is added up in two halves that cannot overflow.
"""

from typing import Final

from sqlglot import exp

from conosco.model.moment import DAY
from conosco.rules.condition import (
    All,
    Any_,
    AttributeSpec,
    AttributeTest,
    Condition,
    Did,
    IdentifierTest,
    Not,
    SegmentTest,
    Stream,
    Test,
    TraitTest,
    canonical,
)
from conosco.rules.fragments import (
    HUGE,
    MOMENTS,
    TEXT,
    Leaves,
    as_json,
    call,
    cast,
    column,
    each,
    fold_conditions,
    is_some,
    leaves_at,
    millionths_of,
    moment,
    number,
    passes,
    scalars_only,
    spelled,
    text,
)
from conosco.rules.usage import reads

# A sum is carried as high * HALF + low; HALF squared is the limit, so that either half fits with room to spare.
HALF: Final = 10**19


def people(condition: Condition, *, true_at: int, known_at: int) -> exp.Select:
    """Select ``profile_id`` of everyone who satisfies the condition, with facts valid at ``true_at`` (micros), known at a position.

    Reads ``store.events``, ``store.observations`` and ``store.identifier_versions``. No data makes it fail when it runs.
    """
    question = _Question(condition, true_at, known_at)
    verdict = question.verdict(condition)
    return question.over(exp.select(column("profile_id")).from_(exp.table_("everyone")).where(verdict))


def attribute_values(spec: AttributeSpec, *, true_at: int, known_at: int) -> exp.Select:
    """Select ``profile_id, value`` of a computed trait, the value as JSON text; people without a value have no row.

    ``count`` and ``sum`` of nothing are 0, so everyone has them. Several values of one event (``last``) come as a JSON list.
    """
    question = _Question(None, true_at, known_at)
    table = question.attribute(spec)
    joined = call("array_to_string", call("list_transform", column("cased"), each(as_json)), text(","))
    one = exp.EQ(this=call("len", column("cased")), expression=number(1))
    value = exp.case().when(one, joined).else_(call("concat", text("["), joined.copy(), text("]")))
    known = column("profile_id").isin(query=exp.select(column("profile_id")).from_(exp.table_("everyone")))
    return question.over(exp.select(column("profile_id"), value.as_("value")).from_(exp.table_(table)).where(known))


class _Question:
    """The steps of one question, each made once and shared by all leaves that need it."""

    def __init__(self, condition: Condition | None, true_at: int, known_at: int) -> None:
        self._true_at = true_at
        self._known_at = known_at
        self._names: dict[bytes, str] = {}
        self._steps: list[tuple[str, exp.Select]] = []
        used = None if condition is None else reads(condition)
        self._step(b"identity", "identity", _identity(known_at, with_keys=_tests_identifiers(condition)))
        everyone = (
            exp.select(column("profile_id")).distinct().from_(exp.table_("identity")).where(self._by_now(column("first_seen_at")))
        )
        self._step(b"everyone", "everyone", everyone)
        if used is not None and used.traits:
            self._step(b"traits", "traits", self._traits(sorted(used.traits)))

    def over(self, select: exp.Select) -> exp.Select:
        """Put the steps before the final select."""
        for name, step in self._steps:
            select = select.with_(exp.TableAlias(this=exp.to_identifier(name)), as_=step, copy=False)
        return select

    def verdict(self, condition: Condition) -> exp.Expression:
        """The condition as a boolean over ``everyone.profile_id`` that is never NULL."""
        match condition:
            case Not(of=inner):
                return exp.Not(this=exp.paren(self.verdict(inner), copy=False))
            case SegmentTest(of=inner):
                return self.verdict(inner)
            case All(of=parts):
                return fold_conditions(exp.And, [self.verdict(part) for part in parts], empty=True)
            case Any_(of=parts):
                return fold_conditions(exp.Or, [self.verdict(part) for part in parts], empty=False)
            case Did(least=0, most=None):
                return exp.true()
            case Did(least=0):
                # Nobody has fewer than no events: all but those with too many.
                return exp.Not(this=self._is_among(self._leaf(condition)))
            case _:
                return self._is_among(self._leaf(condition))

    def attribute(self, spec: AttributeSpec) -> str:
        """A step (profile_id, folded, cased, moments): a computed trait's value as lists of leaves, one row a person who has one."""
        key = b"attribute" + canonical(spec)
        if key in self._names:
            return self._names[key]
        stream = self._stream(spec.stream)
        match spec.aggregate:
            case "count":
                step = self._of_everyone(self._count(spec, stream), call("concat", _or_zero("total"), text(".000000")))
            case "sum":
                step = self._of_everyone(self._sum(spec, stream), spelled(_or_zero("total")))
            case "days_since":
                step = self._days_since(spec, stream)
            case "last":
                step = self._last(spec, stream)
        return self._step(key, f"attribute_{len(self._steps)}", step)

    def _step(self, key: bytes, name: str, select: exp.Select) -> str:
        self._names[key] = name
        self._steps.append((name, select))
        return name

    def _by_now(self, at: exp.Expression) -> exp.Expression:
        return exp.LTE(this=at, expression=moment(self._true_at))

    def _in_window(self, within: int | None) -> list[exp.Expression]:
        """The window (true_at - within, true_at]; its end is already in the stream."""
        return [] if within is None else [exp.GT(this=column("event_at"), expression=moment(self._true_at - within))]

    def _is_among(self, name: str) -> exp.Expression:
        return column("profile_id", "everyone").isin(query=exp.select(column("profile_id")).from_(exp.table_(name)))

    def _leaf(self, leaf: TraitTest | Did | AttributeTest | IdentifierTest) -> str:
        """A step with the ``profile_id`` of those who satisfy a leaf; for ``did`` at most n times, of those who do NOT."""
        key = b"leaf" + canonical(leaf)
        if key in self._names:
            return self._names[key]
        chosen = exp.select(column("profile_id"))
        match leaf:
            case TraitTest(path=path, test=test):
                named = exp.EQ(this=column("name"), expression=text(path[0]))
                step = chosen.from_(exp.table_("traits")).where(named, self._passes(leaves_at(column("keys"), path[1:]), test))
            case IdentifierTest(namespace=namespace, test=test):
                named = exp.EQ(this=column("namespace"), expression=text(namespace))
                step = chosen.distinct().from_(exp.table_("identity")).where(named, self._by_now(column("first_seen_at")))
                if test is not None:
                    step = step.where(self._passes(leaves_at(column("value_keys"), ()), test))
            case AttributeTest(spec=spec, test=test):
                kept = Leaves(folded=column("folded"), cased=column("cased"), moments=column("moments"))
                step = chosen.from_(exp.table_(self.attribute(spec))).where(self._passes(kept, test))
            case Did():
                step = self._did(leaf)
        return self._step(key, f"leaf_{len(self._steps)}", step)

    def _passes(self, leaves: Leaves, test: Test) -> exp.Expression:
        return passes(leaves, test, number(self._true_at))

    def _did(self, leaf: Did) -> exp.Select:
        counted = call("count", exp.Star())
        step = (
            exp.select(column("profile_id"))
            .from_(exp.table_(self._stream(leaf.stream)))
            .where(*self._in_window(leaf.within))
            .group_by(column("profile_id"))
        )
        if leaf.least == 0:
            return step.having(exp.GT(this=counted, expression=number(leaf.most or 0)))
        if leaf.least > 1:
            step = step.having(exp.GTE(this=counted, expression=number(leaf.least)))
        if leaf.most is not None:
            step = step.having(exp.LTE(this=counted.copy(), expression=number(leaf.most)))
        return step

    def _stream(self, stream: Stream) -> str:
        """A step with one row for each event of a stream that was known, with the person whose event it is."""
        key = b"stream" + canonical(stream)
        if key in self._names:
            return self._names[key]
        kept = ["event_at"] if stream.value is None else ["event_at", "source_id", "message_id", "property_keys"]
        step = self._owned("events", kept).where(exp.EQ(this=column("type", "events"), expression=text(stream.type)))
        if stream.event is not None:
            step = step.where(exp.EQ(this=column("event", "events"), expression=text(stream.event)))
        if not stream.automated:
            step = step.where(exp.Not(this=exp.Is(this=column("automated", "events"), expression=exp.true())))
        for entry in stream.where:
            # A filter belongs to the event, so that ages in it are counted from the event and not from now.
            now = call("epoch_us", column("event_at", "events"))
            step = step.where(passes(leaves_at(column("property_keys", "events"), entry.path), entry.test, now))
        return self._step(key, f"stream_{len(self._steps)}", step)

    def _owned(self, table: str, kept: list[str]) -> exp.Select:
        """Rows of events or observations that are valid and known by now, with the profile_id of their home identifier."""
        is_home = exp.And(
            this=exp.EQ(this=column("home_namespace", table), expression=column("namespace", "identity")),
            expression=exp.EQ(this=column("home_value", table), expression=column("value", "identity")),
        )
        return (
            exp.select(column("profile_id", "identity"), *(column(name, table) for name in kept))
            .from_(exp.table_(table, db="store", alias=table))
            .join(exp.table_("identity"), on=is_home)
            .where(self._by_now(column("event_at", table)), _known(column("position", table), self._known_at))
        )

    def _traits(self, names: list[str]) -> exp.Select:
        """The winning observation of each trait, as (profile_id, name, keys)."""
        order = ("priority", "event_at", "source_id", "message_id")
        observed = self._owned("observations", ["name", "value_keys", *order])
        observed = observed.where(column("name", "observations").isin(*map(text, names)))
        winner = call("arg_max", column("value_keys"), call("row", *map(column, order)))
        return (
            exp.select(column("profile_id"), column("name"), winner.as_("keys"))
            .from_(observed.subquery("observed"))
            .group_by(column("profile_id"), column("name"))
        )

    def _count(self, spec: AttributeSpec, stream: str) -> exp.Select:
        return (
            exp.select(column("profile_id"), call("count", exp.Star()).as_("total"))
            .from_(exp.table_(stream))
            .where(*self._in_window(spec.within))
            .group_by(column("profile_id"))
        )

    def _sum(self, spec: AttributeSpec, stream: str) -> exp.Select:
        """The sum of every number at the path, in millionths; NULL where it does not fit."""
        values = leaves_at(column("property_keys"), spec.stream.value or ()).folded
        numbers = call("list_filter", values, each(lambda leaf: call("starts_with", leaf, text("n"))))
        amounts = call("list_transform", numbers, each(millionths_of))
        found = exp.select(column("profile_id"), call("unnest", amounts).as_("amount"))
        found = found.from_(exp.table_(stream)).where(*self._in_window(spec.within))
        halves = (
            exp.select(
                column("profile_id"),
                call("sum", exp.IntDiv(this=column("amount"), expression=number(HALF))).as_("high"),
                call("sum", exp.Mod(this=column("amount"), expression=number(HALF))).as_("low"),
            )
            .from_(found.subquery("found"))
            .group_by(column("profile_id"))
        )
        carried = exp.Add(this=column("high"), expression=exp.IntDiv(this=column("low"), expression=number(HALF)))
        carry = exp.select(
            column("profile_id"), carried.as_("high"), exp.Mod(this=column("low"), expression=number(HALF)).as_("low")
        ).from_(halves.subquery("halves"))
        fits = exp.LTE(this=call("abs", column("high")), expression=number(HALF))
        whole = exp.Add(this=exp.Mul(this=column("high"), expression=number(HALF)), expression=column("low"))
        total = exp.case().when(fits, whole).as_("total")
        return exp.select(column("profile_id"), total).from_(carry.subquery("carried"))

    def _days_since(self, spec: AttributeSpec, stream: str) -> exp.Select:
        newest = call("epoch_us", call("max", column("event_at")))
        age = exp.paren(exp.Sub(this=number(self._true_at), expression=newest))
        days = cast(exp.paren(exp.IntDiv(this=age, expression=number(DAY))), TEXT)
        latest = (
            exp.select(column("profile_id"), call("concat", days, text(".000000")).as_("number"))
            .from_(exp.table_(stream))
            .where(*self._in_window(spec.within))
            .group_by(column("profile_id"))
        )
        return _number_leaves(column("profile_id"), column("number")).from_(latest.subquery("latest"))

    def _last(self, spec: AttributeSpec, stream: str) -> exp.Select:
        """The value of the last event that carries one; an event with only an object or null there carries none."""
        path = spec.stream.value or ()
        carries = is_some(scalars_only(leaves_at(column("property_keys"), path)).folded)
        order = call("row", column("event_at"), column("source_id"), column("message_id"))
        newest = (
            exp.select(column("profile_id"), call("arg_max", column("property_keys"), order).as_("keys"))
            .from_(exp.table_(stream))
            .where(*self._in_window(spec.within), carries)
            .group_by(column("profile_id"))
        )
        leaves = scalars_only(leaves_at(column("keys"), path))
        return exp.select(
            column("profile_id"),
            leaves.folded.as_("folded"),
            leaves.cased.as_("cased"),
            leaves.moments.as_("moments"),
        ).from_(newest.subquery("newest"))

    def _of_everyone(self, totals: exp.Select, spelling: exp.Expression) -> exp.Select:
        """One row a person: who has no row in ``totals`` has a total of 0, who has NULL there has no value."""
        is_same = exp.EQ(this=column("profile_id", "totals"), expression=column("profile_id", "everyone"))
        known = (
            exp.select(column("profile_id", "everyone"), spelling.as_("number"))
            .from_(exp.table_("everyone"))
            .join(totals.subquery("totals"), on=is_same, join_type="left")
        )
        return (
            _number_leaves(column("profile_id"), column("number"))
            .from_(known.subquery("known"))
            .where(exp.Not(this=exp.Is(this=column("number"), expression=exp.null())))
        )


def _or_zero(name: str) -> exp.Expression:
    """A total, 0 for people without a row; NULL stays NULL for people with one."""
    nobody = exp.Is(this=column("profile_id", "totals"), expression=exp.null())
    return exp.case().when(nobody, cast(number(0), HUGE)).else_(column(name, "totals"))


def _number_leaves(profile: exp.Expression, spelling: exp.Expression) -> exp.Select:
    """(profile_id, folded, cased, moments) of one number."""
    leaf = exp.Array(expressions=[call("concat", text("n"), spelling)])
    nothing = cast(exp.Array(expressions=[]), MOMENTS)
    return exp.select(profile, leaf.as_("folded"), leaf.copy().as_("cased"), nothing.as_("moments"))


def _known(position: exp.Expression, known_at: int) -> exp.Expression:
    return exp.LTE(this=position, expression=number(known_at))


def _identity(known_at: int, *, with_keys: bool) -> exp.Select:
    """Whose each identifier is, by the newest version that was known; identifiers that were nobody's are left out."""
    kept = ["namespace", "value", "profile_id", "first_seen_at", *(["value_keys"] if with_keys else [])]
    newest = exp.Window(
        this=call("row_number"),
        partition_by=[column("namespace"), column("value")],
        order=exp.Order(
            expressions=[exp.Ordered(this=column(name), desc=True, nulls_first=False) for name in ("position", "ordinal")]
        ),
    )
    versions = (
        exp.select(*map(column, kept))
        .from_(exp.table_("identifier_versions", db="store"))
        .where(_known(column("position"), known_at))
        .qualify(exp.EQ(this=newest, expression=number(1)))
    )
    return (
        exp.select(*map(column, kept))
        .from_(versions.subquery("newest"))
        .where(exp.NEQ(this=column("profile_id"), expression=text("")))
    )


def _tests_identifiers(condition: Condition | None) -> bool:
    """Whether a leaf looks into the value of an identifier, so that its index must be read."""
    match condition:
        case IdentifierTest(test=test):
            return test is not None
        case Not(of=inner) | SegmentTest(of=inner):
            return _tests_identifiers(inner)
        case All(of=parts) | Any_(of=parts):
            return any(map(_tests_identifiers, parts))
        case _:
            return False
