"""Problems: an error as code and parameters; words come from a catalogue where they are shown."""

from collections.abc import Sequence

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong: what (code, params) and where (pointer, RFC 6901 into what was sent)."""

    code: str
    params: dict[str, str | int] = {}
    pointer: str = ""


class Refused(Exception):
    """Raised when what was asked for cannot be done; carries every problem found, worst first."""

    def __init__(self, problems: Sequence[Problem], status: int = 422) -> None:
        super().__init__(", ".join(f"{problem.code}{problem.pointer and ' at ' + problem.pointer}" for problem in problems))
        self.problems = tuple(problems)
        self.status = status


def refuse(code: str, *, pointer: str = "", status: int = 422, **params: str | int) -> Refused:
    """Make a refusal with a single problem."""
    return Refused([Problem(code=code, params=params, pointer=pointer)], status)
