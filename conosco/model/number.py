"""Exact numbers: fixed point with 38 digits, 6 of them decimals, rounded half-even. Inside they are integers of millionths.

Every evaluator reads numbers through :func:`exact`, so that live and SQL answers can never differ by a float.
"""

from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Final

SCALE: Final = 6
UNIT: Final = 10**SCALE
LIMIT: Final = 10**38
# One more digit than fits, so that a value too large is seen as such and never rounded into range.
_CONTEXT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN, Emax=999_999, Emin=-999_999)
_MILLIONTH: Final = Decimal(1).scaleb(-SCALE)


def exact(value: object) -> int | None:
    """Read an int, Decimal or float as millionths; None for anything else and for what does not fit.

    A bool is not a number. A float is read through its shortest spelling, as JSON would print it.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        scaled = value * UNIT if -LIMIT < value < LIMIT else LIMIT
        return scaled if -LIMIT < scaled < LIMIT else None
    if isinstance(value, float):
        value = Decimal(repr(value))
    if not isinstance(value, Decimal) or not value.is_finite() or (value and value.adjusted() > 38):
        return None
    try:
        scaled = int(value.quantize(_MILLIONTH, context=_CONTEXT).scaleb(SCALE, context=_CONTEXT))
    except InvalidOperation:
        return None
    return scaled if -LIMIT < scaled < LIMIT else None


def spell(millionths: int) -> str:
    """Spell millionths as a plain decimal with exactly six decimals: the form that SQL casts without loss."""
    sign = "-" if millionths < 0 else ""
    whole, fraction = divmod(abs(millionths), UNIT)
    return f"{sign}{whole}.{fraction:06d}"


def plain(millionths: int) -> int | Decimal:
    """Give millionths back as the shortest exact number: an int where it is whole."""
    whole, fraction = divmod(millionths, UNIT)
    # Not normalised by arithmetic, which would round to the digits of its context.
    return whole if fraction == 0 else Decimal(spell(millionths).rstrip("0"))
