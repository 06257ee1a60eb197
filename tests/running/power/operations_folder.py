"""Operations on a whole folder: its backup, its restore, and its migration from the previous format.

To add a migration's step, nothing is to be done here: the real list is taken, and two made-up ones follow it.
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path

from conosco.engines.sqlite.connection import connect, fetch
from conosco.model.record import Draft
from conosco.runtime.backup import back_up, backups_in
from conosco.runtime.backup_restore import restore
from conosco.runtime.bootstrap import Folder, open_log, open_spare_state, prepare, put_file, sync
from conosco.runtime.migrations.backing_up import backing_up
from conosco.runtime.migrations.step import Step, read_format
from conosco.runtime.migrations.steps import STEPS, migrate
from conosco.runtime.settings import Settings

START = 1_790_000_000_000_000
PREVIOUS = Path(__file__).parents[1] / "upgrade" / "format-0.tar.gz"


def clock() -> int:
    """The time."""
    return START


def truth(data: Path) -> tuple[int, bytes, list[bytes]]:
    """What an upgrade and a restore must leave as it is: the log, proven."""
    log = open_log(Settings(data=data))
    try:
        assert log.verify() == []
        head = log.head()
        records = [record for record in log.read(0, 10_000) if record.kind != "control"]
        return len(records), records[-1].chain if records else head.chain, [record.hashes for record in records]
    finally:
        log.close()


# Backing up and restoring.


def small_folder(data: Path) -> None:
    """An installation with a few records."""
    settings = Settings(data=data)
    prepare(settings)
    log = open_log(settings)
    log.append([Draft(kind="tick", slices=(b"x" * 500,))] * 20)
    log.close()
    open_spare_state(Folder(data).state).close()


def _key(data: Path) -> Path:
    return data.parent / "backup-key"


def _make(data: Path, to: Path) -> None:
    back_up(Settings(data=data), to, clock, lambda key: put_file(_key(data), key.encode()))


def backing(data: Path) -> Iterator[None]:
    """Two backups of one folder."""
    for number in range(2):
        _make(data, data.parent / "backups" / f"conosco-{number}Z-0.backup")
        yield


def check_backups(data: Path, promised: int) -> None:
    """Every backup that has a name can be restored."""
    found = backups_in(data.parent / "backups")
    assert len(found) >= promised
    for number, path in enumerate(found):
        target = data.parent / f"restored{number}"
        restore(path, target, _key(data).read_text())
        assert truth(target) == truth(data)


def backed_up_folder(data: Path) -> None:
    """A folder beside ``data`` and a backup of it."""
    original = data.with_name("original")
    small_folder(original)
    _make(original, data.parent / "one.backup")


def restoring(data: Path) -> Iterator[None]:
    """One restore."""
    restore(data.parent / "one.backup", data, _key(data).read_text())
    yield


def check_restored(data: Path, promised: int) -> None:
    """The folder is there as a whole or not at all, and another try succeeds."""
    assert data.exists() or not promised
    if not data.exists():
        restore(data.parent / "one.backup", data, _key(data).read_text())
    # A copy that the log took for damaged would have been made anew.
    assert not (data / "log" / "damage").exists()
    assert truth(data) == truth(data.with_name("original"))
    assert read_format(data).format == len(STEPS)


# Migrating.


def previous_folder(data: Path) -> None:
    """A folder of the previous format."""
    data.mkdir(mode=0o700)
    with tarfile.open(PREVIOUS) as archive:
        archive.extractall(data, filter="data")


def _add_tables(data: Path) -> None:
    for path in (Folder(data).control, Folder(data).leases):
        connection = connect(path, create=False)
        connection.execute("BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS added (x); INSERT INTO added VALUES (1)")
        if fetch(connection, "SELECT count(*) FROM added") != [(1,)]:
            connection.execute("ROLLBACK")
        else:
            connection.execute("COMMIT")
        connection.close()


def _rename(data: Path) -> None:
    if (data / "admin-token").exists():
        (data / "admin-token").replace(data / "token")
        sync(data)


MADE_UP = (
    *STEPS,
    Step(number=len(STEPS) + 1, name="tables", apply=_add_tables),
    Step(number=len(STEPS) + 2, name="rename", apply=_rename),
)


def _migrate(data: Path) -> None:
    def note(event: str, fields: dict[str, object]) -> None:
        return

    migrate(data, clock, note, backing_up(Settings(data=data), clock, note), MADE_UP)


def migrating(data: Path) -> Iterator[None]:
    """All steps."""
    _migrate(data)
    yield


def check_migrated(data: Path, promised: int) -> None:
    """What was cut short goes on; the truth is what it was, and the backup from before holds it too."""
    if promised:
        assert read_format(data).format == len(MADE_UP)
    _migrate(data)
    assert read_format(data).format == len(MADE_UP)
    assert [taken.number for taken in read_format(data).taken] == list(range(1, len(MADE_UP) + 1))
    for path in (Folder(data).control, Folder(data).leases):
        connection = connect(path, create=False)
        assert fetch(connection, "SELECT count(*) FROM added") == [(1,)]
        connection.close()
    assert (data / "token").read_text()
    untouched = data.with_name("untouched")
    previous_folder(untouched)
    assert truth(data) == truth(untouched)
    # Whoever goes on after a cut takes another backup: of a folder that has the format it was left with.
    backups = sorted(Folder(data).backups.glob("*.backup"))
    assert backups[0].name == f"before-format-{len(MADE_UP)}-from-0.backup"
    before = data.with_name("before")
    restore(backups[0], before, Folder(data).backup_key.read_text())
    assert truth(before) == truth(untouched)
    assert (before / "admin-token").exists()
