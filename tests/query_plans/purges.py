"""The statements of the purges, with the indexes that each must use."""

from tests.query_plans.finds import TIME, Case
from wfe_postgres.statements import maintenance
from wfe_postgres.statements.maintenance import Purge

DUE = {"older_than": TIME, "older_than_ms": 9_100_000_000_000, "batch_size": 1000}
FAMILY = {"workflows_pkey", "idx_workflows_open_members"}
ORPHANS_BY = (
    "event_subscriptions_pkey",
    "idx_errors_error_time",
    "scheduled_commands_command_name_data_key",
    "scheduled_commands_command_name_data_key",
)


def _look(name: str, purge: Purge, *indexes: str, rows: int, **values: str) -> list[Case]:
    """A batch from the start, and one from a place within."""
    start = {column.key: value for column, value in zip(purge.order, purge.start, strict=True)}
    later = {key: LATER.get(key, 10_000 if value == -1 else "w3") for key, value in start.items()}
    statement = maintenance.batch(purge)
    return [
        Case(f"{name}, {place}", statement, {**DUE, **values, **after}, set(indexes), rows)
        for place, after in (("first batch", start), ("later batch", later))
    ]


LATER: dict[str, object] = dict.fromkeys(("complete_time", "event_time", "error_time"), "2025-03-01T00:00:00+00:00")
PURGE_CASES = [
    *_look(
        "complete workflows", maintenance.WORKFLOWS, "idx_workflows_finished", *FAMILY, rows=2700, status="Complete"
    ),
    *_look("terminated ones", maintenance.WORKFLOWS, "idx_workflows_finished", *FAMILY, rows=2700, status="Terminated"),
    *_look("old events", maintenance.EVENTS, "idx_events_event_time", "events_pkey", rows=2100),
    *_look("old errors", maintenance.ERRORS, "idx_errors_error_time", "execution_errors_pkey", rows=2100),
    *(
        case
        for number, (purge, index) in enumerate(zip(maintenance.ORPHANS, ORPHANS_BY, strict=True))
        for case in _look(
            f"orphans {number}",
            purge,
            index,
            f"{purge.table.name}_pkey",
            rows=3010,
        )
    ),
    *(
        Case(f"deletion of {name}", purge.deletion, {"ids": ids}, {f"{name}_pkey"}, 2)
        for name, purge, ids in (
            ("events", maintenance.EVENTS, ["e1", "e2"]),
            ("execution_errors", maintenance.ERRORS, [1, 2]),
            ("event_subscriptions", maintenance.ORPHANS[0], ["s1", "s2"]),
            ("scheduled_commands", maintenance.ORPHANS[2], [1, 2]),
        )
    ),
]
