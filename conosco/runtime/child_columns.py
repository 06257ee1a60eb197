"""The reading child for column files: their engine wants to open the file itself, by the descriptor that is open already."""

from pathlib import Path

from conosco.collect.files.child import main
from conosco.collect.files.limits import COLUMNS_MAX, FOOTER_BYTES_MAX
from conosco.ports.columns import ColumnFile
from conosco.runtime.bootstrap_warehouse import open_column_file


def _open(descriptor: int) -> ColumnFile:
    path = Path(f"/proc/self/fd/{descriptor}")
    return open_column_file(path, columns_max=COLUMNS_MAX, footer_bytes_max=FOOTER_BYTES_MAX)


if __name__ == "__main__":
    main(_open)
