"""Visits and objects as SQL over what events brought: nothing of them is kept that a late event would have to mend.

Each relation exists twice: as a view of all that is known now, and as a macro ``<name>_as_of(asked_at, asked_position)`` of
what was true at a moment (micros) as known at a log position, with identity as known there.
"""

from collections.abc import Callable
from typing import Final

# A longer pause on a device begins a new visit: what web analytics has agreed on for twenty years, so figures compare.
PAUSE_MINUTES: Final = 30
# As many properties of an object as State keeps: the first by name.
PROPERTIES_KEPT: Final = 128

_NOW: Final = "store.identifiers_now"
_THEN: Final = (
    "(SELECT namespace, value, profile_id FROM (SELECT namespace, value, profile_id, row_number() OVER ("
    "PARTITION BY namespace, value ORDER BY position DESC, ordinal DESC) AS age "
    "FROM store.identifier_versions WHERE position <= asked_position) WHERE age = 1 AND profile_id <> '')"
)
_KNOWN: Final = " WHERE {0}.position <= asked_position AND {0}.event_at <= make_timestamp(asked_at)"
_CAMPAIGN: Final = ("source", "medium", "campaign", "term", "content")
_MARKS: Final = ", ".join((*(f"utm_{name}" for name in _CAMPAIGN), "click_id"))
_ONE: Final = "PARTITION BY profile_id, device_namespace, device_value ORDER BY event_at, source_id, message_id"


def _struct(**members: str) -> str:
    return "{" + ", ".join(f"'{name}': {column}" for name, column in members.items()) + "}"


def _touch_as_json(name: str) -> str:
    """A touch as a JSON object, NULL where a visit has none."""
    parts = [f"'at', strftime({name}.at, '%Y-%m-%dT%H:%M:%S.%fZ')"]
    parts += [f"'{part}', {name}.{part}" for part in (*_CAMPAIGN, "click_id", "referrer")]
    return f"CASE WHEN {name} IS NOT NULL THEN CAST(json_object({', '.join(parts)}) AS VARCHAR) END AS {name}"


def _visits(identity: str, known: str) -> str:
    """A visit is a stretch of one person's touches on one device. Order is event time, then source and message id."""
    touch = _struct(at="event_at", **{name: f"utm_{name}" for name in _CAMPAIGN}, click_id="click_id", referrer="referrer")
    marked = f"FILTER (WHERE coalesce({_MARKS}) IS NOT NULL)"
    agent = _struct(**{name: name for name in ("browser", "browser_version", "os", "os_version", "device")})
    return (
        "WITH owned AS (SELECT t.*, i.profile_id FROM store.touches AS t "
        f"LEFT JOIN {identity} AS i ON t.home_namespace = i.namespace AND t.home_value = i.value{known.format('t')}), "
        "spaced AS (SELECT *, lag(event_at) OVER one AS previous_at, row_number() OVER one AS place FROM owned "
        f"WINDOW one AS ({_ONE})), "
        f"numbered AS (SELECT *, count(*) FILTER (WHERE previous_at IS NULL OR event_at - previous_at > INTERVAL {PAUSE_MINUTES} "
        f"MINUTE) OVER ({_ONE} ROWS UNBOUNDED PRECEDING) AS visit FROM spaced), "
        "folded AS (SELECT profile_id, device_namespace, device_value, arg_min(source_id, place) AS source_id, "
        "arg_min(message_id, place) AS message_id, min(event_at) AS started_at, max(event_at) AS ended_at, count(*) AS events, "
        f"count(*) FILTER (WHERE is_page) AS pages, arg_min({_struct(page='page', referrer='referrer')}, place) "
        "FILTER (WHERE page IS NOT NULL) AS entry, arg_max(page, place) AS exit_page, "
        f"arg_min({touch}, place) {marked} AS first_touch, arg_max({touch}, place) {marked} AS last_touch, "
        f"arg_min({agent}, place) FILTER (WHERE coalesce(browser, os, device) IS NOT NULL) AS agent, "
        "arg_min(country, place) AS country FROM numbered GROUP BY profile_id, device_namespace, device_value, visit) "
        # 25 hexadecimal digits of a digest, which are all letters of ids.
        "SELECT 'vis_0' || substring(upper(md5(CAST(to_json([device_namespace, device_value, source_id, message_id]) AS VARCHAR))), "
        "1, 25) AS visit_id, profile_id, device_namespace, device_value, started_at, ended_at, "
        "(epoch_us(ended_at) - epoch_us(started_at)) // 1000000 AS duration_seconds, "
        "events, pages, entry.page AS entry_page, exit_page, entry.referrer AS entry_referrer, "
        + "".join(f"first_touch.{name} AS utm_{name}, " for name in _CAMPAIGN)
        + f"first_touch.click_id AS click_id, {_touch_as_json('first_touch')}, {_touch_as_json('last_touch')}, "
        "agent.browser AS browser, agent.browser_version AS browser_version, agent.os AS os, agent.os_version AS os_version, "
        "agent.device AS device, country, source_id FROM folded"
    )


def _objects(identity: str, known: str) -> str:
    """Per property the observation that is latest by (event_at, source_id, message_id), whatever came last."""
    del identity
    return (
        "WITH told AS (SELECT kind, object_id, name, max(event_at) AS told_at, "
        "arg_max(value, row(event_at, source_id, message_id)) AS value "
        f"FROM store.object_observations AS o{known.format('o')} GROUP BY kind, object_id, name "
        f"QUALIFY row_number() OVER (PARTITION BY kind, object_id ORDER BY name) <= {PROPERTIES_KEPT}), "
        "stated AS (SELECT kind, object_id, max(told_at) AS changed_at, "
        "'{' || coalesce(string_agg(CAST(to_json(name) AS VARCHAR) || ':' || value, ',' ORDER BY name) FILTER (WHERE value <> 'null'), '') "
        "|| '}' AS state FROM told GROUP BY kind, object_id), "
        "seen AS (SELECT kind, object_id, min(event_at) AS first_seen_at, max(event_at) AS last_seen_at "
        f"FROM store.object_mentions AS m{known.format('m')} GROUP BY kind, object_id) "
        "SELECT seen.kind, seen.object_id, coalesce(stated.state, '{}') AS state, seen.first_seen_at, seen.last_seen_at, "
        "stated.changed_at FROM seen LEFT JOIN stated ON seen.kind = stated.kind AND seen.object_id = stated.object_id"
    )


def _object_history(identity: str, known: str) -> str:
    """One row for each time that a property's value became another, in order of event time."""
    del identity
    return (
        "SELECT kind, object_id, name, value, previous, event_at AS changed_at, source_id, message_id, position, slot FROM ("
        "SELECT *, lag(value) OVER (PARTITION BY kind, object_id, name ORDER BY event_at, source_id, message_id) AS previous FROM ("
        "SELECT o.kind, o.object_id, o.name, nullif(o.value, 'null') AS value, o.event_at, o.source_id, o.message_id, o.position, "
        f"o.slot FROM store.object_observations AS o{known.format('o')})) WHERE value IS DISTINCT FROM previous"
    )


def _object_people(identity: str, known: str) -> str:
    """Who deals with which object, by the home identifiers of the events that said so."""
    return (
        "SELECT m.kind, m.object_id, i.profile_id, m.role, min(m.event_at) AS first_at, max(m.event_at) AS last_at "
        f"FROM store.object_mentions AS m JOIN {identity} AS i ON m.home_namespace = i.namespace AND m.home_value = i.value"
        f"{known.format('m') or ' WHERE true'} AND m.role <> '' GROUP BY m.kind, m.object_id, i.profile_id, m.role"
    )


_RELATIONS: Final[dict[str, Callable[[str, str], str]]] = {
    "visits": _visits,
    "objects": _objects,
    "object_history": _object_history,
    "object_people": _object_people,
}
VIEWS_OF_THINGS: Final = {name: made(_NOW, "") for name, made in _RELATIONS.items()}


def macros_of_things() -> list[str]:
    """The statements that make the relations as of a moment and a position."""
    return [
        f"CREATE MACRO store.{name}_as_of(asked_at, asked_position) AS TABLE {made(_THEN, _KNOWN)}"
        for name, made in _RELATIONS.items()
    ]
