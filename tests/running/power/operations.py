"""What the power may fail in: the operations that write to an installation's folder. To add one, write it and list it below.

An operation acts in numbered steps, in a process of its own. A step that has returned was promised to somebody, so after a cut
nothing of it may be missing; the step that the cut fell into may have happened or not, as a whole.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from conosco.engines.sqlite import log as log_engine
from conosco.engines.sqlite.control import SqliteControl
from conosco.engines.sqlite.keys import FileKeys
from conosco.engines.sqlite.leases import SqliteLeases
from conosco.engines.sqlite.log import SqliteLog
from conosco.engines.sqlite.state import SqliteState
from conosco.govern.gate import Gate
from conosco.model.definition import Identity, Purpose, Segment, Source
from conosco.model.record import Draft, Envelope, Record
from conosco.ports.leases import Take
from conosco.runtime.bootstrap import INSTALLATION_SECRET, open_control, open_keys, open_log, prepare
from conosco.runtime.digest import digest
from conosco.runtime.replay import rebuild
from conosco.runtime.settings import Settings
from conosco.runtime.worker import Worker
from tests.running.power import operations_care as care
from tests.running.power import operations_folder as folders

START = 1_790_000_000_000_000
SECRET = b"s" * 32
SMALL_FILE = 40_000
Steps = Iterator[None]


class Operation(NamedTuple):
    """``before`` makes what is there already (synced), ``act`` yields after each step that was promised, ``check`` is given the
    folder after the cut and the number of promised steps and raises AssertionError; it may finish what was begun.
    """

    name: str
    act: Callable[[Path], Steps]
    check: Callable[[Path, int], None]
    before: Callable[[Path], None] = lambda data: data.mkdir()


def _clock() -> int:
    return START


def _open(data: Path, segment_bytes: int = 1 << 30) -> SqliteLog:
    return SqliteLog(data / "log", _clock, segment_bytes=segment_bytes)


def _bodies(step: int, size: int) -> list[bytes]:
    return [f"{step}-{index} ".encode() * size for index in range(1 + step % 3)]


def _append(log: SqliteLog, step: int, size: int) -> None:
    log.append([Draft(kind="request", source_id="src_a", slices=(body,)) for body in _bodies(step, size)])


def _appending(segment_bytes: int, size: int, steps: int) -> Callable[[Path], Steps]:
    def act(data: Path) -> Steps:
        log_engine.NOTE_SECONDS = 0.0  # type: ignore[misc]  # the note is written every few seconds: here, every time
        log = _open(data, segment_bytes)
        for step in range(steps):
            _append(log, step, size)
            yield
        log.close()

    return act


def _read_all(log: SqliteLog) -> list[Record]:
    return log.read(0, 1_000_000, 1 << 40)


def _check_log(segment_bytes: int, size: int) -> Callable[[Path, int], None]:
    def check(data: Path, promised: int) -> None:
        log = _open(data, segment_bytes)
        try:
            assert log.verify() == []
            found = [record.slices[0] for record in _read_all(log)]
            expected: list[bytes] = []
            for step in range(promised):
                expected += _bodies(step, size)
            assert found in (expected, expected + _bodies(promised, size)), (promised, len(found))
            made = log.append([Draft(kind="tick")])
            assert made[0].position == len(found) + 1
            assert log.verify() == []
        finally:
            log.close()

    return check


# A worker that applies what was appended, and folds State's write-ahead log as it goes.


def _definitions() -> list[Draft]:
    where = {"kind": "did", "event": "Bought", "times": {"min": 2}}
    made = (
        Identity(id="idr_a"),
        Purpose(key="operations", name="O", basis="legitimate_interest", id="prp_a"),
        Source(key="a", name="A", type="server", region="eu", id="src_a"),
        Segment(key="buyers", name="B", purpose="operations", id="seg_a", spec={"language": 1, "where": where}),
    )
    return [Draft(kind="definition", slices=(msgspec.json.encode(each),)) for each in made]


def _events(step: int) -> Draft:
    envelope = msgspec.json.encode(Envelope(received_at=START))
    bodies = tuple(
        msgspec.json.encode({"type": "track", "event": "Bought", "userId": f"u{(step + n) % 5}", "messageId": f"m{step}-{n}"})
        for n in range(4)
    )
    return Draft(kind="request", source_id="src_a", slices=(envelope, *bodies))


def _worker(log: SqliteLog, state: SqliteState) -> Worker:
    return Worker(log, state, SECRET, Gate(SECRET), _clock, lambda event, fields: None)


def _applying(data: Path) -> Steps:
    log, state = _open(data), SqliteState(data / "state.sqlite")
    log.append(_definitions())
    worker = _worker(log, state)
    for step in range(12):
        while worker.step():
            pass
        if step % 3 == 2:
            state.checkpoint(empty=step % 2 == 0)
        yield
        log.append([_events(step)])
    state.close()
    log.close()


def _check_applied(data: Path, promised: int) -> None:
    log, state, again = _open(data), SqliteState(data / "state.sqlite"), SqliteState(data / "again.sqlite")
    try:
        assert log.verify() == []
        position, head = state.offset()[0], log.head().position
        # The first step promises the four definitions, each later one a request more.
        assert position >= (promised + 3 if promised else 0), (promised, position)
        assert position <= head, "State has applied what the log does not hold"
        # A definition is applied in several transactions, the offset in the last: between them no rebuild stops.
        if not any(record.kind == "definition" for record in log.read(position, 1)):
            rebuild(log, again, position, SECRET, Gate(SECRET), lambda event, fields: None)
            assert digest(state) == digest(again), "State is not at the end of a micro-batch"
        for each in (state, again):
            worker = _worker(log, each)
            while worker.step():
                pass
        assert state.offset()[0] == head
        assert digest(state) == digest(again)
    finally:
        for door in (again, state, log):
            door.close()


# Leases and the stop list.


def _leasing(data: Path) -> Steps:
    leases = SqliteLeases(data / "leases.sqlite", secret=SECRET)
    for step in range(10):
        if step % 3 == 0:
            leases.stop([("email", f"{step}@example.com")], None, step)
        elif step % 3 == 1:
            assert leases.lease([Take(f"dlv_{step}")], START, 0) == [True]
        else:
            leases.release([f"dlv_{step - 1}"])
        yield
    leases.close()


def _check_leases(data: Path, promised: int) -> None:
    leases = SqliteLeases(data / "leases.sqlite", secret=SECRET)
    try:
        for step in range(0, promised, 3):
            assert leases.stopped([("email", f"{step}@example.com")], None), step
        for step in range(1, promised, 3):
            released = step + 1 <= promised
            if not released:
                assert leases.lease([Take(f"dlv_{step}")], START, 0) == [False], step
            elif step + 1 < promised:
                assert f"dlv_{step}" not in {each.delivery_id for each in leases.expired(START + 1)}, step
    finally:
        leases.close()


# Control and Keys: small values by name, changed one at a time.


def _values(steps: int) -> dict[str, bytes]:
    """What a store holds after so many steps: each sets a name, every third forgets the one before."""
    held: dict[str, bytes] = {}
    for step in range(steps):
        if step % 3 == 2:
            held.pop(f"name{(step - 1) % 4}", None)
        else:
            held[f"name{step % 4}"] = f"value{step}".encode()
    return held


def _controlling(data: Path) -> Steps:
    control = SqliteControl(data / "control.sqlite")
    for step in range(10):
        if step % 3 == 2:
            control.take("job", f"name{(step - 1) % 4}", 0)
        else:
            control.put("job", f"name{step % 4}", f"value{step}".encode())
        yield
    control.close()


def _check_control(data: Path, promised: int) -> None:
    control = SqliteControl(data / "control.sqlite")
    try:
        assert dict(control.list("job", 0)) in (_values(promised), _values(promised + 1)), promised
    finally:
        control.close()


def _keeping_keys(data: Path) -> Steps:
    keys = FileKeys(data / "keys")
    for step in range(10):
        if step % 3 == 2:
            keys.destroy(f"name{(step - 1) % 4}")
        else:
            keys.put(f"name{step % 4}", f"value{step}".encode())
        yield


def _check_keys(data: Path, promised: int) -> None:
    keys = FileKeys(data / "keys")
    names = [f"name{number}" for number in range(4)]
    found = {name: value for name in names if (value := keys.secret(name)) is not None}
    assert found in (_values(promised), _values(promised + 1)), promised


# Pruning and erasing in the log.


def _filled_log(data: Path) -> None:
    data.mkdir()
    log = _open(data, SMALL_FILE)
    for step in range(24):
        _append(log, step, 1_000)
    log.close()


def _pruning(data: Path) -> Steps:
    log = _open(data, SMALL_FILE)
    for before in (10, 25, 40):
        log.prune(before)
        yield
    log.close()


def _check_pruned(data: Path, promised: int) -> None:
    log = _open(data, SMALL_FILE)
    try:
        kept = [record.position for record in _read_all(log)]
        last = sum(1 + step % 3 for step in range(24))
        assert kept == list(range(kept[0], last + 1))
        assert kept[0] >= (1, 10, 25, 40)[promised]
        assert log.verify(kept[0]) == []
    finally:
        log.close()


ERASED = [[(1, 0), (2, 0)], [(20, 0)], [(40, 0), (41, 0)]]


def _erasing(data: Path) -> Steps:
    log = _open(data, SMALL_FILE)
    for slices in ERASED:
        log.erase(slices)
        yield
    log.close()


def _check_erased(data: Path, promised: int) -> None:
    gone = {address for slices in ERASED[:promised] for address in slices}
    maybe = gone | {address for slices in ERASED[: promised + 1] for address in slices}
    log = _open(data, SMALL_FILE)
    try:
        assert log.verify() == []
        for record in _read_all(log):
            if (record.position, 0) in gone:
                assert record.slices == (None,)
            elif (record.position, 0) not in maybe:
                assert record.slices[0] is not None
    finally:
        log.close()


# The first start of an installation.


def _preparing(data: Path) -> Steps:
    settings = Settings(data=data)
    for _ in range(2):
        prepare(settings)
        secret = open_keys(settings).secret(INSTALLATION_SECRET) or b""
        (data.parent / "secret").write_bytes(secret)
        yield


def _check_prepared(data: Path, promised: int) -> None:
    settings = Settings(data=data)
    found = open_keys(settings).secret(INSTALLATION_SECRET) if promised else None
    prepare(settings)
    secret = open_keys(settings).secret(INSTALLATION_SECRET)
    assert secret is not None
    assert not promised or secret == found, "an installation that was promised has other secrets now"
    log = open_log(settings)
    try:
        assert log.verify() == []
        defined = [record.slices[0] or b"" for record in log.read(0, 100) if record.kind == "definition"]
        assert sum(b'"operations"' in body for body in defined) == 1
        assert sum(b'"default"' in body for body in defined) == 1
    finally:
        log.close()
    open_control(settings).close()


OPERATIONS: tuple[Operation, ...] = (
    Operation("append", _appending(1 << 30, 3, 12), _check_log(1 << 30, 3)),
    Operation("roll", _appending(SMALL_FILE, 1_000, 24), _check_log(SMALL_FILE, 1_000)),
    Operation("apply", _applying, _check_applied),
    Operation("lease", _leasing, _check_leases),
    Operation("control", _controlling, _check_control),
    Operation("keys", _keeping_keys, _check_keys),
    Operation("prune", _pruning, _check_pruned, _filled_log),
    Operation("erase in the log", _erasing, _check_erased, _filled_log),
    Operation("seal", care.sealing, care.check_sealed, care.finished_log),
    Operation("erase in sealed files", care.erasing, care.check_erased, care.sealed_log),
    Operation("prune sealed files", care.pruning, care.check_pruned, care.sealed_log),
    Operation("exchange State", care.exchanging, care.check_exchanged, care.two_states),
    Operation("derive State", care.deriving, care.check_derived, care.lost_state),
    Operation("first start", _preparing, _check_prepared, before=lambda data: None),
    Operation("back up", folders.backing, folders.check_backups, folders.small_folder),
    Operation("restore", folders.restoring, folders.check_restored, folders.backed_up_folder),
    Operation("migrate", folders.migrating, folders.check_migrated, folders.previous_folder),
)
