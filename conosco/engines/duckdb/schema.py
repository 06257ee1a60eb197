"""What lies in the warehouse: the append-only tables of schema ``store`` and the documented views over them."""

import hashlib
from typing import Final, Literal

import msgspec

from conosco.engines.duckdb.things import VIEWS_OF_THINGS, macros_of_things

ColumnType = Literal["BIGINT", "INTEGER", "BOOLEAN", "VARCHAR", "TIMESTAMP"]


class StoreTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table of schema ``store``.

    ``key`` names what the rows are versions of: the current row of each key is the newest by ``newest``, and the versions
    that are no longer current are listed in a table of their own, so that nothing is ever changed in place. A table
    without a key holds facts that have no versions. Versioned tables get a column ``version``: the order of arrival.
    """

    name: str
    columns: tuple[tuple[str, ColumnType], ...]
    key: tuple[str, ...] = ()
    newest: tuple[str, ...] = ("position",)

    @property
    def superseded(self) -> str:
        """The table that lists the versions that are no longer current."""
        return f"{self.name.removesuffix('_versions')}_superseded"

    @property
    def stored(self) -> tuple[tuple[str, ColumnType], ...]:
        """The columns as they lie on disk."""
        return (*self.columns, ("version", "BIGINT")) if self.key else self.columns

    @property
    def shape(self) -> str:
        """The structure of a JSON list of rows, as ``from_json`` takes it. Moments travel as microseconds."""
        types = {name: "BIGINT" if kind == "TIMESTAMP" else kind for name, kind in self.stored}
        return msgspec.json.encode([types]).decode()

    @property
    def insert(self) -> str:
        """A statement that appends the rows of one JSON parameter."""
        read = ", ".join(
            f'make_timestamp(r."{name}") AS "{name}"' if kind == "TIMESTAMP" else f'r."{name}"' for name, kind in self.stored
        )
        return f"INSERT INTO store.{self.name} BY NAME SELECT {read} FROM (SELECT unnest(from_json(?, '{self.shape}')) AS r)"

    @property
    def supersede(self) -> str:
        """A statement that lists what the versions after a given one have superseded."""
        keys = ", ".join(self.key)
        order = ", ".join(f"{name} DESC" for name in (*self.newest, "version"))
        return (
            f"INSERT INTO store.{self.superseded} "
            f"SELECT version FROM (SELECT version, row_number() OVER (PARTITION BY {keys} ORDER BY {order}) AS age "
            f"FROM store.{self.name} SEMI JOIN (SELECT DISTINCT {keys} FROM store.{self.name} WHERE version > ?) "
            f"USING ({keys})) WHERE age > 1 AND version NOT IN (SELECT version FROM store.{self.superseded})"
        )


EVENTS: Final = StoreTable(
    name="events",
    columns=(
        ("position", "BIGINT"),
        ("slot", "INTEGER"),
        ("message_id", "VARCHAR"),
        ("source_id", "VARCHAR"),
        ("type", "VARCHAR"),
        ("event", "VARCHAR"),
        ("home_namespace", "VARCHAR"),
        ("home_value", "VARCHAR"),
        ("event_at", "TIMESTAMP"),
        ("logged_at", "TIMESTAMP"),
        ("received_at", "TIMESTAMP"),
        ("sent_at", "TIMESTAMP"),
        ("original_at", "TIMESTAMP"),
        ("historical", "BOOLEAN"),
        ("user_id", "VARCHAR"),
        ("anonymous_id", "VARCHAR"),
        ("group_id", "VARCHAR"),
        ("properties", "VARCHAR"),
        ("traits", "VARCHAR"),
        ("context", "VARCHAR"),
        ("property_keys", "VARCHAR"),
        ("schema", "INTEGER"),
        ("automated", "BOOLEAN"),
    ),
)
OBSERVATIONS: Final = StoreTable(
    name="observations",
    columns=(
        ("position", "BIGINT"),
        ("slot", "INTEGER"),
        ("home_namespace", "VARCHAR"),
        ("home_value", "VARCHAR"),
        ("name", "VARCHAR"),
        ("value", "VARCHAR"),
        ("value_keys", "VARCHAR"),
        ("priority", "BIGINT"),
        ("event_at", "TIMESTAMP"),
        ("source_id", "VARCHAR"),
        ("message_id", "VARCHAR"),
    ),
)
IDENTIFIERS: Final = StoreTable(
    name="identifier_versions",
    columns=(
        ("namespace", "VARCHAR"),
        ("value", "VARCHAR"),
        ("profile_id", "VARCHAR"),
        ("first_seen_at", "TIMESTAMP"),
        ("value_keys", "VARCHAR"),
        ("position", "BIGINT"),
        ("ordinal", "BIGINT"),
    ),
    key=("namespace", "value"),
    newest=("position", "ordinal"),
)
LINKS: Final = StoreTable(
    name="link_versions",
    columns=(
        ("left_namespace", "VARCHAR"),
        ("left_value", "VARCHAR"),
        ("right_namespace", "VARCHAR"),
        ("right_value", "VARCHAR"),
        ("kind", "VARCHAR"),
        ("first_seen_at", "TIMESTAMP"),
        ("position", "BIGINT"),
        ("evidence", "VARCHAR"),
        ("refused_by", "VARCHAR"),
        ("retracted_position", "BIGINT"),
        ("link_id", "VARCHAR"),
        ("changed_position", "BIGINT"),
    ),
    key=("left_namespace", "left_value", "right_namespace", "right_value", "kind", "link_id"),
    newest=("changed_position",),
)
MEMBERSHIPS: Final = StoreTable(
    name="membership_versions",
    columns=(
        ("profile_id", "VARCHAR"),
        ("segment", "VARCHAR"),
        ("entered_at", "TIMESTAMP"),
        ("exited_at", "TIMESTAMP"),
        ("because", "VARCHAR"),
        ("exit_because", "VARCHAR"),
        ("backfill", "BOOLEAN"),
        ("entered_position", "BIGINT"),
        ("ordinal", "BIGINT"),
        ("position", "BIGINT"),
    ),
    key=("profile_id", "entered_position", "ordinal"),
)
DELIVERIES: Final = StoreTable(
    name="delivery_versions",
    columns=(
        ("delivery_id", "VARCHAR"),
        ("destination", "VARCHAR"),
        ("profile_id", "VARCHAR"),
        ("segment", "VARCHAR"),
        ("type", "VARCHAR"),
        ("state", "VARCHAR"),
        ("attempts", "BIGINT"),
        ("code", "VARCHAR"),
        ("created_at", "TIMESTAMP"),
        ("updated_at", "TIMESTAMP"),
        ("position", "BIGINT"),
    ),
    key=("delivery_id",),
)
OUTCOMES: Final = StoreTable(
    name="outcome_versions",
    columns=(
        ("position", "BIGINT"),
        ("slot", "INTEGER"),
        ("message_id", "VARCHAR"),
        ("source_id", "VARCHAR"),
        ("outcome", "VARCHAR"),
        ("reason", "VARCHAR"),
        ("params", "VARCHAR"),
        ("decided_at", "TIMESTAMP"),
        ("attempts", "BIGINT"),
        ("changed_position", "BIGINT"),
    ),
    key=("position", "slot"),
    newest=("changed_position",),
)
# The events that make up visits, with what each tells of page, campaign and device; of most columns there are few values.
TOUCHES: Final = StoreTable(
    name="touches",
    columns=(
        ("position", "BIGINT"),
        ("slot", "INTEGER"),
        ("device_namespace", "VARCHAR"),
        ("device_value", "VARCHAR"),
        ("home_namespace", "VARCHAR"),
        ("home_value", "VARCHAR"),
        ("event_at", "TIMESTAMP"),
        ("source_id", "VARCHAR"),
        ("message_id", "VARCHAR"),
        ("is_page", "BOOLEAN"),
        *((name, "VARCHAR") for name in ("page", "referrer")),
        *((name, "VARCHAR") for name in ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "click_id")),
        *((name, "VARCHAR") for name in ("browser", "browser_version", "os", "os_version", "device", "country")),
    ),
)
# One row for each role that an event gives its person with an object; an empty role where it gives none.
OBJECT_MENTIONS: Final = StoreTable(
    name="object_mentions",
    columns=(
        ("position", "BIGINT"),
        ("slot", "INTEGER"),
        ("kind", "VARCHAR"),
        ("object_id", "VARCHAR"),
        ("role", "VARCHAR"),
        ("home_namespace", "VARCHAR"),
        ("home_value", "VARCHAR"),
        ("event_at", "TIMESTAMP"),
        ("source_id", "VARCHAR"),
        ("message_id", "VARCHAR"),
    ),
)
OBJECT_OBSERVATIONS: Final = StoreTable(
    name="object_observations",
    columns=(
        ("position", "BIGINT"),
        ("slot", "INTEGER"),
        ("kind", "VARCHAR"),
        ("object_id", "VARCHAR"),
        ("name", "VARCHAR"),
        ("value", "VARCHAR"),
        ("home_namespace", "VARCHAR"),
        ("home_value", "VARCHAR"),
        ("event_at", "TIMESTAMP"),
        ("source_id", "VARCHAR"),
        ("message_id", "VARCHAR"),
    ),
)
TABLES: Final = {
    table.name: table
    for table in (
        EVENTS,
        OBSERVATIONS,
        IDENTIFIERS,
        LINKS,
        MEMBERSHIPS,
        DELIVERIES,
        OUTCOMES,
        TOUCHES,
        OBJECT_MENTIONS,
        OBJECT_OBSERVATIONS,
    )
}


def _current(table: StoreTable) -> str:
    """The current versions of a table's rows."""
    return f"SELECT * FROM store.{table.name} ANTI JOIN store.{table.superseded} USING (version)"


def _empty(**columns: str) -> str:
    """A relation without rows: a documented table that nothing fills yet."""
    return "SELECT " + ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in columns.items()) + " WHERE false"


# Views that only other views read.
INNER_VIEWS: Final = {
    "identifiers_now": _current(IDENTIFIERS) + " WHERE profile_id <> ''",
    # A trait is the observation that wins among all identifiers of a person; JSON null makes it absent.
    "declared_traits": (
        "SELECT profile_id, name, won.value AS value, 'declared' AS kind, won.source_id AS source_id, "
        "won.observed_at AS observed_at FROM ("
        "SELECT i.profile_id, o.name, arg_max({'value': o.value, 'source_id': o.source_id, 'observed_at': o.event_at}, "
        "row(o.priority, o.event_at, o.source_id, o.message_id)) AS won "
        "FROM store.observations AS o "
        "JOIN store.identifiers_now AS i ON o.home_namespace = i.namespace AND o.home_value = i.value "
        "GROUP BY i.profile_id, o.name) WHERE won.value <> 'null'"
    ),
}
DOCUMENTED_VIEWS: Final = {
    "events": (
        "SELECT e.position, e.slot, e.message_id, e.source_id, e.type, e.event, e.home_namespace, e.home_value, "
        "i.profile_id, e.event_at, e.logged_at, e.received_at, e.sent_at, e.original_at, e.historical, e.user_id, "
        "e.anonymous_id, e.group_id, e.properties, e.traits, e.context, e.schema, e.automated FROM store.events AS e "
        "LEFT JOIN store.identifiers_now AS i ON e.home_namespace = i.namespace AND e.home_value = i.value"
    ),
    "profiles": (
        "SELECT i.profile_id, min(i.first_seen_at) AS first_seen_at, max(s.last_event_at) AS last_seen_at, "
        "count(*) AS identifier_count FROM store.identifiers_now AS i LEFT JOIN ("
        "SELECT home_namespace, home_value, max(event_at) AS last_event_at FROM store.events GROUP BY ALL) AS s "
        "ON s.home_namespace = i.namespace AND s.home_value = i.value GROUP BY i.profile_id"
    ),
    "identifiers": "SELECT profile_id, namespace, value, first_seen_at FROM store.identifiers_now",
    "links": (
        "SELECT left_namespace, left_value, right_namespace, right_value, kind, first_seen_at, position, evidence, "
        f"refused_by, retracted_position, link_id FROM ({_current(LINKS)})"
    ),
    "memberships": (
        "SELECT profile_id, segment, entered_at, exited_at, because, backfill, entered_position AS position, exit_because "
        f"FROM ({_current(MEMBERSHIPS)})"
    ),
    "deliveries": (
        "SELECT delivery_id, destination, profile_id, segment, type, state, attempts, code, created_at, updated_at, position "
        f"FROM ({_current(DELIVERIES)})"
    ),
    "outcomes": (
        f"SELECT message_id, source_id, outcome, reason, position, slot, decided_at, params, attempts FROM ({_current(OUTCOMES)})"
    ),
    **VIEWS_OF_THINGS,
    "consents": _empty(
        consent_id="VARCHAR",
        profile_id="VARCHAR",
        namespace="VARCHAR",
        value="VARCHAR",
        contact_point="VARCHAR",
        purpose="VARCHAR",
        channel="VARCHAR",
        status="VARCHAR",
        basis="VARCHAR",
        given_at="TIMESTAMP",
        expires_at="TIMESTAMP",
        jurisdiction="VARCHAR",
        notice="VARCHAR",
        source_id="VARCHAR",
        evidence="VARCHAR",
        position="BIGINT",
    ),
    "enrollments": _empty(
        enrollment_id="VARCHAR",
        profile_id="VARCHAR",
        journey="VARCHAR",
        journey_version="BIGINT",
        step_id="VARCHAR",
        entered_at="TIMESTAMP",
        exited_at="TIMESTAMP",
        because="VARCHAR",
        position="BIGINT",
    ),
    "decisions": _empty(
        decision_id="VARCHAR",
        profile_id="VARCHAR",
        placement="VARCHAR",
        action="VARCHAR",
        decided_at="TIMESTAMP",
        reason="VARCHAR",
        position="BIGINT",
    ),
}
# Made anew by ``define``, for it takes in the computed traits.
TRAITS_VIEW: Final = "traits"
DOCUMENTED: Final = frozenset({*DOCUMENTED_VIEWS, TRAITS_VIEW})


def statements() -> list[str]:
    """Everything that makes an empty warehouse. No keys and no indexes: rows are found by scanning, which cannot go stale."""
    made = ["CREATE SCHEMA store", "CREATE SCHEMA computed"]
    for table in TABLES.values():
        columns = ", ".join(f'"{name}" {kind}' for name, kind in table.stored)
        made.append(f"CREATE TABLE store.{table.name} ({columns})")
        if table.key:
            made.append(f"CREATE TABLE store.{table.superseded} (version BIGINT)")
    made.append("CREATE TABLE store.progress (batch_id BIGINT, as_of BIGINT, warehoused BIGINT, version BIGINT)")
    made.append("INSERT INTO store.progress VALUES (0, 0, 0, 0)")
    made.append("CREATE TABLE store.definitions (name VARCHAR, body VARCHAR)")
    made.extend(f"CREATE VIEW store.{name} AS {body}" for name, body in INNER_VIEWS.items())
    made.extend(f"CREATE VIEW main.{name} AS {body}" for name, body in DOCUMENTED_VIEWS.items())
    made.extend(macros_of_things())
    made.append(traits_view({}))
    return made


def layout() -> str:
    """A digest of all of them. A file of another layout is begun anew: its owner fills it again from the log."""
    return hashlib.blake2b("\n".join(statements()).encode(), digest_size=16).hexdigest()


def traits_view(values: dict[str, str]) -> str:
    """The view ``traits``: what sources declared, and each computed trait. ``values`` maps a name to its value's expression."""
    parts = ["SELECT profile_id, name, value, kind, source_id, observed_at FROM store.declared_traits"]
    parts.extend(
        f"SELECT profile_id, '{name}', {value}, 'computed', CAST(NULL AS VARCHAR), CAST(NULL AS TIMESTAMP) "
        f'FROM computed."{name}" WHERE value IS NOT NULL'
        for name, value in values.items()
    )
    return f"CREATE OR REPLACE VIEW main.{TRAITS_VIEW} AS " + " UNION ALL ".join(parts)


def copied_tables() -> list[str]:
    """The names, in schema ``store``, of all tables with rows that a rewritten file takes over."""
    names = ["progress", "definitions"]
    for table in TABLES.values():
        names.append(table.name)
        if table.key:
            names.append(table.superseded)
    return names
