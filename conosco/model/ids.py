"""Identifiers that leave the process: a prefix and 26 Crockford base32 characters of 128 bits."""

import hmac
from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Two characters at a time: ids are made for every new person and delivery.
_PAIRS: Final = tuple(first + second for first in ALPHABET for second in ALPHABET)
RANDOM_PREFIXES: Final = ("src", "dst", "seg", "atr", "jrn", "job", "lnk", "prp")
DERIVED_PREFIXES: Final = ("pro", "enr", "dlv", "dec", "con")


def encode(prefix: str, value: bytes) -> str:
    """Spell 16 bytes as ``prefix_`` and 26 characters; the first character carries only 3 bits."""
    if len(value) != 16:
        raise ValueError(f"an id carries 16 bytes, not {len(value)}")
    number = int.from_bytes(value, "big")
    return prefix + "_" + "".join([_PAIRS[(number >> shift) & 1023] for shift in range(120, -1, -10)])


def derived(prefix: str, secret: bytes, *parts: str | int) -> str:
    """Make an id that is stable for the same parts and not guessable without the installation secret.

    The parts are framed by their lengths, so that ("ab", "c") and ("a", "bc") differ.
    """
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in (str(item).encode() for item in (prefix, *parts)))
    return encode(prefix, hmac.digest(secret, framed, "sha256")[:16])


def is_id(prefix: str, text: str) -> bool:
    """True if the text has the shape of an id with this prefix."""
    head, _, tail = text.partition("_")
    return head == prefix and len(tail) == 26 and all(character in ALPHABET for character in tail)
