"""The gate is closed by default, and nobody but the gate can make a permit that passes."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conosco.govern.gate import BUILT_IN_BASES, Gate, NotAllowed
from conosco.model.definition import Basis

SECRET = b"installation secret of 32 bytes."
BASES: tuple[Basis, ...] = ("consent", "contract", "legitimate_interest", "legal_obligation")


def test_operations_is_allowed() -> None:
    verdict = Gate(SECRET).ask("operations", BUILT_IN_BASES["operations"])
    assert verdict.allowed
    assert verdict.purpose == "operations"


@given(purpose=st.text(), basis=st.sampled_from(BASES))
def test_every_other_purpose_is_denied_because_consent_is_unknown(purpose: str, basis: Basis) -> None:
    verdict = Gate(SECRET).ask(purpose, basis)
    if (purpose, basis) != ("operations", "legitimate_interest"):
        assert not verdict.allowed
        assert verdict.reason == "consent_unknown"


def test_an_operations_purpose_that_rests_on_consent_is_denied() -> None:
    assert not Gate(SECRET).ask("operations", "consent").allowed


def test_a_denying_verdict_gives_no_permit() -> None:
    gate = Gate(SECRET)
    with pytest.raises(NotAllowed, match="consent_unknown"):
        gate.permit("dlv_1", gate.ask("marketing", "consent"))


def test_a_permit_passes_wherever_the_secret_is_the_same() -> None:
    gate = Gate(SECRET)
    permit = gate.permit("dlv_1", gate.ask("operations", "legitimate_interest"))
    assert gate.check(permit)
    assert Gate(SECRET).check(permit)
    assert not Gate(b"another secret").check(permit)
    assert permit == Gate(SECRET).permit("dlv_1", gate.ask("operations", "legitimate_interest"))


@pytest.mark.parametrize(
    "change", [{"delivery_id": "dlv_2"}, {"purpose": "marketing"}, {"consent_position": 1}, {"mac": bytes(32)}, {"mac": b""}]
)
def test_a_changed_permit_does_not_pass(change: dict[str, object]) -> None:
    gate = Gate(SECRET)
    permit = gate.permit("dlv_1", gate.ask("operations", "legitimate_interest"))
    assert not gate.check(msgspec.structs.replace(permit, **change))


def test_text_cannot_move_from_one_field_to_the_next() -> None:
    gate = Gate(SECRET)
    permit = gate.permit("dlv_1", gate.ask("operations", "legitimate_interest"))
    assert not gate.check(msgspec.structs.replace(permit, delivery_id="dlv_1o", purpose="perations"))
