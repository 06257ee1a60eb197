"""From rows to events: what is passed without being read again would have passed, and nothing else depends on the shortcut."""

from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from conosco.collect.envelope import Shared, judge
from conosco.collect.files.converting import Converter
from conosco.collect.files.tables import Row
from conosco.collect.identifiers import Usable
from conosco.collect.wire import Fault
from conosco.model.identifier import IdentityRules
from conosco.model.importing import RejectedRow
from conosco.rules.mapping import compile_mapping
from conosco.rules.mapping_parse import parse_event_mappings

RULES = IdentityRules()
MAPPING = [
    {
        "type": {"path": ["kind"], "default": "track"},
        "event": {"path": ["event"]},
        "user_id": {"path": ["user"], "as": "text"},
        "anonymous_id": {"path": ["anonymous"]},
        "message_id": {"path": ["id"]},
        "timestamp": {"path": ["at"]},
        "properties": {"rest": True},
    }
]
TEXTS = st.sampled_from(["", "0", "guest", "Ann", "x" * 255, "x" * 256, "y" * 1_024, "y" * 1_025, "NaN", "à"])
VALUES: st.SearchStrategy[Any] = (
    st.sampled_from([Decimal("1.5"), Decimal("Infinity"), Decimal("NaN"), True, 7, [1], {"a": [{}] * 70}, "z" * 12_000, None])
    | TEXTS
)
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(["track", "identify", "page", "alias", "merge", "nothing", ""]),
        "event": TEXTS,
        "user": TEXTS | st.just(12),
        "anonymous": TEXTS | st.just(12),
        "id": TEXTS | st.just(5),
        "at": st.sampled_from(["2025-01-02", "2025-01-02T03:04:05Z", "yesterday", "", "2025-13-01"]),
        "other": VALUES,
    },
)


def converted(values: dict[str, Any], mapping: Any = MAPPING) -> list[bytes] | RejectedRow:
    compiled = [compile_mapping(made) for made in parse_event_mappings(mapping)]
    return Converter(compiled, RULES, b"k" * 32).events(Row(1, values, ()))


@settings(max_examples=300, deadline=None)
@given(ROWS)
def test_whatever_passes_is_good_when_it_is_read_again(values: dict[str, Any]) -> None:
    usable = Usable(RULES)
    found = converted(values)
    if isinstance(found, list):
        for raw in found:
            assert not isinstance(judge(raw, "", Shared(), usable, None), Fault)
    else:
        # And nobody is turned away by the way that is taken: two mappings, of which one never applies, take the longer one.
        never = {**MAPPING[0], "when": [{"path": ["nobody"], "test": "exists"}]}
        assert converted(values, [*MAPPING, never]) == found


def test_what_a_mapping_makes_too_large_is_refused_whether_it_is_measured_late_or_at_once() -> None:
    text = "x" * 500_000
    thrice = {name: {"path": ["text"]} for name in "abc"}
    simple = {**MAPPING[0], "properties": thrice}
    parts = {f"part_{at}": {"path": ["text"]} for at in range(40)}
    values = {"user": "u", "event": "e", "text": text}
    for mapping in (simple, {**simple, "properties": parts}):
        found = converted(values, [mapping])
        assert isinstance(found, RejectedRow) and found.reason == "mapping_too_large"
    small = converted({**values, "text": "x" * 100_000}, [simple])
    assert isinstance(small, list) and len(msgspec.json.decode(small[0])["properties"]["a"]) == 100_000
