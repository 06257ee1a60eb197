"""The definitions that a condition may refer to by key: other segments and attributes, as they stand now."""

from collections.abc import Mapping
from typing import Any

import msgspec


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """Specs as stored (``{"language": 1, ...}``) by key, of active definitions only: nothing else can be referred to."""

    segments: Mapping[str, dict[str, Any]] = {}
    attributes: Mapping[str, dict[str, Any]] = {}
