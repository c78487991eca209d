"""Row counts of the store's seven tables."""

from sqlalchemy import Engine, text

KINDS = {
    "workflows": "status",
    "execution_pointers": "status",
    "events": "CASE WHEN is_processed THEN 'processed' ELSE 'not processed' END",
    "event_subscriptions": "event_name",
    "scheduled_commands": "command_name",
    "execution_errors": "split_part(message, ':', 1)",
    "definition_sequences": "'definition: ' || definition_id || ' is at ' || next_num",
}
"""Each table, and the SQL expression that groups its rows."""


def row_counts(engine: Engine, schema: str) -> list[tuple[str, int, str]]:
    """(table, number of rows, number of rows by kind) for each table. `schema` must not need quoting."""
    rows: list[tuple[str, int, str]] = []
    with engine.connect() as connection:
        for table, kind in KINDS.items():
            query = f"SELECT {kind}, count(*) FROM {schema}.{table} GROUP BY 1 ORDER BY 2 DESC, 1"
            counts = [(str(name), int(count)) for name, count in connection.execute(text(query))]
            kinds = ", ".join(f"{count} {name}" for name, count in counts)
            rows.append((table, sum(count for _, count in counts), kinds))
    return rows
