"""Many threads that do the same thing at the same moment."""

import threading
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def all_at_once(act: Callable[[], _T], count: int) -> list[_T]:
    """Let ``count`` threads act together; returns what each got, in the order in which they finished."""
    results: list[_T] = []
    barrier = threading.Barrier(count)

    def run() -> None:
        barrier.wait()
        results.append(act())

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
