"""The generated pages of docs/reference: ``python -m tools.reference`` writes them, a test compares them."""

from pathlib import Path
from typing import Final, Literal

from prometheus_client import CollectorRegistry

from conosco.model.outcome import OutcomeKind, Reason
from conosco.runtime.metrics import METRICS
from conosco.runtime.settings import VARIABLES
from conosco.web.hooks import HookMetrics
from conosco.web.tracking import TrackingMetrics

REFERENCE: Final = Path(__file__).parents[1] / "docs" / "reference"
OUTCOMES_PAGE: Final = REFERENCE / "outcomes.md"
METRICS_PAGE: Final = REFERENCE / "metrics.md"
SETTINGS_PAGE: Final = REFERENCE / "settings.md"

# What is refused never enters the log, so it has no outcome; it is counted under the same list of reasons.
Heading = OutcomeKind | Literal["refused"]

KINDS: Final[dict[Heading, str]] = {
    "applied": "The event is part of what Conosco knows.",
    "duplicate": "The same event was applied before; this copy changes nothing.",
    "quarantined": "The event is kept aside, bytes and all. Once the cause is mended it can be replayed.",
    "erased": "The event belonged to a person who was erased.",
    "refused": "Not an outcome: what was sent is no event. It is told to the sender, counted, and never written.",
}

# Reason -> (outcome, what it means, what to do).
MEANINGS: Final[dict[Reason, tuple[Heading, str, str]]] = {
    "applied": ("applied", "It was understood and applied.", "Nothing."),
    "applied_after_replay": ("applied", "It was quarantined first and applied when it was replayed.", "Nothing."),
    "same_message": (
        "duplicate",
        "An event with this message id from this source, and with the same content, came before.",
        "Nothing.",
    ),
    "no_usable_identifier": (
        "quarantined",
        "No identifier in it points to a person: all are missing, empty, or values such as `null` and `guest`.",
        "Send a `userId` or an `anonymousId`.",
    ),
    "unknown_type": (
        "quarantined",
        "Its `type` is none of track, identify, page, screen, group and alias.",
        "Correct `type`, or the path that was called.",
    ),
    "missing_field": (
        "quarantined",
        "A field that its type needs is missing, such as `event` of a track call.",
        "Send the field named in the parameters.",
    ),
    "wrong_field_type": (
        "quarantined",
        "A field has a value of the wrong kind, such as a list in `properties`.",
        "Correct the field named in the parameters.",
    ),
    "too_large": ("quarantined", "The event has more bytes than one event may have.", "Send less, or several events."),
    "too_deep": ("quarantined", "Objects and lists are nested deeper than allowed.", "Send flatter properties."),
    "too_many_keys": (
        "quarantined",
        "It has more keys than one event may have.",
        "Send fewer keys; use values, not keys, for what varies.",
    ),
    "unreadable_text": (
        "quarantined",
        "A text holds characters that are no characters, such as half of a surrogate pair.",
        "Mend the encoding at the sender.",
    ),
    "unreadable_time": ("quarantined", "A time is not an ISO 8601 date or time.", "Send times such as `2026-03-01T09:30:00Z`."),
    "conflicting_duplicate": (
        "quarantined",
        "An event with this message id from this source came before, with another content.",
        "Give each event its own message id.",
    ),
    "no_mapping_applies": (
        "quarantined",
        "It is the body of a webhook, and none of its source's mappings applies to it.",
        "Add a mapping, or widen the tests of one, and replay it: it is then mapped by what is there.",
    ),
    "mapping_finds_nothing": (
        "quarantined",
        "It is the body of a webhook; a mapping goes through a list that is not there, or has nothing in it.",
        "Correct the path named in the parameters, or test for it, and replay it.",
    ),
    "mapping_cannot_read": (
        "quarantined",
        "It is the body of a webhook; a value that a mapping converts cannot be read so, such as a word as a number.",
        "Change how the value at the path in the parameters is read, and replay it.",
    ),
    "mapping_wrong_type": (
        "quarantined",
        "It is the body of a webhook; a mapping finds a value of the wrong kind, such as a list where a text is needed.",
        "Correct the path named in the parameters, and replay it.",
    ),
    "mapping_too_large": (
        "quarantined",
        "It is the body of a webhook; what a mapping makes of it is larger than an event may be, or has too many elements.",
        "Take fewer fields, and replay it.",
    ),
    "processing_failed": (
        "quarantined",
        "Conosco failed to process it, three times. This is our fault, not the sender's.",
        "Report it, and replay it after the update.",
    ),
    "not_an_object": ("refused", "It is JSON, and no object.", "Send each event as a JSON object."),
    "import_undone": ("erased", "The import that brought it was undone.", "Nothing; import the file again if it was a mistake."),
    "erased_person": ("erased", "Its person was erased.", "Nothing; its content is gone."),
}


def outcomes_page() -> str:
    """The page on outcomes: every reason under its outcome."""
    parts = [
        "# Outcomes\n",
        "What became of an event. Every accepted event has exactly one current outcome, with a reason from this list; earlier ones are",
        "kept. Read them in the table `outcomes`. Once Conosco has caught up,",
        "`accepted = applied + duplicates + quarantined + erased`.\n",
        "This page is written by `make docs` from `tools/reference.py`.\n",
    ]
    for kind, text in KINDS.items():
        parts += [f"## {kind}\n", text + "\n", "| reason | meaning | what to do |", "|---|---|---|"]
        parts += [f"| `{reason}` | {meaning} | {todo} |" for reason, (of, meaning, todo) in MEANINGS.items() if of == kind]
        parts.append("")
    return "\n".join(parts)


def settings_page() -> str:
    """The page on settings: every variable of the environment that is read."""
    parts = [
        "# Settings\n",
        "`conosco serve` needs none of them. What is set in the environment holds for one start; nothing is read from files but",
        "what a first start made in the data folder. The folder, the address and the port are options of the command.\n",
        "This page is written by `make docs` from `conosco/runtime/settings.py`.\n",
        "| variable | default | what it says |",
        "|---|---|---|",
    ]
    parts += [f"| `{name}` | {default} | {meaning} |" for name, (default, meaning) in VARIABLES.items()]
    return "\n".join([*parts, ""])


def metrics_page() -> str:
    """The page on metrics: what `/metrics` gives to Prometheus."""
    registry = CollectorRegistry()
    TrackingMetrics(registry)
    HookMetrics(registry)
    front = [
        (family.name + ("_total" if family.type == "counter" else ""), family.type, _labels(family.name), family.documentation)
        for family in registry.collect()
    ]
    told = [(name, metric.kind, metric.labels, metric.meaning) for name, metric in METRICS.items()]
    parts = [
        "# Metrics\n",
        "`GET /metrics` speaks for all roles: each reports once a second, and the front answers. It is open to programs on the same",
        "machine; through a proxy it needs the administrator's token. `deploy/prometheus-rules.yml` holds alerts. Labels name sources,",
        "destinations, stages and reasons, never people.\n",
        "This page is written by `make docs`.\n",
        "| metric | kind | labels | meaning |",
        "|---|---|---|---|",
    ]
    for name, kind, labels, meaning in told + front:
        parts.append(f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {meaning} |")
    return "\n".join([*parts, ""])


def _labels(name: str) -> tuple[str, ...]:
    registry = CollectorRegistry()
    kept = [*vars(TrackingMetrics(registry)).values(), *vars(HookMetrics(registry)).values()]
    return next((tuple(each._labelnames) for each in kept if getattr(each, "_name", "") == name), ())


PAGES: Final = {OUTCOMES_PAGE: outcomes_page, SETTINGS_PAGE: settings_page, METRICS_PAGE: metrics_page}

if __name__ == "__main__":
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for path, page in PAGES.items():
        path.write_text(page())
