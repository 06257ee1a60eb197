"""The process that performs an operation while its calls are recorded: ``acting.py OPERATION FOLDER [VARIANT]``."""

import os
import sys
from pathlib import Path

from tests.running.power.disk import MARKS
from tests.running.power.operations import OPERATIONS
from tests.running.power.weakening import VARIANTS


def main(name: str, data: Path, variant: str = "") -> None:
    """Perform all steps; a line in the file of marks says that a step was promised."""
    if variant:
        VARIANTS[variant]()
    operation = next(each for each in OPERATIONS if each.name == name)
    marks = os.open(data.parent / MARKS, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for _ in operation.act(data):
        os.write(marks, b"promised\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:4])
