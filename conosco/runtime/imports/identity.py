"""What rows would do to who is who, told by the resolve stage itself on a view of State that is never written."""

from collections.abc import Sequence
from typing import Final

from conosco.model.event import Event
from conosco.model.identifier import IdentityRules
from conosco.model.importing import IdentityPreview
from conosco.ports.state import State
from conosco.ports.tables import IDENTIFIERS
from conosco.ports.work import Work
from conosco.resolve.resolution import Resolution
from conosco.resolve.stage import identifier_keys, resolve

# Beyond so many events the view would no longer fit into memory, and what is told is about the events up to there.
EVENTS_MAX: Final = 3_000_000


class IdentityForecast:
    """Counts events by what they do to people. Exact: what it asks is what the worker will ask."""

    def __init__(self, state: State, rules: IdentityRules) -> None:
        self._work = Work(state)
        self._rules = rules
        # People whom these rows made, and known ones to whom rows belong, by internal number.
        self._fresh: set[int] = set()
        self._touched: set[int] = set()
        self._counts = dict.fromkeys(("new", "known", "merging", "conflicting"), 0)
        self._merged = 0
        self._is_exact = True
        self.rows = 0

    def add(self, events: Sequence[Event]) -> None:
        """Take events in their order."""
        if self.rows + len(events) > EVENTS_MAX:
            self._is_exact = False
            return
        self._work.prefetch(IDENTIFIERS, {key for event in events for key in identifier_keys(event)})
        for event in events:
            self.rows += 1
            self._counts[self._kind(resolve(self._work, event, self._rules))] += 1

    def _kind(self, resolution: Resolution) -> str:
        merged = self._regroup(resolution)
        if resolution.person not in self._fresh:
            self._touched.add(resolution.person)
        if any(change.refused_by for change in resolution.link_changes):
            return "conflicting"
        if merged:
            return "merging"
        return "new" if resolution.person in self._fresh else "known"

    def _regroup(self, resolution: Resolution) -> int:
        """Carry over who is known; how many known people became one with another."""
        if resolution.regrouping is None:
            return 0
        before = {number: frozenset(members) for number, members in resolution.regrouping.before.items()}
        fresh, touched = self._fresh & before.keys(), self._touched & before.keys()
        self._fresh -= before.keys()
        self._touched -= before.keys()
        merged = 0
        for number, members in resolution.regrouping.after.items():
            origins = [other for other, its in before.items() if its & frozenset(members)]
            known = [other for other in origins if other not in fresh]
            if not known:
                self._fresh.add(number)
            elif touched & set(origins):
                self._touched.add(number)
            merged += max(0, len(known) - 1)
        self._merged += merged
        return merged

    def told(self) -> IdentityPreview:
        """What was found so far."""
        return IdentityPreview(
            rows=self.rows,
            is_exact=self._is_exact,
            new_people=len(self._fresh),
            known_people=len(self._touched),
            people_merged=self._merged,
            **self._counts,
        )
