"""Law 8: unknown consent means no. Nothing is due for which the gate did not say yes, and a yes cannot be forged."""

import json
from random import Random
from typing import Any, get_args

import msgspec
import pytest

from conosco.govern.gate import Gate
from conosco.model.definition import Basis, read_definition
from conosco.ports.tables import DEFINITIONS, OUTBOX_DUE
from tests.laws.harness import GATE_SECRET, Installation
from tests.laws.histories import START, make_history, segment
from tests.laws.mutants.planting import survivors
from tests.laws.mutants.unknown_means_no import MUTANTS

SEEDS = range(3)


def check(seed: int) -> None:
    installation = Installation()
    gate = Gate(GATE_SECRET)
    asked = [(purpose, basis) for purpose in ("operations", "marketing", "research", "") for basis in get_args(Basis)]
    assert [pair for pair in asked if gate.ask(*pair).allowed] == [("operations", "legitimate_interest")]
    for act in make_history(seed):
        installation.perform(act)
        installation.settle()
        check_due(installation, gate)
    outbox = installation.outbox()
    states = {(intent.destination, row.state, row.code) for row, intent in outbox.values()}
    # Both kinds are met: what is allowed waits to be sent, what needs consent is kept as denied, with the reason.
    assert states == {("hook", "pending", ""), ("ads", "denied", "consent_unknown")}
    check_forgeries(installation, gate, Random(seed))


def check_due(installation: Installation, gate: Gate) -> None:
    """All that is due was permitted, and all that was permitted and waits is due."""
    outbox = installation.outbox()
    due = {key[2] for key, _ in installation.rows(OUTBOX_DUE)}
    assert due == {delivery_id for delivery_id, (row, _) in outbox.items() if row.state == "pending"}
    for delivery_id, (row, intent) in outbox.items():
        if row.state == "denied":
            assert intent.permit is None
            continue
        assert intent.permit is not None
        assert intent.permit.delivery_id == delivery_id
        assert intent.permit.purpose == "operations"
        assert gate.check(intent.permit)


def check_forgeries(installation: Installation, gate: Gate, random: Random) -> None:
    """A permit that was changed in any way, or made with another secret, is refused."""
    permitted = [intent.permit for _, intent in installation.outbox().values() if intent.permit is not None]
    permit, other = random.sample(permitted, 2)
    at = random.randrange(len(permit.mac))
    forgeries: list[dict[str, Any]] = [
        {"delivery_id": other.delivery_id},
        {"purpose": "marketing"},
        {"consent_position": permit.consent_position + 1},
        {"mac": permit.mac[:at] + bytes([permit.mac[at] ^ 1]) + permit.mac[at + 1 :]},
        {"mac": permit.mac[:-1]},
        {"mac": b""},
        {"mac": other.mac},
    ]
    for change in forgeries:
        assert not gate.check(msgspec.structs.replace(permit, **change)), change
    assert not Gate(b"another secret, as long as needed").check(permit)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_due_that_was_not_permitted(seed: int) -> None:
    check(seed)


def test_a_segment_needs_a_purpose() -> None:
    whole = segment("somebody", {"language": 1, "where": {"kind": "all", "of": []}})
    assert read_definition(json.dumps(whole).encode()).key == "somebody"
    without = {name: value for name, value in whole.items() if name != "purpose"}
    with pytest.raises(msgspec.ValidationError, match="purpose"):
        read_definition(json.dumps(without).encode())
    # One that came into the log all the same is passed over, and the worker goes on.
    installation = Installation()
    installation.define({"kind": "purpose", "key": "operations", "name": "o", "basis": "legitimate_interest", "id": "prp_1"})
    installation.define(without)
    installation.define(segment("somebody_else", whole["spec"]))
    installation.now = START
    installation.settle()
    assert [key for key, _ in installation.rows(DEFINITIONS)] == [("purpose", "operations"), ("segment", "somebody_else")]
    assert [fields["position"] for event, fields in installation.notes if event == "definition_refused"] == [2]


def test_faults_are_seen() -> None:
    assert survivors(MUTANTS, check, SEEDS) == []
