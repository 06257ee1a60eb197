"""What a file may be: everything beyond is refused, before it costs memory or time where that can be told."""

from typing import Final

COLUMNS_MAX: Final = 2_000
FIELD_CHARACTERS_MAX: Final = 1 << 20
ROW_BYTES_MAX: Final = 4 << 20
# A record that a stray quote joins from more lines than this is no record.
RECORD_LINES_MAX: Final = 1_000
# Honest text shrinks to a twentieth or so; beyond this a compressed file was made to do harm.
INFLATION_MAX: Final = 200
INFLATED_FREE_BYTES: Final = 64 << 20
INFLATED_BYTES_MAX: Final = 64 << 30
# A workbook is held in memory as a whole, so it must be much smaller than text, which is not.
WORKBOOK_BYTES_MAX: Final = 400 << 20
WORKBOOK_PARTS_MAX: Final = 2_000
WORKBOOK_CELLS_MAX: Final = 20_000_000
FOOTER_BYTES_MAX: Final = 16 << 20
# How much of a file is looked at to find out how it is written.
SAMPLE_BYTES: Final = 4 << 20
SAMPLE_ROWS: Final = 50_000
SHOWN_ROWS: Final = 20
EXAMPLES: Final = 3
