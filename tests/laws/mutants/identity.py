"""Deliberately broken variants of identity resolution, which law 4's test must tell from the real one.

Each is the product's own source with one fragment replaced, so that a mutant differs from the product by its fault alone.
"""

import inspect
from types import ModuleType
from typing import Any, NamedTuple

from conosco.resolve import partition as partition_module
from conosco.resolve import revision as revision_module
from conosco.resolve import stage as stage_module


class Mutant(NamedTuple):
    """A fault: in ``fragment``, which occurs exactly once in the source, replaced by ``fault``."""

    name: str
    fragment: str
    fault: str


PARTITION_MUTANTS = (
    Mutant("links are taken in order of arrival", "return (min(ends), max(ends), first_seen_at)", "return (0, 0, place)"),
    Mutant(
        "weak pairs of namespaces go first",
        "return (min(ends), max(ends), first_seen_at)",
        "return (-min(ends), -max(ends), first_seen_at)",
    ),
    Mutant(
        "the newest link wins", "return (min(ends), max(ends), first_seen_at)", "return (min(ends), max(ends), -first_seen_at)"
    ),
    Mutant("ties fall to arrival", "else sorted(run, key=tie)", "else run"),
    Mutant("hubs link", "if left in hubs or right in hubs:", "if False:"),
    Mutant("a hub begins one too early", "if len(strong) > thresholds", "if len(strong) >= thresholds"),
    Mutant("hubs count every partner", "(right, left) if ranks[left] < ranks[right] else (left, right)", "(left, right)"),
    Mutant("manual_different does not outrank assertions", "if one != other and self._are_strangers(one, other):", "if False:"),
    Mutant("manual_different does not outrank observations", 'return "manual_different"', "pass"),
    Mutant("strangers are forgotten when people merge", "if strangers:", "if False:"),
    Mutant(
        "asserted user ids count as several",
        "for place in here if place in there and here[place] + there[place] >",
        "for place in here | there if here.get(place, 0) + there.get(place, 0) >",
    ),
    Mutant(
        "limits do not add up", "counts[place] = counts.get(place, 0) + count", "counts[place] = max(counts.get(place, 0), count)"
    ),
    Mutant("retracted links count", "if retracted:\n            continue", "if False:\n            continue"),
)
STAGE_MUTANTS = (
    Mutant(
        "a plain component is never looked at again",
        "if component.plain and self._cannot_bind(component):",
        "if component.plain:",
    ),
    Mutant("the meaning of a previous id is never corrected", "if is_first and identifier.namespace == USER_ID:", "if False:"),
    Mutant("a later, earlier event does not correct a link", "if not is_earlier(known, at, evidence):", "if True:"),
    Mutant("a hub stays one for ever", "if hub.row.hub <= self._book.hubs[hub.identifier.namespace]:", "if False:"),
    Mutant("a hub takes its asserted links along", 'if link.kind != "observed" or not ends_here', "if not ends_here"),
    Mutant("merging forgets the links of one side", "one.links.extend(other.links)", "pass"),
    Mutant("what was taken back comes back", "link.retracted_position = self._position", "pass"),
    Mutant("dates stay when their link is taken back", "for end in (left, right) if found else ():", "for end in ():"),
)


def broken_partition(mutant: Mutant) -> Any:
    """The partition function with this fault; raises ValueError if the fragment is not where it was."""
    return _compiled(partition_module, mutant).partition


def broken_stage(mutant: Mutant) -> ModuleType:
    """The stage over a revision with this fault; raises ValueError if the fragment is not where it was."""
    revision = _compiled(revision_module, mutant)
    stage = ModuleType("broken_stage")
    exec(compile(inspect.getsource(stage_module), "broken_stage", "exec"), vars(stage))
    vars(stage)["Revision"] = revision.Revision
    return stage


def _compiled(module: ModuleType, mutant: Mutant) -> Any:
    source = inspect.getsource(module)
    if source.count(mutant.fragment) != 1:
        raise ValueError(f"{mutant.name}: the fragment occurs {source.count(mutant.fragment)} times in {module.__name__}")
    broken = ModuleType(f"broken_{module.__name__.rpartition('.')[2]}")
    exec(compile(source.replace(mutant.fragment, mutant.fault), broken.__name__, "exec"), vars(broken))
    return broken
