"""The gate: whether personal data may be used for a purpose, and the permits that prove it was asked. Closed by default."""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from conosco.model.definition import Basis
from conosco.model.delivery import Permit, Verdict

OPERATIONS: Final = "operations"
# The purposes that exist from the start.
BUILT_IN_BASES: Final[Mapping[str, Basis]] = {OPERATIONS: "legitimate_interest", "marketing": "consent"}


class NotAllowed(Exception):
    """A permit was asked for with a verdict that denies."""


class Gate:
    """Answers for every use of personal data, and signs its yes so that the sender can tell it from a forged one."""

    def __init__(self, secret: bytes) -> None:
        """``secret`` is the installation secret; the key of permits is derived from it and used for nothing else."""
        self._key: Final = hmac.digest(secret, b"conosco permit", hashlib.sha256)

    def ask(self, purpose: str, basis: Basis) -> Verdict:
        """Whether data may be used for this purpose, which rests on this legal basis.

        No consent is recorded yet, so only ``operations`` on legitimate interest is allowed; unknown means no.
        """
        if purpose == OPERATIONS and basis == "legitimate_interest":
            return Verdict(allowed=True, reason="legitimate_interest", purpose=purpose)
        return Verdict(allowed=False, reason="consent_unknown", purpose=purpose)

    def permit(self, delivery_id: str, verdict: Verdict) -> Permit:
        """Sign an allowing verdict for one delivery. The same delivery and verdict give the same permit.

        Raises NotAllowed for a verdict that denies.
        """
        if not verdict.allowed:
            raise NotAllowed(verdict.reason)
        mac = self._mac(delivery_id, verdict.purpose, verdict.consent_position)
        return Permit(delivery_id=delivery_id, purpose=verdict.purpose, consent_position=verdict.consent_position, mac=mac)

    def check(self, permit: Permit) -> bool:
        """True if this gate, or one with the same secret, made exactly this permit."""
        expected = self._mac(permit.delivery_id, permit.purpose, permit.consent_position)
        return hmac.compare_digest(expected, permit.mac)

    def _mac(self, delivery_id: str, purpose: str, consent_position: int) -> bytes:
        # Lengths frame the parts, so that no two different permits are signed as the same bytes.
        parts = (delivery_id.encode(), purpose.encode(), str(consent_position).encode())
        framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self._key, framed, hashlib.sha256)
