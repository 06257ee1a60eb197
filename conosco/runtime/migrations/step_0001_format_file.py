"""Format 1: the folder says which format it has. Nothing else changes; every store is looked at before that is said of it."""

from pathlib import Path

from conosco.model.problem import refuse
from conosco.runtime.bootstrap import is_store, store_format
from conosco.runtime.migrations.step import Step


def _look(data: Path) -> None:
    for path in sorted((*data.glob("*"), *(data / "log").glob("*"))):
        if path.is_file() and is_store(path.name):
            found = store_format(path)
            # 0 is a file whose making was cut short; it holds nothing yet.
            if found > 1:
                raise refuse("store_newer", path=str(path), found=found, known=1)


STEP = Step(number=1, name="format_file", apply=_look)
