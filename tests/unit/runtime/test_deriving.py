"""State that was lost is noticed, and what is derived in its place sends nothing that was decided before."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from conosco.model.definition import Destination, Segment
from conosco.model.problem import Refused
from conosco.model.record import Draft, Envelope
from conosco.ports.tables import OUTBOX_DUE
from conosco.runtime import deriving
from conosco.runtime.bootstrap import Folder, clock, open_log, open_spare_state, open_state, prepare
from conosco.runtime.deriving import derive_lost_state, is_state_lost, require_state
from conosco.runtime.rebuilding import Rebuilding
from conosco.runtime.settings import Settings

PEOPLE = 5


def silent(*_: object) -> None:
    """Nobody listens."""


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """An installation that has decided deliveries, and whose worker has applied nothing."""
    made = Settings(data=tmp_path / "data")
    prepare(made)
    assert not is_state_lost(made)
    where = {"kind": "did", "event": "Bought"}
    definitions = (
        Segment(key="buyers", name="B", purpose="operations", id="seg_b", spec={"language": 1, "where": where}),
        Destination(
            key="crm",
            name="C",
            purposes=("operations",),
            region="eu",
            type="webhook",
            id="dst_c",
            spec={"url": "http://127.0.0.1:1/", "allow_private": True, "events": ["segment.entered"], "segments": "all"},
        ),
    )
    bodies = [
        msgspec.json.encode({"type": "track", "event": "Bought", "userId": f"u{n}", "messageId": f"m{n}"}) for n in range(PEOPLE)
    ]
    with closing(open_log(made)) as log:
        source = next(record for record in log.read(0, 10) if b'"source"' in (record.slices[0] or b""))
        source_id = msgspec.json.decode(source.slices[0] or b"")["id"]
        log.append([Draft(kind="definition", slices=(msgspec.json.encode(each),)) for each in definitions])
        log.append(
            [Draft(kind="request", source_id=source_id, slices=(msgspec.json.encode(Envelope(received_at=clock())), *bodies))]
        )
    yield made


def due(settings: Settings) -> int:
    with closing(open_state(settings)) as state:
        return len(state.scan(OUTBOX_DUE))


def test_a_lost_state_is_noticed_and_derived_without_anything_to_send(settings: Settings) -> None:
    for path in settings.data.glob("state.sqlite*"):
        path.unlink()
    assert is_state_lost(settings)
    with pytest.raises(Refused) as raised:
        require_state(settings)
    assert raised.value.problems[0].code == "state_lost"
    told: list[tuple[int, int]] = []
    derived = derive_lost_state(settings, silent, lambda position, end: told.append((position, end)))
    assert derived.parked == PEOPLE
    assert told[-1] == (derived.position, derived.position)
    assert due(settings) == 0
    require_state(settings)
    assert not [path for path in settings.data.iterdir() if path.name.startswith("state-")]


def test_one_that_was_cut_short_begins_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(deriving, "exchange_state", fail)
        derive_lost_state(settings, silent, silent)
    assert is_state_lost(settings)
    assert derive_lost_state(settings, silent, silent).parked == PEOPLE


def test_where_requests_are_destroyed_it_is_not_derived_unasked(settings: Settings) -> None:
    pruned = msgspec.structs.replace(settings, keep_raw_days=30)
    before = Folder(settings.data).state.read_bytes()
    with pytest.raises(Refused) as raised:
        derive_lost_state(pruned, silent, silent)
    assert raised.value.problems[0].code == "state_lost_and_pruned"
    assert Folder(settings.data).state.read_bytes() == before


def test_a_swapped_state_has_nothing_to_send_before_a_sender_sees_it(settings: Settings) -> None:
    derive_lost_state(settings, silent, silent)
    with closing(open_log(settings)) as log:
        more = msgspec.json.encode({"type": "track", "event": "Bought", "userId": "late", "messageId": "late"})
        request = next(record for record in log.read(0, 20) if record.kind == "request")
        log.append(
            [
                Draft(
                    kind="request", source_id=request.source_id, slices=(msgspec.json.encode(Envelope(received_at=clock())), more)
                )
            ]
        )
    rebuilding = Rebuilding(settings, silent)
    try:
        live, rebuilt = rebuilding.run(silent)
        assert live == rebuilt
        assert rebuilding.take_over()
    finally:
        rebuilding.close()
    assert due(settings) == 0
    with closing(open_log(settings)) as log, closing(open_spare_state(Folder(settings.data).state)) as state:
        assert state.offset()[0] == log.head().position
