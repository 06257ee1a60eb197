"""Migrations: numbered steps, each with its record, resumed wherever they were cut short; a newer folder is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from conosco.model.problem import Refused
from conosco.runtime.bootstrap import Folder, prepare
from conosco.runtime.migrations.step import STORES, Step, read_format, write_format
from conosco.runtime.migrations.steps import STEPS, check_format, is_new, migrate, require_current
from conosco.runtime.settings import Settings

NOW = 1_790_000_000_000_000


class Traces:
    """Three steps that write down that they were called, and a backup that does."""

    def __init__(self, fails_at: int = 0) -> None:
        self.called: list[object] = []
        self.fails_at = fails_at
        self.steps = tuple(Step(number=number, name=f"step{number}", apply=self._step(number)) for number in (1, 2, 3))

    def _step(self, number: int) -> Callable[[Path], None]:
        def apply(data: Path) -> None:
            self.called.append(number)
            if number == self.fails_at:
                raise OSError("cut short")

        return apply

    def migrate(self, data: Path) -> None:
        migrate(data, lambda: NOW, lambda event, fields: None, lambda found, to: self.called.append((found, to)), self.steps)


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A folder as it was made before there was a format file."""
    data = tmp_path / "data"
    prepare(Settings(data=data))
    return data


def test_the_steps_are_numbered_without_gaps_and_named_once() -> None:
    assert [step.number for step in STEPS] == list(range(1, len(STEPS) + 1))
    assert len({step.name for step in STEPS}) == len(STEPS)


def test_a_new_folder_has_the_newest_format_and_no_steps(tmp_path: Path) -> None:
    traces = Traces()
    traces.migrate(tmp_path)
    assert traces.called == []
    assert read_format(tmp_path).format == 3
    assert is_new(tmp_path)


def test_an_older_folder_takes_every_step_after_a_backup(older: Path) -> None:
    traces = Traces()
    traces.migrate(older)
    assert traces.called == [(0, 3), 1, 2, 3]
    found = read_format(older)
    assert (found.format, found.stores, [taken.name for taken in found.taken]) == (3, STORES, ["step1", "step2", "step3"])
    traces.migrate(older)
    assert traces.called == [(0, 3), 1, 2, 3]


def test_it_goes_on_at_the_step_that_was_cut_short(older: Path) -> None:
    with pytest.raises(OSError, match="cut short"):
        Traces(fails_at=2).migrate(older)
    assert read_format(older).format == 1
    again = Traces()
    again.migrate(older)
    assert again.called == [(1, 3), 2, 3]


def test_a_newer_folder_is_refused_with_both_versions(older: Path) -> None:
    Traces().migrate(older)
    before = {path: path.read_bytes() for path in older.rglob("*") if path.is_file()}
    for refusing in (lambda: check_format(older), lambda: migrate(older, lambda: 0, lambda e, f: None, lambda a, b: None)):
        with pytest.raises(Refused) as raised:
            refusing()
        problem = raised.value.problems[0]
        assert (problem.code, problem.params["found"], problem.params["known"]) == ("folder_newer", 3, len(STEPS))
    assert {path: path.read_bytes() for path in older.rglob("*") if path.is_file()} == before


def test_a_store_of_a_newer_format_is_refused(older: Path) -> None:
    found = write_format(older, read_format(older), len(STEPS), "x", NOW)
    changed = Folder(older).format.read_text().replace(f'"log": {found.stores["log"]}', '"log": 9')
    Folder(older).format.write_text(changed)
    with pytest.raises(Refused) as raised:
        check_format(older)
    assert (raised.value.problems[0].code, raised.value.problems[0].params["found"]) == ("store_newer", 9)


def test_an_unreadable_format_is_refused(older: Path) -> None:
    Folder(older).format.write_bytes(b"\xff{")
    with pytest.raises(Refused) as raised:
        check_format(older)
    assert raised.value.problems[0].code == "format_unreadable"


def test_a_role_alone_does_not_migrate(older: Path) -> None:
    with pytest.raises(Refused) as raised:
        require_current(older)
    assert raised.value.problems[0].code == "folder_older"
    migrate(older, lambda: NOW, lambda event, fields: None, lambda found, to: None)
    require_current(older)
