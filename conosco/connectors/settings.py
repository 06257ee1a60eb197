"""What the settings of all destinations share: how they are read, and how deliveries are put together into batches."""

from typing import Annotated, Any, TypeVar

import msgspec

from conosco.model.delivery import BatchLimits
from conosco.model.problem import refuse

Made = TypeVar("Made")


class BatchSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At most so many deliveries and bytes go out together, and none waits longer than ``wait_ms`` for others."""

    events: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1_000
    bytes: Annotated[int, msgspec.Meta(ge=1_000, le=16_000_000)] = 1_000_000
    wait_ms: Annotated[int, msgspec.Meta(ge=0, le=600_000)] = 1_000

    def limits(self) -> BatchLimits:
        """As the sender takes them."""
        return BatchLimits(events=self.events, bytes=self.bytes, wait_us=self.wait_ms * 1_000)


def convert_settings(spec: dict[str, Any], made: type[Made], about: str) -> Made:
    """Check a spec against a settings type. Raises Refused: ``spec_invalid`` with the field's pointer and a sentence.

    What the settings break as a whole is told without a path; it is about the field ``about``.
    """
    try:
        return msgspec.convert(spec, made)
    except msgspec.ValidationError as error:
        sentence, _, path = str(error).partition(" - at `$")
        pointer = path.rstrip("`").replace("[", ".").replace("]", "").replace(".", "/")
        is_whole = not pointer and isinstance(error.__cause__, ValueError)
        raise refuse("spec_invalid", pointer="/spec" + (f"/{about}" if is_whole else pointer), reason=sentence) from None
