"""Discovery: which extensions there are. Built-ins are found by scanning their folder, so nobody keeps a list."""

import importlib
import pkgutil
from typing import cast

from conosco.connectors import destinations, places
from conosco.connectors.place import PlaceConnector
from conosco.runtime.sender_lane import Connector


def destination_connectors() -> dict[str, Connector]:
    """The destination connectors by type: every module of the folder that names a ``type``."""
    found: dict[str, Connector] = {}
    for module in pkgutil.iter_modules(destinations.__path__):
        loaded = importlib.import_module(f"{destinations.__name__}.{module.name}")
        type_name = getattr(loaded, "type", None)
        if isinstance(type_name, str):
            found[type_name] = cast(Connector, loaded)
    return found


def place_connectors() -> dict[str, PlaceConnector]:
    """The kinds of places by type: every module of the folder that names a ``type``."""
    found: dict[str, PlaceConnector] = {}
    for module in pkgutil.iter_modules(places.__path__):
        loaded = importlib.import_module(f"{places.__name__}.{module.name}")
        type_name = getattr(loaded, "type", None)
        if isinstance(type_name, str):
            found[type_name] = cast(PlaceConnector, loaded)
    return found
