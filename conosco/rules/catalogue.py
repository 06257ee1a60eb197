"""The definitions that a condition may refer to by key: other segments and attributes, as they stand now."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from conosco.model.definition import Attribute, Segment


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """Specs as stored (``{"language": 1, ...}``) by key. What is archived cannot be referred to."""

    segments: Mapping[str, dict[str, Any]] = {}
    attributes: Mapping[str, dict[str, Any]] = {}


def catalogue_of(segments: Iterable[Segment] = (), attributes: Iterable[Attribute] = ()) -> Catalogue:
    """Make the catalogue of these definitions."""
    return Catalogue(
        segments={segment.key: segment.spec for segment in segments if segment.state == "active"},
        attributes={attribute.key: attribute.spec for attribute in attributes if attribute.state == "active"},
    )
