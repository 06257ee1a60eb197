"""The pages of a log file read by hand: every byte accounted for, and rows found where the engine finds no way to them.

The engine reads what it needs and trusts the rest. Here each page is walked as the file format describes it
(sqlite.org/fileformat2.html), so that a bit that fell over in bytes that nobody reads is noticed too.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import apsw

from conosco.engines.sqlite.log_file import LOG_SCHEMA, PAGE_BYTES, Row

HEADER_BYTES: Final = 100
LEAF: Final = 0x0D
INTERIOR: Final = 0x05
COLUMNS: Final = 9
DEPTH_MAX: Final = 20
_FIXED: Final = b"SQLite format 3\x00" + struct.pack(">HBBBBBB", PAGE_BYTES, 2, 2, 0, 64, 32, 32)
# Payload up to here lies in the cell as a whole; of a longer one at least so much does.
_LOCAL_MAX: Final = PAGE_BYTES - 35
_LOCAL_MIN: Final = (PAGE_BYTES - 12) * 32 // 255 - 23
_OVERFLOW: Final = PAGE_BYTES - 4


class Misfit(Exception):
    """A page is not what it must be."""


class Pages:
    """A file's pages, with newer versions of some of them laid over (those that are still in the WAL)."""

    def __init__(self, path: Path, newer: dict[int, bytes] | None = None) -> None:
        # Through the engine's own layer: opening and closing it by plain means would drop this process's locks on it.
        self._file = apsw.VFSFile("unix", str(path), [apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_MAIN_DB, 0])
        self._newer = newer or {}
        self.count = max(path.stat().st_size // PAGE_BYTES, max(self._newer, default=0))

    def __getitem__(self, number: int) -> bytes:
        """A page, counted from 1. Raises Misfit if there is no such page."""
        page = self._newer.get(number)
        if page is None:
            if not 0 < number <= self.count:
                raise Misfit(f"page {number} does not exist")
            try:
                page = self._file.xRead(PAGE_BYTES, (number - 1) * PAGE_BYTES)
            except apsw.IOError as error:
                raise Misfit(f"page {number} cannot be read") from error
        if len(page) != PAGE_BYTES:
            raise Misfit(f"page {number} is cut short")
        return page

    def close(self) -> None:
        """Release the file."""
        self._file.xClose()


def found_rows(pages: Pages) -> Iterator[Row]:
    """Every record that lies in any leaf page, in no order, whether or not a way leads there. Some may be damaged."""
    for number in range(1, pages.count + 1):
        try:
            page = pages[number]
            if page[0] != LEAF or number == 1:
                continue
            (cells,) = struct.unpack_from(">H", page, 3)
            offsets = struct.unpack_from(f">{cells}H", page, 8)
        except (Misfit, struct.error):
            continue
        for offset in offsets:
            try:
                payload, rowid, _ = _payload(pages, page, offset, None)
                row = _row(rowid, payload)
            except (Misfit, struct.error, IndexError, ValueError):
                continue
            if row is not None:
                yield row


def unaccounted(pages: Pages) -> list[int]:
    """Numbers of pages that hold bytes which are not what they must be; empty for a sound file."""
    walk = _Walk(pages)
    try:
        walk.header()
        for root in walk.roots():
            walk.tree(root, None, None)
        walk.free_pages()
    except (Misfit, struct.error, IndexError, ValueError):
        walk.wrong.add(walk.at)
    except RecursionError:
        walk.wrong.add(1)
    if not walk.wrong:
        walk.wrong.update(set(range(1, pages.count + 1)) - walk.seen)
    return sorted(walk.wrong)


def is_unmade(pages: Pages) -> bool:
    """Whether a file holds no table yet, because its making was cut short: nobody has written a record to it."""
    try:
        page = pages[1]
    except Misfit:
        return True
    (cookie,), (user,), (cells,) = (struct.unpack_from(form, page, at) for form, at in ((">I", 40), (">I", 60), (">H", 103)))
    return (cookie, user, cells) == (0, 0, 0) and pages.count <= 1


def is_passable(pages: Pages) -> bool:
    """Whether the way to every leaf page is sound; the leaves themselves are not looked at."""
    walk = _Walk(pages)
    try:
        walk.header()
        for root in walk.roots():
            depth, number = 0, root
            while (page := pages[number])[0] == INTERIOR and depth < DEPTH_MAX:
                (number,) = struct.unpack_from(">I", page, 8)
                depth += 1
            if page[0] != LEAF:
                return False
            walk.way(root, depth)
    except (Misfit, struct.error, IndexError, ValueError):
        return False
    return True


class _Walk:
    """One walk over a file."""

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.seen: set[int] = set()
        self.wrong: set[int] = set()
        self.at = 1

    def _take(self, number: int) -> bytes:
        self.at = number
        if number in self.seen:
            raise Misfit(f"page {number} is used twice")
        self.seen.add(number)
        return self.pages[number]

    def header(self) -> None:
        page = self.pages[1]
        changes, size, _, _, cookie, form, cache, root, encoding, user, vacuum, application = struct.unpack_from(">12I", page, 24)
        valid_for, version = struct.unpack_from(">2I", page, 92)
        oldest, newest = 3_051_003, apsw.SQLITE_VERSION_NUMBER
        expected = (form, cache, root, encoding, user, vacuum, application) == (4, 0, 0, 1, 1, 0, 0)
        sane = changes == valid_for and size == self.pages.count and cookie == _schema()[0] and oldest <= version <= newest
        if page[: len(_FIXED)] != _FIXED or any(page[72:92]) or not (expected and sane):
            raise Misfit("the header of the file")

    def roots(self) -> list[int]:
        """The roots of the tables, from the first page, which must say exactly what a fresh file says."""
        rows: list[tuple[Any, ...]] = []
        page = self._take(1)
        for offset in self._cells(page, HEADER_BYTES, LEAF):
            payload, _, _ = _payload(self.pages, page, offset, self)
            rows.append(tuple(_values(payload)))
        if rows != _schema()[1]:
            raise Misfit("the list of tables")
        return [row[3] for row in rows]

    def way(self, number: int, depth: int) -> None:
        """Walk the inner pages of a table, of which there are so many levels."""
        if depth == 0:
            return
        page = self._take(number)
        last: int | None = None
        for offset in self._cells(page, 0, INTERIOR):
            (child,) = struct.unpack_from(">I", page, offset)
            key, _ = _varint(page, offset + 4)
            self._ascends(last, key, None)
            last = key
            self._known(child)
            self.way(child, depth - 1)
        (right,) = struct.unpack_from(">I", page, 8)
        self._known(right)
        self.way(right, depth - 1)

    def _known(self, number: int) -> None:
        if not 1 < number <= self.pages.count:
            raise Misfit(f"page {number} does not exist")

    def tree(self, number: int, above: int | None, below: int | None) -> int | None:
        """Walk a table: keys must ascend, all > above, <= below. Returns its last key."""
        page = self._take(number)
        last = above
        if page[0] == INTERIOR:
            cells = self._cells(page, 0, INTERIOR)
            (right,) = struct.unpack_from(">I", page, 8)
            for offset in cells:
                (child,) = struct.unpack_from(">I", page, offset)
                key, _ = _varint(page, offset + 4)
                self._ascends(last, key, below)
                last = self.tree(child, last, key)
                if last is not None and last > key:
                    raise Misfit(f"page {number}: keys")
                last = key
                self.at = number
            return self.tree(right, last, below)
        for offset in self._cells(page, 0, LEAF):
            _, rowid, _ = _payload(self.pages, page, offset, self)
            self._ascends(last, rowid, below)
            last = rowid
            self.at = number
        return last

    def _ascends(self, above: int | None, key: int, below: int | None) -> None:
        if (above is not None and key <= above) or (below is not None and key > below):
            raise Misfit("keys do not ascend")

    def _cells(self, page: bytes, begin: int, kind: int) -> list[int]:
        """The offsets of a page's cells, once every byte of it is accounted for."""
        if page[begin] != kind:
            raise Misfit("the kind of a page")
        first_free, cells, content = struct.unpack_from(">3H", page, begin + 1)
        fragments = page[begin + 7]
        ends = begin + (12 if kind == INTERIOR else 8) + 2 * cells
        offsets = list(struct.unpack_from(f">{cells}H", page, ends - 2 * cells))
        used = [(offset, offset + max(4, self._cell_bytes(page, offset, kind))) for offset in offsets]
        while first_free:
            following, size = struct.unpack_from(">2H", page, first_free)
            if (following and following <= first_free) or size < 4 or any(page[first_free + 4 : first_free + size]):
                raise Misfit("free bytes")
            used.append((first_free, first_free + size))
            first_free = following
        used.sort()
        content = content or 65_536
        gaps, at = 0, min(content, PAGE_BYTES)
        if content < ends or not _is_blank(page[ends:at]):
            raise Misfit("unused bytes")
        for start, stop in used:
            if start < at or stop > PAGE_BYTES:
                raise Misfit("cells overlap")
            gaps += start - at
            at = stop
        gaps += PAGE_BYTES - at
        if gaps != fragments:
            raise Misfit("bytes of nobody")
        return offsets

    def _cell_bytes(self, page: bytes, offset: int, kind: int) -> int:
        if kind == INTERIOR:
            return _varint(page, offset + 4)[1] - offset
        size, at = _varint(page, offset)
        _, at = _varint(page, at)
        local = _local_bytes(size)
        return at - offset + local + (4 if local < size else 0)

    def overflow(self, number: int) -> bytes:
        """A page of the long payload of a record."""
        return self._take(number)

    def free_pages(self) -> None:
        """Pages that are free lie in a list, and hold nothing."""
        trunk, count = struct.unpack_from(">2I", self.pages[1], 32)
        found = 0
        while trunk:
            page = self._take(trunk)
            following, leaves = struct.unpack_from(">2I", page)
            for leaf in struct.unpack_from(f">{leaves}I", page, 8):
                if any(self._take(leaf)):
                    raise Misfit("a free page holds something")
            if any(page[8 + 4 * leaves :]):
                raise Misfit("unused bytes")
            found += 1 + leaves
            trunk = following
        if found != count:
            raise Misfit("the number of free pages")


def _is_blank(gap: bytes) -> bool:
    """Whether unused bytes are as the engine leaves them: zeros, but for what moved away when a tree became smaller by pruning."""
    return int.from_bytes(gap, "big").bit_count() != 1


def _schema() -> tuple[int, list[tuple[Any, ...]]]:
    """What a fresh file says of its tables: (schema cookie, rows of its list of tables)."""
    connection = apsw.Connection(":memory:")
    try:
        connection.execute(LOG_SCHEMA)
        rows = connection.execute("SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema").fetchall()
        return int(str(connection.pragma("schema_version"))), rows
    finally:
        connection.close()


def _varint(page: bytes, at: int) -> tuple[int, int]:
    value = 0
    for count in range(9):
        byte = page[at]
        at += 1
        if count == 8:
            return value << 8 | byte, at
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return value, at


def _local_bytes(size: int) -> int:
    """How much of a payload lies in the cell itself."""
    if size <= _LOCAL_MAX:
        return size
    local = _LOCAL_MIN + (size - _LOCAL_MIN) % _OVERFLOW
    return local if local <= _LOCAL_MAX else _LOCAL_MIN


def _payload(pages: Pages, page: bytes, offset: int, walk: _Walk | None) -> tuple[bytes, int, int]:
    """A cell's payload, its rowid, and the end of the cell; what follows the end of a long payload must be zeros."""
    size, at = _varint(page, offset)
    rowid, at = _varint(page, at)
    local = _local_bytes(size)
    parts = [page[at : at + local]]
    left, at = size - local, at + local
    if left:
        (following,) = struct.unpack_from(">I", page, at)
        at += 4
        while left > 0:
            if left > pages.count * PAGE_BYTES:
                raise Misfit("a record is longer than the file")
            long_page = pages[following] if walk is None else walk.overflow(following)
            (following,) = struct.unpack_from(">I", long_page)
            parts.append(long_page[4 : 4 + left])
            left -= _OVERFLOW
            if walk is not None and left <= 0 and (following or any(long_page[4 + left + _OVERFLOW :])):
                raise Misfit("bytes after a record")
    return b"".join(parts), rowid, at


def _values(payload: bytes) -> list[Any]:
    """The columns of a record as the engine stores it."""
    end, at = _varint(payload, 0)
    kinds = []
    while at < end:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    values: list[Any] = []
    for kind in kinds:
        if kind in (0, 8, 9):
            values.append({0: None, 8: 0, 9: 1}[kind])
        elif kind <= 6:
            size = (0, 1, 2, 3, 4, 6, 8)[kind]
            values.append(int.from_bytes(payload[at : at + size], "big", signed=True))
            at += size
        elif kind >= 12:
            size = (kind - 12) // 2
            raw = payload[at : at + size]
            values.append(raw if kind % 2 == 0 else raw.decode())
            at += size
        else:
            raise Misfit("the kind of a value")
    if at != len(payload):
        raise Misfit("the length of a record")
    return values


def _row(rowid: int, payload: bytes) -> Row | None:
    values = _values(payload)
    if len(values) != COLUMNS or values[0] is not None or not isinstance(values[8], bytes) or not isinstance(values[7], bytes):
        return None
    return Row(rowid, *values[1:])
