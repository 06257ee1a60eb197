"""Power fails at any moment of any operation: nothing that was promised is lost, and everything opens again.

A killed process proves nothing of this, for the kernel still holds what it wrote. Here only what was synced is certain.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.running.power.disk import Unplayable, read_trace
from tests.running.power.operations import OPERATIONS, Operation
from tests.running.power.recording import Recorded, compile_shim
from tests.running.power.weakening import VARIANTS

# Of each operation: two of every way of losing.
CUTS = 14
CUTS_WEAK = 40
CUTS_DEEP = 300
KILLS = 2
# Of each weakened variant, the operation that it breaks.
WEAK = {
    "synchronous off": "append",
    "synchronous normal": "append",
    "folders are not synced": "roll",
    "renamed without a sync": "keys",
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The library that records."""
    made = compile_shim(tmp_path_factory.mktemp("shim"))
    if made is None:
        pytest.skip("recording needs Linux and a C compiler")
    yield made


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, library: Path) -> Callable[[Operation], Recorded]:
    """Each operation, recorded once."""
    known: dict[str, Recorded] = {}

    def record(operation: Operation) -> Recorded:
        if operation.name not in known:
            known[operation.name] = Recorded(operation, tmp_path_factory.mktemp("recorded") / "one", library)
            assert known[operation.name].ended.returncode == 0, known[operation.name].ended.stderr
            assert (known[operation.name].root / "marks").read_bytes(), "no step was promised"
        return known[operation.name]

    return record


def _named(operation: Operation) -> str:
    return operation.name


def _survives(recorded: Recorded, cuts: int, seed: int) -> None:
    failures = recorded.cut(cuts, seed)
    if failures:
        raise AssertionError(f"{len(failures)} of {cuts} cuts lost something, the first: {failures[0]}") from failures[0][1]


@pytest.mark.parametrize("operation", OPERATIONS, ids=_named)
def test_a_power_cut_loses_nothing_that_was_promised(operation: Operation, recorded: Callable[[Operation], Recorded]) -> None:
    _survives(recorded(operation), CUTS, seed=1)


@pytest.mark.deep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("operation", OPERATIONS, ids=_named)
def test_many_power_cuts_lose_nothing(operation: Operation, recorded: Callable[[Operation], Recorded]) -> None:
    _survives(recorded(operation), CUTS_DEEP, seed=2)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_weaker_storage_is_found_out(variant: str, tmp_path: Path, library: Path) -> None:
    operation = next(each for each in OPERATIONS if each.name == WEAK[variant])
    weak = Recorded(operation, tmp_path, library, variant)
    assert weak.ended.returncode == 0, weak.ended.stderr
    assert weak.cut(CUTS_WEAK, seed=1)


@pytest.mark.parametrize("operation", OPERATIONS, ids=_named)
def test_a_kill_at_a_call_loses_nothing(
    operation: Operation, recorded: Callable[[Operation], Recorded], tmp_path: Path, library: Path
) -> None:
    # Opening is recorded and not counted.
    calls = sum(call.kind != "O" for call in recorded(operation).calls)
    for number in range(1, KILLS + 1):
        killed = Recorded(operation, tmp_path / str(number), library, kill_at=max(1, number * calls // (KILLS + 1)))
        assert killed.ended.returncode == -9
        marks = killed.root / "marks"
        operation.check(killed.root / "data", marks.read_bytes().count(b"\n") if marks.exists() else 0)


def test_a_call_that_cannot_be_played_is_not_overlooked(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_bytes(b"X" + bytes(4) + bytes(8) + (8).to_bytes(8, "little") + bytes(8) + b"sendfile")
    with pytest.raises(Unplayable, match="sendfile"):
        read_trace(trace)
