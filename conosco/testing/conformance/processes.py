"""What other processes do in a suite: append until they are done or killed. Imported by them, so it imports little."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from conosco.model.record import Draft
from conosco.ports.log import Log

# Makes a door on the same log in any process, so it must be picklable: a class or function, or functools.partial of one.
Opener = Callable[[], Log]


def system_clock() -> int:
    """Microseconds UTC, for processes that cannot share a frozen clock."""
    return time.time_ns() // 1_000


def draft(text: str) -> Draft:
    """A request with an envelope and one event that holds this text."""
    return Draft(kind="request", source_id="src_test", slices=(b"{}", text.encode()))


def append_in_turns(opener: Opener, name: str, count: int, link: Connection) -> None:
    """When told to, append records ``name-0``, ``name-1``, ... one call each; send each position once acknowledged."""
    log = opener()
    link.send(0)
    link.recv()
    for number in range(count):
        link.send(log.append([draft(f"{name}-{number}")])[0].position)
    log.close()
    link.close()


def run_appenders(opener: Opener, names: list[str], count: int) -> dict[str, list[int]]:
    """Let one process a name append ``count`` records, all at once; returns the positions each was given."""
    context = multiprocessing.get_context("spawn")
    links: dict[str, Connection] = {}
    running = []
    for name in names:
        links[name], theirs = context.Pipe()
        process = context.Process(target=append_in_turns, args=(opener, name, count, theirs), daemon=True)
        process.start()
        theirs.close()
        running.append(process)
    # Only when all are ready does the first one begin, so that they are in one another's way.
    for act in (Connection.recv, _go):
        for link in links.values():
            act(link)
    positions = {name: [link.recv() for _ in range(count)] for name, link in links.items()}
    for process in running:
        process.join(30)
    return positions


def kill_appender(opener: Opener, name: str, acknowledged: int) -> list[int]:
    """Kill -9 a process that appends without pause, after so many acknowledgements; returns every position it was given."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=append_in_turns, args=(opener, name, 1_000_000, theirs), daemon=True)
    process.start()
    theirs.close()
    mine.recv()
    _go(mine)
    positions = [mine.recv() for _ in range(acknowledged)]
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    # What was acknowledged before the kill and not yet read counts too.
    try:
        while mine.poll():
            positions.append(mine.recv())
    except (EOFError, OSError):
        mine.close()
    return positions


def _go(link: Connection) -> None:
    link.send(0)
