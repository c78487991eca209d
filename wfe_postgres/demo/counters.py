"""What stands in the store's seven tables, asked of the tables themselves."""

from sqlalchemy import Engine, text

KINDS = {
    "workflows": "status",
    "execution_pointers": "status",
    "events": "CASE WHEN is_processed THEN 'processed' ELSE 'not processed' END",
    "event_subscriptions": "event_name",
    "scheduled_commands": "command_name",
    "execution_errors": "message",
    "definition_sequences": "'definition: ' || definition_id || ' is at ' || next_num",
}
"""Each table, and the SQL expression by which its rows are sorted into kinds."""


def tally(engine: Engine, schema: str) -> list[tuple[str, int, str]]:
    """(table, number of rows, how many of which kind) for each of the seven. `schema` needs no quoting."""
    rows: list[tuple[str, int, str]] = []
    with engine.connect() as connection:
        for table, kind in KINDS.items():
            query = f"SELECT {kind}, count(*) FROM {schema}.{table} GROUP BY 1 ORDER BY 2 DESC, 1"
            counts = [(str(name), int(count)) for name, count in connection.execute(text(query))]
            kinds = ", ".join(f"{count} {name}" for name, count in counts)
            rows.append((table, sum(count for _, count in counts), kinds))
    return rows
