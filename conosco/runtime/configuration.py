"""The configuration in force: every current definition, and the live segments made ready from them."""

from collections.abc import Iterable
from typing import Any, Final, TypeVar

from conosco.activate.forward import make_forwarders
from conosco.model.definition import (
    Attribute,
    Definition,
    Destination,
    Identity,
    Purpose,
    Segment,
    Source,
    kind_of,
    read_definition,
)
from conosco.model.identifier import IdentityRules
from conosco.ports.state import State, Table, scan_all
from conosco.ports.tables import DEFINITIONS, META, DefinitionRow, MetaRow, decode_row
from conosco.rules.catalogue import Catalogue
from conosco.rules.condition import AttributeSpec, AttributeTest, Condition, Did, Test
from conosco.rules.explain import walk
from conosco.rules.parse import parse_attribute, parse_where
from conosco.rules.streams import Streams
from conosco.rules.usage import Reads, reads
from conosco.segment.plans import SegmentPlan, SegmentPlans, ready

Kind = TypeVar("Kind", Purpose, Source, Destination, Segment, Attribute)
# How a stream that only computed traits read enters the registry: as a condition that merely asks for the value.
_ANY_VALUE: Final = Test(name="exists")


class Configuration:
    """Definitions by kind and key, and what live evaluation makes of them. Rebuilt whenever one changes."""

    def __init__(self, definitions: Iterable[Definition], known_streams: Iterable[str], segment_numbers: dict[str, int]) -> None:
        self.definitions = {(kind_of(made), made.key): made for made in definitions}
        self.definitions_by_id = {made.id: made for made in self.definitions.values()}
        self.streams = Streams(known_streams)
        self.segment_numbers = dict(segment_numbers)
        self.sources = {made.id: made for made in self._active(Source)}
        self.purposes = {made.key: made for made in self._active(Purpose)}
        self.destinations = tuple(self._active(Destination))
        self.forwarders = make_forwarders(self.destinations, self.sources)
        identity = self.definitions.get(("identity", "identity"))
        self.rules = identity.rules if isinstance(identity, Identity) else IdentityRules()
        self.catalogue = Catalogue(
            segments={made.key: made.spec for made in self._active(Segment)},
            attributes={made.key: made.spec for made in self._active(Attribute)},
        )
        self.attributes: dict[str, AttributeSpec] = {made.key: parse_attribute(made.spec) for made in self._active(Attribute)}
        self.conditions: dict[str, Condition] = {
            made.key: parse_where(made.spec, self.catalogue) for made in self._active(Segment)
        }
        self._windows: dict[int, int] = {}
        self.plans = SegmentPlans(self._ready_segments())

    def _active(self, kind: type[Kind]) -> list[Kind]:
        found = [made for made in self.definitions.values() if isinstance(made, kind) and made.state == "active"]
        return sorted(found, key=lambda made: made.key)

    def _ready_segments(self) -> list[SegmentPlan]:
        # Attributes are kept live too, so that a profile shows them without a look into history.
        for key, spec in self.attributes.items():
            self._register(AttributeTest(key=key, spec=spec, test=_ANY_VALUE))
        made: list[SegmentPlan] = []
        for definition in self._active(Segment):
            condition = self.conditions[definition.key]
            self._register(condition)
            number = self.segment_numbers.setdefault(definition.key, len(self.segment_numbers))
            made.append(ready(number, definition.key, definition.purpose, condition, self.streams))
        return made

    def _register(self, condition: Condition) -> None:
        self.streams.register(condition)
        for _, leaf in walk(condition):
            stream, within = None, None
            if isinstance(leaf, Did):
                stream, within = leaf.stream, leaf.within
            elif isinstance(leaf, AttributeTest):
                stream, within = leaf.spec.stream, leaf.spec.within
            if stream is not None:
                number = self.streams.number(stream)
                self._windows[number] = max(self._windows.get(number, 0), within or 0)

    def references(self) -> dict[str, Reads]:
        """What each live segment reads, by its key."""
        return {key: reads(condition) for key, condition in self.conditions.items()}

    def window(self, stream: int) -> int:
        """The longest window that is put on a stream, in microseconds; rows older than it only count, they cannot expire."""
        return self._windows.get(stream, 0)

    def with_definition(self, definition: Definition) -> "Configuration":
        """The configuration once this definition is in force."""
        changed = {**self.definitions, (kind_of(definition), definition.key): definition}
        return Configuration(changed.values(), self.streams.texts(), self.segment_numbers)

    def meta_rows(self) -> dict[str, MetaRow]:
        """What State must remember so that numbers keep their meaning."""
        return {
            "streams": MetaRow(value=self.streams.texts()),
            "segment_numbers": MetaRow(value=dict(sorted(self.segment_numbers.items()))),
        }


def load(state: State) -> Configuration:
    """Read the configuration that State holds."""
    rows: list[DefinitionRow] = [decode_row(DEFINITIONS, raw) for _, raw in scan_all(state, DEFINITIONS)]
    return Configuration(
        [read_definition(row.body) for row in rows], meta(state, "streams", []), meta(state, "segment_numbers", {})
    )


def meta(state: State, name: str, default: Any, table: Table = META) -> Any:
    """A named value of the worker, or the default."""
    raw = state.get_many(table, [(name,)]).get((name,))
    return default if raw is None else decode_row(table, raw).value
