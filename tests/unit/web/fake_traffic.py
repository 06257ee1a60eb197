"""The desks of a fake Office that stand for what comes in and goes out: webhooks, imports, destinations."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Literal, TypeVar

from conosco.model.answer import (
    BodyPreview,
    DeliveryError,
    DestinationHealth,
    Latency,
    Page,
    ReplayedDeliveries,
    ReplayRange,
    TestResult,
)
from conosco.model.definition import Export
from conosco.model.importing import FilePreview, ImportAnswer, ImportAsked, PreviewAsked, Uploaded
from conosco.model.problem import refuse
from conosco.model.scheduled import RunAnswer, ScheduleAnswer

T0 = "2026-03-01T10:00:00Z"
T1 = "2026-03-02T11:30:00Z"
Item = TypeVar("Item")


def page_of(items: Sequence[Item], cursor: str, limit: int) -> Page[Item]:
    """A page whose cursor is an offset behind the letter o."""
    if cursor and not cursor[1:].isdecimal():
        raise refuse("bad_cursor")
    start = int(cursor[1:]) if cursor else 0
    more = start + limit < len(items)
    return Page(items=list(items[start : start + limit]), next=f"o{start + limit}" if more else None)


class FakeOutgoing:
    """One destination that fails, and what was asked of it."""

    def __init__(self) -> None:
        self.replays: list[ReplayRange] = []
        self.result = TestResult(delivery_id="dlv_9", position=1_005, state="delivered", code="http_204", attempts=1)

    async def health(self, ref: str) -> DestinationHealth:
        if ref != "crm":
            raise refuse("not_found", status=404, kind="destination", ref=ref)
        return DestinationHealth(
            destination="crm",
            breaker="open",
            open_until=T0,
            failures_in_a_row=8,
            queued=3,
            in_flight=0,
            deliveries={"pending": 3, "delivered": 5},
            attempts={"http_200": 5, "http_503": 8},
            oldest_pending_at=T0,
            latency=Latency(deliveries=5, p50_ms=1.0, p95_ms=2.0, p99_ms=3.0),
            last_delivered_at=T0,
            last_error=DeliveryError(code="http_503", at=T0),
            as_of=1_000,
        )

    async def healths(self) -> list[DestinationHealth]:
        return [await self.health("crm")]

    async def test(self, ref: str, wait_ms: int) -> TestResult:
        await self.health(ref)
        return self.result

    async def replay(self, ref: str, asked: ReplayRange) -> ReplayedDeliveries:
        self.replays.append(asked)
        return ReplayedDeliveries(count=2, states={"delivered": 2}, dry_run=asked.dry_run, position=1_006)


class FakeHooks:
    """Previews as given, and the names of secrets."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Sequence[Any] | None, int, Any]] = []
        self.secrets: dict[str, str] = {}
        self.previews: list[BodyPreview] = []

    async def preview(self, ref: str, mappings: Sequence[Any] | None, last: int, body: Any) -> list[BodyPreview]:
        self.asked.append((ref, mappings, last, body))
        return self.previews

    async def keep_secret(self, name: str, value: str) -> None:
        self.secrets[name] = value


class FakeImports:
    """Keeps uploads and imports in memory; nothing is read."""

    def __init__(self) -> None:
        self.uploads: dict[str, Uploaded] = {}
        self.made: list[ImportAnswer] = []

    async def upload(self, name: str, chunks: AsyncIterator[bytes]) -> Uploaded:
        size = 0
        async for chunk in chunks:
            size += len(chunk)
        if not size:
            raise refuse("file_empty")
        kept = Uploaded(upload=f"upl_{len(self.uploads)}", name=name, bytes=size, digest="00", created_at=0)
        self.uploads[kept.upload] = kept
        return kept

    async def preview(self, asked: PreviewAsked, wait_ms: int) -> FilePreview:
        if asked.upload not in self.uploads:
            raise refuse("not_found", status=404, kind="upload", ref=asked.upload)
        return FilePreview(preview_id="prv_1", status="running" if wait_ms == 0 else "done")

    async def preview_again(self, preview_id: str) -> FilePreview:
        return FilePreview(preview_id=preview_id, status="done")

    async def start(self, asked: ImportAsked) -> ImportAnswer:
        if asked.upload not in self.uploads:
            raise refuse("not_found", status=404, kind="upload", ref=asked.upload)
        made = ImportAnswer(
            import_id=f"imp_{len(self.made)}",
            name=asked.name,
            source=asked.source,
            basis=asked.basis,
            note=asked.note,
            status="waiting",
            file_name="file",
            file_bytes=1,
            file_digest="00",
            rows_read=0,
            rows_about=0,
            accepted=0,
            rejected=0,
            applied=0,
            position=1,
            created_at=T1,
        )
        self.made.append(made)
        return made

    async def list(self, cursor: str, limit: int) -> Page[ImportAnswer]:
        return page_of(self.made, cursor, limit)

    async def get(self, import_id: str) -> ImportAnswer:
        for made in self.made:
            if made.import_id == import_id:
                return made
        raise refuse("not_found", status=404, kind="import", ref=import_id)

    async def cancel(self, import_id: str) -> ImportAnswer:
        return await self.get(import_id)

    async def undo(self, import_id: str) -> ImportAnswer:
        raise refuse("import_not_ended", status=409, state=(await self.get(import_id)).status)

    async def rejected(self, import_id: str) -> Iterator[bytes]:
        await self.get(import_id)
        return iter([b"row,reason\r\n"])


class FakeSchedules:
    """One export, weekly, whose runs are asked for and never begin."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def standing(self, kind: Literal["import", "export"], ref: str) -> ScheduleAnswer:
        if (kind, ref) != ("export", "weekly"):
            raise refuse("not_found", status=404, kind=kind, ref=ref)
        return ScheduleAnswer(next_run_at=T1, is_asked=(kind, ref) in self.asked, last_run=None)

    async def run(self, kind: Literal["import", "export"], ref: str) -> ScheduleAnswer:
        await self.standing(kind, ref)
        self.asked.append((kind, ref))
        return await self.standing(kind, ref)

    async def runs(self, kind: Literal["import", "export"], ref: str, cursor: str, limit: int) -> Page[RunAnswer]:
        await self.standing(kind, ref)
        return page_of([], cursor, limit)

    async def last_file(self, ref: str) -> tuple[str, Iterator[bytes]]:
        await self.standing("export", ref)
        return "weekly.csv", iter([b"e-mail\r\n", b"anna@example.com\r\n"])

    async def file(self, export: Export) -> tuple[str, Iterator[bytes]]:
        return f"{export.key}.csv", iter([b"e-mail\r\n"])
