"""A disk whose power fails: plays what a process did to its files, up to a point, and keeps what a real disk may have kept.

What was synced is there. Of the rest any part may be: whole calls, sectors of a write, the names in a folder. A name that
was made, changed or removed is certain only once its folder was synced, and a file's content never says anything of its name.
"""

import os
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Final, Literal, NamedTuple

SECTOR: Final = 512
MARKS: Final = "marks"
# Indexes in shared memory, which are made anew whenever nobody has them open.
NOT_KEPT: Final = ("-shm",)
_HEAD: Final = struct.Struct("<Biqqq")

Way = Literal["nothing", "everything", "names", "contents", "calls", "sectors", "prefix"]
WAYS: Final[tuple[Way, ...]] = ("nothing", "everything", "names", "contents", "calls", "sectors", "prefix")


class Call(NamedTuple):
    """One recorded call: its kind (see shim.c), file descriptor, a number, and two byte strings."""

    kind: str
    file: int
    number: int
    first: bytes
    second: bytes


class Unplayable(AssertionError):
    """The process did something to a file that this player does not know."""


def read_trace(path: Path) -> list[Call]:
    """The calls of a trace."""
    raw, at, calls = path.read_bytes(), 0, []
    while at + _HEAD.size <= len(raw):
        kind, file, number, first, second = _HEAD.unpack_from(raw, at)
        at += _HEAD.size
        call = Call(chr(kind), file, number, raw[at : at + first], raw[at + first : at + first + second])
        at += first + second
        if call.kind == "X":
            raise Unplayable(f"{call.first.decode()} is not recorded by shim.c: record it, or do without it")
        calls.append(call)
    return calls


class _Node:
    """What a name stands for."""

    def sync(self) -> None:
        """Make certain what is there now."""
        raise NotImplementedError


class _File(_Node):
    """A file: what is certain of its content, and what was written since, in order: (offset, bytes) or a new size."""

    def __init__(self, content: bytes = b"") -> None:
        self.certain = bytearray(content)
        self.pending: list[tuple[int, bytes] | int] = []

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.certain, change)
        self.pending.clear()


class _Folder(_Node):
    """A folder: its names as they are now, those that are certain, and the changes since, by name; None removes one."""

    def __init__(self) -> None:
        self.names: dict[str, _Node] = {}
        self.certain: dict[str, _Node] = {}
        # Changes with one number happen together: a rename within a folder takes both names or none.
        self.pending: list[tuple[int, str, _Node | None]] = []

    def sync(self) -> None:
        self.certain = dict(self.names)
        self.pending.clear()


def _apply(content: bytearray, change: tuple[int, bytes] | int) -> None:
    if isinstance(change, int):
        del content[change:]
        content.extend(bytes(change - len(content)))
        return
    offset, written = change
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(written)] = written


class Disk:
    """Plays calls one after the other on what lay below ``root`` before them, all of which counts as synced."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._top = _load(root)
        self._open: dict[int, _Node | None] = {}
        self._changes = 0
        self.marks = 0

    def play(self, call: Call) -> None:
        """Take one call."""
        match call.kind:
            case "O":
                self._opened(call)
            case "W" | "T":
                node = self._open.get(call.file)
                if isinstance(node, _File):
                    node.pending.append((call.number, call.first) if call.kind == "W" else call.number)
                elif node is None and call.kind == "W":
                    self.marks += call.first.count(b"\n")
            case "S":
                node = self._open.get(call.file)
                if node is not None:
                    node.sync()
            case "R":
                self._changes += 1
                folder, name = self._place(call.first)
                to, to_name = self._place(call.second)
                self._set(to, to_name, folder.names[name])
                self._set(folder, name, None)
            case "U":
                self._changes += 1
                self._set(*self._place(call.first), None)
            case "M":
                self._changes += 1
                self._set(*self._place(call.first), _Folder())
            case _:
                raise Unplayable(call.kind)

    def _opened(self, call: Call) -> None:
        if os.fsdecode(call.first) == str(self._root):
            self._open[call.file] = self._top
            return
        folder, name = self._place(call.first)
        if name == MARKS and folder is self._top:
            self._open[call.file] = None
            return
        if call.number == 1:
            self._changes += 1
            self._set(folder, name, _File())
        node = folder.names[name]
        if call.number == 2 and isinstance(node, _File):
            node.pending.append(0)
        self._open[call.file] = node

    def _place(self, path: bytes) -> tuple[_Folder, str]:
        *parents, name = Path(os.fsdecode(path)).relative_to(self._root).parts
        folder = self._top
        for parent in parents:
            found = folder.names[parent]
            assert isinstance(found, _Folder)
            folder = found
        return folder, name

    def _set(self, folder: _Folder, name: str, node: _Node | None) -> None:
        if node is None:
            folder.names.pop(name, None)
        else:
            folder.names[name] = node
        folder.pending.append((self._changes, name, node))

    def fail(self, way: Way, rng: Random, into: Path) -> None:
        """Write below ``into`` what is there when power comes back."""
        _write(self._top, into, _Luck(way, rng))


class _Luck:
    """Decides what of the unsynced is kept."""

    def __init__(self, way: Way, rng: Random) -> None:
        self._way = way
        self._rng = rng

    def names(self, folder: _Folder) -> dict[str, _Node]:
        kept = dict(folder.certain)
        numbers = sorted({number for number, _, _ in folder.pending})
        chosen = self._chosen(
            numbers, keep_all=self._way in ("everything", "names"), keep_none=self._way in ("nothing", "contents")
        )
        for number, name, node in folder.pending:
            if number in chosen:
                if node is None:
                    kept.pop(name, None)
                else:
                    kept[name] = node
        return kept

    def content(self, file: _File) -> bytes:
        content = bytearray(file.certain)
        indexes = list(range(len(file.pending)))
        chosen = self._chosen(
            indexes, keep_all=self._way in ("everything", "contents"), keep_none=self._way in ("nothing", "names")
        )
        for index in indexes:
            change = file.pending[index]
            if index not in chosen:
                continue
            if self._way == "sectors" and not isinstance(change, int):
                for part in self._torn(change):
                    _apply(content, part)
            else:
                _apply(content, change)
        return bytes(content)

    def _chosen(self, numbers: Sequence[int], *, keep_all: bool, keep_none: bool) -> set[int]:
        if keep_all or keep_none:
            return set(numbers) if keep_all else set()
        if self._way == "prefix":
            return set(numbers[: self._rng.randrange(len(numbers) + 1)])
        share = self._rng.choice((0.2, 0.5, 0.8))
        return {number for number in numbers if self._rng.random() < share}

    def _torn(self, change: tuple[int, bytes]) -> Iterator[tuple[int, bytes]]:
        """Some sectors of a write, one after the other."""
        offset, written = change
        end = offset + len(written)
        while offset < end:
            until = min(end, (offset // SECTOR + 1) * SECTOR)
            if self._rng.random() < 0.5:
                start = offset - change[0]
                yield offset, written[start : start + until - offset]
            offset = until


def _load(path: Path) -> _Folder:
    folder = _Folder()
    for entry in sorted(path.iterdir()):
        node: _Node = _load(entry) if stat.S_ISDIR(entry.stat().st_mode) else _File(entry.read_bytes())
        folder.names[entry.name] = node
    folder.sync()
    return folder


def _write(folder: _Folder, into: Path, luck: _Luck) -> None:
    into.mkdir(mode=0o700)
    for name, node in sorted(luck.names(folder).items()):
        if isinstance(node, _Folder):
            _write(node, into / name, luck)
        elif isinstance(node, _File) and not name.endswith(NOT_KEPT):
            (into / name).write_bytes(luck.content(node))
            (into / name).chmod(0o600)


class Cut(NamedTuple):
    """A moment at which power fails, before the call of this index, and what is kept then."""

    call: int
    way: Way
    seed: int


def draw_cuts(calls: Sequence[Call], count: int, rng: Random) -> list[Cut]:
    """Moments to cut at: just before and just after a sync or a change of names most of all, for there the unsynced is most or least."""
    edges = [index + after for index, call in enumerate(calls) for after in (0, 1) if call.kind in "SRU"]
    cuts = []
    for number in range(count):
        # Every way of losing comes equally often, whatever else is drawn.
        way = WAYS[number % len(WAYS)]
        call = rng.choice(edges) if edges and rng.random() < 0.75 else rng.randrange(len(calls) + 1)
        cuts.append(Cut(call, way, rng.randrange(1 << 30)))
    return sorted(cuts)


def play_cuts(before: Path, root: Path, calls: Sequence[Call], cuts: Sequence[Cut], check: Callable[[Cut, "Disk"], None]) -> None:
    """Play all calls once, in the paths of ``root``, on what lies in ``before``; call ``check`` with the disk at each cut."""
    disk = Disk(before)
    disk._root = root
    waiting = list(cuts)
    for index, call in enumerate((*calls, None)):
        while waiting and waiting[0].call == index:
            check(waiting.pop(0), disk)
        if call is not None:
            disk.play(call)
