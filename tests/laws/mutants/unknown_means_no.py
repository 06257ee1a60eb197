"""Broken variants of the gate and of who asks it, for law 8."""

from conosco.activate.outbox import put_intent
from conosco.govern.gate import Gate
from tests.laws.mutants.planting import Mutant

MUTANTS = (
    Mutant("unknown means yes", Gate.ask, "allowed=False", "allowed=True"),
    Mutant("every purpose is a legitimate interest", Gate.ask, "purpose == OPERATIONS and", "purpose and"),
    Mutant("what was denied is due", put_intent, "if intent.permit is not None:", "if True:"),
    Mutant("permits are not checked", Gate.check, "hmac.compare_digest(expected, permit.mac)", "bool(permit.mac)"),
    Mutant("the purpose is not sealed", Gate._mac, "(delivery_id.encode(), purpose.encode(),", "(delivery_id.encode(), b'',"),
    Mutant("the delivery is not sealed", Gate._mac, "(delivery_id.encode(), purpose.encode(),", "(b'', purpose.encode(),"),
    Mutant("the consent is not sealed", Gate._mac, "str(consent_position).encode()", "b''"),
)
