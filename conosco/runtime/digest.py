"""The digest of State: what a rebuild must reproduce. It covers every documented table, row by row, and the offset."""

import hashlib

import msgspec

from conosco.ports.state import State, scan_all
from conosco.ports.tables import TABLES


def digest(state: State) -> str:
    """Hash every table whose ``digest`` is True, tables by name and rows by key, and the position, as 64 hex digits.

    The epoch is left out: it counts takeovers, and a rebuild has had others. State is read in pages, so nobody may write
    to it meanwhile. Every part is framed by its length: bytes cannot move from one to the next unnoticed.
    """
    running = hashlib.blake2b(digest_size=32)
    encoder = msgspec.msgpack.Encoder()
    for table in sorted(TABLES, key=lambda table: table.name):
        if table.digest:
            running.update(encoder.encode(table.name))
            for row in scan_all(state, table):
                running.update(encoder.encode(row))
    running.update(encoder.encode(state.offset()[0]))
    return running.hexdigest()
