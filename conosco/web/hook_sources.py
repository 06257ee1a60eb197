"""The webhook sources that are valid now, read again from State when what is known has grown old."""

from collections.abc import Callable, Mapping
from typing import Final

from conosco.collect.mapped import WEBHOOK, compiled_mappings
from conosco.model.definition import Source, read_definition
from conosco.ports.tables import DEFINITIONS
from conosco.runtime.office.reading import Reading
from conosco.web.hooks import HookSource

SOURCES_MAX: Final = 10_000


class HookSources:
    """The webhook sources by the hash of their write key. ``fresh_us`` is how old the answer may be."""

    def __init__(self, reading: Reading, clock: Callable[[], int], fresh_us: int) -> None:
        self._reading = reading
        self._clock = clock
        self._fresh_us = fresh_us
        self._read_at = -fresh_us
        self._by_hash: dict[str, HookSource] = {}
        # What each definition means to this door, by its bytes: reading its mappings takes longer than a request may.
        self._known: dict[bytes, tuple[str, HookSource] | None] = {}

    def __call__(self) -> Mapping[str, HookSource]:
        """Write key hash to source."""
        now = self._clock()
        if now - self._read_at >= self._fresh_us or now < self._read_at:
            bodies = [row.body for _, row in self._reading.scan(DEFINITIONS, ("source",), ("source\x00",), SOURCES_MAX)]
            known = self._known
            self._known = {body: known[body] if body in known else _read(body) for body in bodies}
            self._by_hash = dict(entry for entry in self._known.values() if entry is not None)
            self._read_at = now
        return self._by_hash


def _read(body: bytes) -> tuple[str, HookSource] | None:
    made = read_definition(body)
    if not isinstance(made, Source) or made.type != WEBHOOK or not made.write_key_hash:
        return None
    source = HookSource(
        source_id=made.id,
        key=made.key,
        enabled=made.state == "active",
        signature=made.spec.signature,
        each=tuple(mapping.each for mapping in compiled_mappings(made)),
    )
    return made.write_key_hash, source
