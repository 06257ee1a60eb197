"""Which SQL may be asked by people and programs: one SELECT over the documented views and its own named steps.

The judgement is made on the tree of DuckDB's own parser, so that no second parser can read a text otherwise than the one
that runs it. The database is locked down besides (no files, no network, no settings): this is the inner of two walls.
"""

from collections.abc import Iterator
from typing import Any, Final

import duckdb
import msgspec

from conosco.engines.duckdb.schema import DOCUMENTED
from conosco.ports.warehouse import QueryFailed

SQL_CHARACTERS_MAX: Final = 100_000
# What one call may make of one value: texts and lists are not counted by the engine's memory limit.
GROWTH_MAX: Final = 100_000
DETAIL_CHARACTERS_MAX: Final = 300

_NODES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE", "VALUES_NODE"})
_RELATIONS: Final = frozenset({"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "PIVOT", "CTE"})
_TABLE_FUNCTIONS: Final = frozenset({"unnest", "range", "generate_series"})
# Functions that make something long from a number, and which of their arguments say how long.
_GROWING: Final[dict[str, tuple[int, ...]]] = {
    "repeat": (1,),
    "lpad": (1,),
    "rpad": (1,),
    "list_resize": (1,),
    "array_resize": (1,),
    "range": (0, 1, 2),
    "generate_series": (0, 1, 2),
}
_REFUSED_PREFIXES: Final = ("__internal", "duckdb_", "pg_", "has_", "inet_", "st_", "variant_", "json_serialize", "json_execute")
# What tells of the server, waits, writes, takes apart internal states, or takes time with the square of its input.
_REFUSED_FUNCTIONS: Final = frozenset(
    """
    bar bitstring_byte_comparable cast_to_type col_description combine create_sort_key currval current_connection_id
    current_query current_query_id current_setting current_transaction_id damerau_levenshtein editdist3 finalize format
    get_block_size getvariable in_search_path index_key invoke jaro_similarity jaro_winkler_similarity
    json_deserialize_sql levenshtein make_type nextval obj_description parse_duckdb_log_message printf remap_struct
    replace_type setseed setval shobj_description sleep_ms stats timetz_byte_comparable to_aggregate_state txid_current
    vector_type version write_log
    """.split()
)


def admit(cursor: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    """The statement to run for an untrusted text.

    Raises QueryFailed: ``query_unreadable`` for what is no SQL, ``query_refused`` (what, name) for what may not be asked.
    """
    if len(sql) > SQL_CHARACTERS_MAX:
        raise refused("length", str(SQL_CHARACTERS_MAX))
    if "\x00" in sql:
        # Where a text ends must not be a matter of opinion.
        raise QueryFailed("query_unreadable", detail="zero byte")
    tree = _parse(cursor, sql)
    statements = cursor.extract_statements(sql)
    if len(tree) != 1 or len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise refused("statement", "one SELECT")
    steps = {name.lower() for part in _parts(tree) for name in _step_names(part)}
    if clash := steps & _catalog_names(cursor):
        # Elsewhere in the text the same name would mean what lies in the catalog.
        raise refused("name", min(clash))
    for part in _parts(tree):
        _judge(part, steps)
    return statements[0]


def refused(what: str, name: str) -> QueryFailed:
    """The refusal of a kind of thing (statement, relation, function, ...) by its name."""
    return QueryFailed("query_refused", what=what, name=name[:DETAIL_CHARACTERS_MAX])


def _parse(cursor: duckdb.DuckDBPyConnection, sql: str) -> list[Any]:
    row = cursor.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    try:
        parsed = msgspec.json.decode(row[0] if row else b"{}")
    except (RecursionError, msgspec.DecodeError):
        raise refused("nesting", "too deep") from None
    if not parsed.get("error"):
        return list(parsed["statements"])
    if parsed.get("error_type") == "not implemented":
        raise refused("statement", "one SELECT")
    raise QueryFailed("query_unreadable", detail=str(parsed.get("error_message", ""))[:DETAIL_CHARACTERS_MAX])


def _parts(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of the tree."""
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def _step_names(part: dict[str, Any]) -> list[str]:
    """The names of the steps (CTEs) that a query node brings along."""
    steps = part.get("cte_map")
    return [str(entry["key"]) for entry in steps["map"]] if isinstance(steps, dict) else []


def _catalog_names(cursor: duckdb.DuckDBPyConnection) -> set[str]:
    """All relations of the catalog, those of the engine itself included, but for the documented ones."""
    rows = cursor.execute(
        "SELECT lower(view_name) FROM duckdb_views() UNION SELECT lower(table_name) FROM duckdb_tables()"
    ).fetchall()
    return {str(name) for (name,) in rows} - DOCUMENTED


def _judge(part: dict[str, Any], steps: set[str]) -> None:
    kind = str(part.get("type", ""))
    if part.get("class") in ("FUNCTION", "WINDOW") and "function_name" in part:
        _judge_function(part)
    elif "cte_map" in part or kind.endswith("_NODE"):
        if kind not in _NODES:
            raise refused("statement", "one SELECT")
    elif "sample" in part and "class" not in part:
        _judge_relation(part, kind, steps)


def _judge_relation(part: dict[str, Any], kind: str, steps: set[str]) -> None:
    if kind not in _RELATIONS:
        raise refused("relation", kind.lower())
    if kind == "TABLE_FUNCTION":
        name = str(part["function"].get("function_name", "")).lower()
        if name not in _TABLE_FUNCTIONS:
            raise refused("function", name)
        # As a relation it streams its rows, so that its length needs no limit.
        part["function"]["class"] = "RELATION"
    elif kind == "BASE_TABLE":
        path = [str(name).lower() for name in part["qualified_name"]["path"]]
        is_documented = path[-1] in DOCUMENTED and path[:-1] in ([], ["main"])
        if not is_documented and not (len(path) == 1 and path[0] in steps):
            raise refused("relation", ".".join(path))


def _judge_function(part: dict[str, Any]) -> None:
    name = str(part["function_name"]).lower()
    if name in _REFUSED_FUNCTIONS or name.startswith(_REFUSED_PREFIXES):
        raise refused("function", name)
    arguments = part.get("arguments", [])
    for index in _GROWING.get(name, ()):
        if index < len(arguments) and not _is_modest(arguments[index]["expression"]):
            raise refused("function", name)


def _is_modest(argument: dict[str, Any]) -> bool:
    """Whether an argument is a whole number, written out, that is not large."""
    literal = argument.get("literal")
    text = str(literal.get("text", "")) if isinstance(literal, dict) else ""
    return text.isdecimal() and len(text) <= 9 and int(text) <= GROWTH_MAX
