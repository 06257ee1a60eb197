"""The previewer's process: reads a file as an import would, writes nothing, and tells what it found, one JSON line at a time."""

import sys
from pathlib import Path
from time import monotonic
from typing import Final

import msgspec

from conosco.collect.envelope import spell_envelope
from conosco.collect.files.limits import SHOWN_ROWS
from conosco.collect.files.messages import Converted, Described, Finished, Task
from conosco.collect.files.suggesting import suggest
from conosco.collect.understand import understand
from conosco.model.definition import Source
from conosco.model.event import Event, read_json
from conosco.model.importing import Description, FilePreview, PreviewAsked
from conosco.model.problem import Refused
from conosco.model.record import IMPORTED, Envelope, Record
from conosco.ports.state import State
from conosco.runtime.bootstrap import clock, open_state
from conosco.runtime.configuration import load
from conosco.runtime.imports.identity import IdentityForecast
from conosco.runtime.imports.reading import Reader
from conosco.runtime.process import settings_of_role, watch_supervisor
from conosco.runtime.settings import Settings

TELL_EVERY_S: Final = 0.3
_EXACT: Final = msgspec.json.Encoder(decimal_format="number")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the front asks: the file, and the question as it was asked."""

    path: str
    file_name: str
    asked: PreviewAsked


def run_previewer(settings: Settings) -> None:
    """Answer one question from standard input on standard output."""
    watch_supervisor(settings.supervisor, lambda: sys.exit(1))
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=Wanted)
    state = open_state(settings)
    try:
        _tell(Previewing(wanted, state).run())
    except Refused as refused:
        _tell(FilePreview(status="failed", problems=refused.problems))
    finally:
        state.close()


def _tell(preview: FilePreview) -> None:
    sys.stdout.buffer.write(_EXACT.encode(preview) + b"\n")
    sys.stdout.buffer.flush()


class Previewing:
    """One file looked through."""

    def __init__(self, wanted: Wanted, state: State) -> None:
        self._wanted = wanted
        self._state = state
        self._configuration = load(state)
        self._told_s = monotonic()

    def run(self) -> FilePreview:
        """The whole preview; what is known so far is told meanwhile."""
        description = self._describe()
        asked = self._wanted.asked
        suggested = suggest(description, self._wanted.file_name)
        mapping = asked.mapping or suggested
        preview = FilePreview(description=description, suggested_mapping=suggested, mapping=mapping)
        if description.questions:
            # Nothing is known of its rows before these are answered.
            return msgspec.structs.replace(preview, status="done")
        _tell(preview)
        return self._count(preview)

    def _describe(self) -> Description:
        with Reader(Path(self._wanted.path), Task(handle=0, size=0, format=self._wanted.asked.format)) as reader:
            for message in reader.messages():
                if isinstance(message, Described):
                    return message.description
        raise AssertionError("a reader that ends without a word raises")

    def _count(self, preview: FilePreview) -> FilePreview:
        asked = self._wanted.asked
        rules = self._configuration.rules
        forecast = IdentityForecast(self._state, rules)
        task = Task(
            handle=0, size=0, format=asked.format, mapping=preview.mapping, key=b"preview", key_columns=asked.key, rules=rules
        )
        position = self._state.offset()[0]
        reasons: dict[str, int] = {}
        with Reader(Path(self._wanted.path), task) as reader:
            for message in reader.messages():
                match message:
                    case Converted():
                        position += 1
                        forecast.add(self._events(message, position))
                        for row in message.rejected:
                            reasons[row.reason] = reasons.get(row.reason, 0) + 1
                        preview = _grown(preview, message, reasons)
                        if monotonic() - self._told_s >= TELL_EVERY_S:
                            self._told_s = monotonic()
                            _tell(msgspec.structs.replace(preview, identity=forecast.told()))
                    case Finished():
                        break
                    case Described():
                        pass
        return msgspec.structs.replace(preview, status="done", identity=forecast.told())

    def _events(self, frame: Converted, position: int) -> list[Event]:
        """The events as the worker would understand them."""
        now = clock()
        record = Record(
            position=position,
            kind="request",
            schema=1,
            logged_at=now,
            source_id="",
            flags=IMPORTED,
            hashes=b"",
            chain=b"",
            salts=(),
            slices=(spell_envelope(Envelope(received_at=now)), *frame.slices),
        )
        source = self._configuration.definitions.get(("source", self._wanted.asked.source))
        if not isinstance(source, Source):
            source = Source(key="unknown", name="unknown", type="browser", region="")
        return [item for item in understand(record, source, self._configuration.rules) if isinstance(item, Event)]


def _grown(preview: FilePreview, frame: Converted, reasons: dict[str, int]) -> FilePreview:
    room = SHOWN_ROWS - len(preview.events)
    return msgspec.structs.replace(
        preview,
        rows_read=frame.last,
        accepted=preview.accepted + len(frame.slices),
        rejected=preview.rejected + len(frame.rejected),
        events=[*preview.events, *(read_json(raw) for raw in frame.slices[:room])],
        rejected_rows=[*preview.rejected_rows, *frame.rejected][:SHOWN_ROWS],
        reasons=dict(reasons),
    )


if __name__ == "__main__":
    run_previewer(settings_of_role("previewer"))
