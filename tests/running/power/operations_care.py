"""Operations on files that are finished, and on State as a whole: sealing, erasing and pruning what is sealed, exchanging and deriving."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from conosco.engines.sqlite.log import SqliteLog
from conosco.engines.sqlite.log_archive import SqliteArchive
from conosco.engines.sqlite.state import SqliteState
from conosco.model.definition import Purpose, Segment
from conosco.model.record import Draft, Envelope, Record
from conosco.runtime.bootstrap import (
    INSTALLATION_SECRET,
    Folder,
    exchange_state,
    make_gate,
    open_keys,
    open_log,
    open_spare_state,
    prepare,
    required_secret,
)
from conosco.runtime.deriving import derive_lost_state, is_state_lost
from conosco.runtime.digest import digest
from conosco.runtime.replay import rebuild
from conosco.runtime.settings import Settings

START = 1_790_000_000_000_000
SMALL_FILE = 40_000
PART = 15_000
RECORDS = 22
ERASED = [[(1, 0), (2, 0)], [(9, 0)], [(RECORDS - 1, 0), (RECORDS, 0)]]
PRUNED = (4, 9, 14)


def clock() -> int:
    """The time."""
    return START


def _identify(record: Record) -> Iterable[tuple[int, bytes]]:
    return [(0, (record.position % 7).to_bytes(8, "big"))]


def _open_log(data: Path) -> SqliteLog:
    return SqliteLog(data / "log", clock, segment_bytes=SMALL_FILE)


def _open_archive(data: Path) -> SqliteArchive:
    return SqliteArchive(data / "log", clock, part_bytes=PART)


def _body(position: int) -> bytes:
    return b"%06d " % position * 800


def _no_pause() -> None:
    return


# Sealing.


def finished_log(data: Path) -> None:
    """A log with several finished files."""
    data.mkdir()
    with closing(_open_log(data)) as log:
        for position in range(1, RECORDS + 1):
            log.append([Draft(kind="request", source_id="src_a", slices=(_body(position),))])


def sealed_log(data: Path) -> None:
    """The same, sealed."""
    finished_log(data)
    for _ in sealing(data):
        continue


def sealing(data: Path) -> Iterator[None]:
    """One file after the other."""
    with closing(_open_log(data)), closing(_open_archive(data)) as archive:
        while archive.seal(_identify, _no_pause) is not None:
            yield


def check_sealed(data: Path, promised: int) -> None:
    """What was promised to be sealed is, every record is as it was, and the rest can be sealed."""
    for is_again in (False, True):
        with closing(_open_log(data)) as log, closing(_open_archive(data)) as archive:
            _check_whole(log, archive, range(1, RECORDS + 1))
            sealed = [file.is_sealed for file in archive.stock()]
            assert sum(sealed) >= promised
            assert not is_again or all(sealed[:-1])
            while archive.seal(_identify, _no_pause) is not None:
                continue


def _check_whole(log: SqliteLog, archive: SqliteArchive, kept: range) -> None:
    assert log.verify(kept.start - 1) == []
    assert archive.alarms() == []
    found = log.read(0, RECORDS + 1)
    assert [record.position for record in found] == list(kept)
    assert all(record.slices in ((_body(record.position),), (None,)) for record in found)


# Erasing and pruning what is sealed.


def erasing(data: Path) -> Iterator[None]:
    """From sealed files and from the newest, which is not."""
    with closing(_open_log(data)) as log:
        for slices in ERASED:
            log.erase(slices)
            yield


def check_erased(data: Path, promised: int) -> None:
    """What was promised to be gone is, nothing else is, and doing it again finishes it."""
    maybe = {address for slices in ERASED[: promised + 1] for address in slices}
    for count in (promised, len(ERASED)):
        gone = {address for slices in ERASED[:count] for address in slices}
        with closing(_open_log(data)) as log, closing(_open_archive(data)) as archive:
            _check_whole(log, archive, range(1, RECORDS + 1))
            for record in log.read(0, RECORDS):
                assert (record.position, 0) not in gone or record.slices == (None,)
                assert (record.position, 0) in maybe | gone or record.slices != (None,)
            for slices in ERASED:
                log.erase(slices)


def pruning(data: Path) -> Iterator[None]:
    """Whole sealed files, and parts of them."""
    with closing(_open_log(data)) as log:
        for before in PRUNED:
            log.prune(before)
            yield


def check_pruned(data: Path, promised: int) -> None:
    """What was promised to be gone is, all from there on is whole, and doing it again finishes it."""
    with closing(_open_log(data)) as log, closing(_open_archive(data)) as archive:
        first = log.read(0, 1)[0].position
        assert (1, *PRUNED)[promised] <= first <= (*PRUNED, PRUNED[-1])[promised]
        _check_whole(log, archive, range(first, RECORDS + 1))
        log.prune(PRUNED[-1])
        _check_whole(log, archive, range(PRUNED[-1], RECORDS + 1))


# State as a whole.


def _definitions() -> list[Draft]:
    where = {"kind": "did", "event": "Bought", "times": {"min": 2}}
    made = (
        Purpose(key="service", name="S", basis="legitimate_interest", id="prp_s"),
        Segment(key="buyers", name="B", purpose="service", id="seg_b", spec={"language": 1, "where": where}),
    )
    return [Draft(kind="definition", slices=(msgspec.json.encode(each),)) for each in made]


def _events(count: int) -> Draft:
    bodies = tuple(
        msgspec.json.encode({"type": "track", "event": "Bought", "userId": f"u{n % 9}", "messageId": f"m{n}"})
        for n in range(count)
    )
    return Draft(kind="request", source_id="src_a", slices=(msgspec.json.encode(Envelope(received_at=START)), *bodies))


def _derived(data: Path, name: str, position: int) -> str:
    """Make a State up to a position; its digest."""
    settings = Settings(data=data)
    keys, log, state = open_keys(settings), open_log(settings), open_spare_state(data / name)
    try:
        secret = required_secret(keys, INSTALLATION_SECRET)
        rebuild(log, state, position, secret, make_gate(keys), lambda event, fields: None)
        return digest(state)
    finally:
        state.close()
        log.close()


def _digest_of(path: Path) -> str:
    with closing(SqliteState(path)) as state:
        return digest(state)


def lost_state(data: Path) -> None:
    """An installation with events and without State."""
    settings = Settings(data=data)
    prepare(settings)
    log = open_log(settings)
    log.append([*_definitions(), _events(60)])
    log.close()
    for path in data.glob("state.sqlite*"):
        path.unlink()


def deriving(data: Path) -> Iterator[None]:
    """State is derived and put in place."""
    derived = derive_lost_state(Settings(data=data), lambda event, fields: None, lambda position, end: None)
    assert derived.position
    yield


def check_derived(data: Path, promised: int) -> None:
    """State stands behind a record that parks, or is still known to be lost; never is there a part of it, or one that would send."""
    settings = Settings(data=data)
    assert not (promised and is_state_lost(settings))
    if is_state_lost(settings):
        derive_lost_state(settings, lambda event, fields: None, lambda position, end: None)
    with closing(open_log(settings)) as log:
        assert log.verify() == []
        end = log.head().position
        assert log.read(end - 1, 1)[0].kind == "control"
    assert _digest_of(Folder(data).state) == _derived(data, "again.sqlite", end)


def two_states(data: Path) -> None:
    """An installation whose State is at the log's beginning, and beside it one that is at its end."""
    lost_state(data)
    _derived(data, "state.sqlite", 3)
    _derived(data, "other.sqlite", 1_000)


def exchanging(data: Path) -> Iterator[None]:
    """The one takes the other's content, as at an undo."""
    exchange_state(Settings(data=data), data / "other.sqlite")
    yield


def check_exchanged(data: Path, promised: int) -> None:
    """One of the two, whole; the new one if it was promised; and it can be done again."""
    old, new = (_derived(data, f"{position}.sqlite", position) for position in (3, 1_000))
    assert _digest_of(Folder(data).state) in ((new,) if promised else (old, new))
    exchange_state(Settings(data=data), data / "other.sqlite")
    assert _digest_of(Folder(data).state) == new
