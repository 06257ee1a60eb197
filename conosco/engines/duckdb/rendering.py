"""How this engine spells the neutral SQL trees of rules.compile."""

from sqlglot import exp


def render(tree: exp.Expression) -> str:
    """The tree as this engine's SQL."""
    return tree.sql(dialect="duckdb")
