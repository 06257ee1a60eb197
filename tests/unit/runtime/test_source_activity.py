"""What each source has brought: the same whatever the size of the micro-batches."""

from conosco.engines.memory.state import MemoryState
from conosco.ports.tables import META
from conosco.ports.work import Work
from conosco.runtime.source_activity import SourceActivity, activity_key, read_activity


def test_counts_add_up_over_batches() -> None:
    told = []
    for sizes in ((3,), (1, 2), (1, 1, 1)):
        work = Work(MemoryState())
        notes = [("src_1", 10, ["applied", "duplicate"]), ("src_2", 11, ["quarantined"]), ("src_1", 12, ["applied"])]
        for size in sizes:
            activity = SourceActivity()
            for source_id, logged_at, kinds in notes[:size]:
                activity.note(source_id, logged_at, kinds)  # type: ignore[arg-type]  # the kinds are outcomes
            del notes[:size]
            activity.write(work)
        later = SourceActivity()
        later.move("src_2", "quarantined", "applied")
        later.write(work)
        told.append([work.get(META, (activity_key(source),)).value for source in ("src_1", "src_2")])
    assert told[0] == told[1] == told[2]
    first, last, counts = read_activity(told[0][0])
    assert (first, last, counts) == (10, 12, {"applied": 2, "duplicate": 1, "quarantined": 0, "erased": 0})
    assert read_activity(told[0][1]) == (11, 11, {"applied": 1, "duplicate": 0, "quarantined": 0, "erased": 0})


def test_a_source_that_brought_nothing() -> None:
    assert read_activity(None) == (None, None, {"applied": 0, "duplicate": 0, "quarantined": 0, "erased": 0})
