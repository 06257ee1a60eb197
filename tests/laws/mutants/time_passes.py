"""Broken variants of timers and of how late events are taken, for law 6."""
from tests.laws.mutants.planting import Mutant
ARRIVAL_MUTANTS: tuple[Mutant, ...] = ()
MOMENT_MUTANTS: tuple[Mutant, ...] = ()
