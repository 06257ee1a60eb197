"""One person as conditions see it: the fold of its cells, read lazily and kept while a micro-batch lasts."""

from collections.abc import Sequence

from conosco.ports.tables import CELLS, TRAITS, CellRow, PersonRow, TraitRow
from conosco.ports.work import Work
from conosco.profile.cells import fold_observations, fold_rows
from conosco.rules.evaluate import Observation, Rows, winning_value


class PersonView:
    """Implements ``rules.evaluate.View`` over Work. Valid until the person's row, cells or traits change."""

    __slots__ = ("_cells", "_rows", "_traits", "number", "person", "work")

    def __init__(self, work: Work, number: int, person: PersonRow) -> None:
        self.work = work
        self.number = number
        self.person = person
        self._cells: list[CellRow] | None = None
        self._traits: list[TraitRow] | None = None
        self._rows: dict[int, Rows] = {}

    @property
    def born_at(self) -> int:
        """The earliest moment at which any of the person's identifiers was seen."""
        return born_at(self.person)

    def identifiers(self) -> Sequence[tuple[str, str, int]]:
        """(namespace, value, first_seen_at) of each identifier."""
        return self.person.identifiers

    def rows(self, stream: int) -> Rows:
        """The kept rows of a stream, over all cells."""
        found = self._rows.get(stream)
        if found is None:
            found = self._rows[stream] = fold_rows(self._cells or self._load_cells(), stream)
        return found

    def trait(self, name: str, at: int) -> bytes | None:
        """The winning value of a trait at a moment. What the cells repeat of it mostly suffices; else the traits are read."""
        best: tuple[int, int, int, bytes] | None = None
        for cell in self._cells or self._load_cells():
            if cell.is_described:
                told = cell.told.get(name)
                if told is None or told[0] > at or (best is not None and told[1:3] == best[1:3]):
                    return winning_value(self.observations(name), at)
                if best is None or told[1:3] > best[1:3]:
                    best = told
        return None if best is None else best[3]

    def observations(self, name: str) -> Sequence[Observation]:
        """The kept observations of a trait, over all cells."""
        if self._traits is None:
            keys = [(self.number, cell) for cell in self.person.cells]
            if len(keys) > 1:
                self.work.prefetch(TRAITS, keys)
            self._traits = [row for key in keys if (row := self.work.get(TRAITS, key)) is not None]
        return fold_observations(self._traits, name)

    def trait_names(self) -> list[str]:
        """The names of all traits ever observed for this person."""
        self.observations("")
        assert self._traits is not None
        return sorted({name for row in self._traits for name in row.traits})

    def _load_cells(self) -> list[CellRow]:
        keys = [(self.number, cell) for cell in self.person.cells]
        if len(keys) > 1:
            self.work.prefetch(CELLS, keys)
        self._cells = [row for key in keys if (row := self.work.get(CELLS, key)) is not None]
        return self._cells


def born_at(person: PersonRow) -> int:
    """The earliest moment at which any of a person's identifiers was seen."""
    identifiers = person.identifiers
    return identifiers[0][2] if len(identifiers) == 1 else min([first_seen_at for _, _, first_seen_at in identifiers])
