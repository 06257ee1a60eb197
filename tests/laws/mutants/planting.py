"""Planting a fault: the product's own function with one fragment replaced, in force for as long as a block runs.

The code object is exchanged, so that everyone who imported the function runs the faulty one, and a mutant differs from the
product by its fault alone.
"""

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any, NamedTuple


class Mutant(NamedTuple):
    """A fault: in the source of ``function``, ``fragment``, which occurs exactly once there, is replaced by ``fault``."""

    name: str
    function: Callable[..., Any]
    fragment: str
    fault: str


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Run the faulty code inside the block. Raises ValueError if the fragment is not where it was."""
    function = inspect.unwrap(mutant.function)
    assert isinstance(function, FunctionType)
    sound = function.__code__
    function.__code__ = _faulty_code(function, mutant)
    try:
        yield
    finally:
        function.__code__ = sound


def survivors(mutants: tuple[Mutant, ...], check: Callable[[int], None], seeds: range) -> list[str]:
    """The names of the mutants that a law's check passes for all seeds, and so does not tell from the product."""
    return [mutant.name for mutant in mutants if not any(_is_killed(mutant, check, seed) for seed in seeds)]


def _is_killed(mutant: Mutant, check: Callable[[int], None], seed: int) -> bool:
    with planted(mutant):
        try:
            check(seed)
        except NameError:
            # The fault itself is misspelled.
            raise
        except Exception:  # noqa: BLE001  # whatever the fault makes the product do, the check does not pass
            return True
    return False


def _faulty_code(function: FunctionType, mutant: Mutant) -> CodeType:
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(mutant.fragment) != 1:
        raise ValueError(f"{mutant.name}: the fragment occurs {source.count(mutant.fragment)} times in {function.__qualname__}")
    module = compile(source.replace(mutant.fragment, mutant.fault), f"<{mutant.name}>", "exec")
    return next(code for code in module.co_consts if isinstance(code, CodeType) and code.co_name == function.__name__)
