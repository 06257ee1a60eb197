"""Outcomes: what became of an event. Each event has exactly one current Outcome, with a reason from one closed list."""

from typing import Final, Literal, get_args

import msgspec

OutcomeKind = Literal["applied", "duplicate", "quarantined", "erased"]

Reason = Literal[
    # applied
    "applied",
    "applied_after_replay",
    # duplicate
    "same_message",
    # quarantined: what the sender can mend
    "no_usable_identifier",
    "unknown_type",
    "missing_field",
    "wrong_field_type",
    "too_large",
    "too_deep",
    "too_many_keys",
    "unreadable_text",
    "unreadable_time",
    "conflicting_duplicate",
    # quarantined: what the mappings of a webhook source can mend
    "no_mapping_applies",
    "mapping_finds_nothing",
    "mapping_cannot_read",
    "mapping_wrong_type",
    "mapping_too_large",
    # quarantined: what we must mend
    "processing_failed",
    # refused before the log: counted, never written
    "not_an_object",
    # erased
    "erased_person",
    "import_undone",
]
REASONS: Final[tuple[str, ...]] = get_args(Reason)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the event at (position, slot)."""

    position: int
    slot: int
    message_id: str
    source_id: str
    outcome: OutcomeKind
    reason: Reason
    params: dict[str, str | int] = {}
    decided_at: int
    attempts: int = 1
