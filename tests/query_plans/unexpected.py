"""Statements about rows that came after the last ANALYZE: the planner expects that there are none of them."""

from tests.query_plans.cases import CLAIM
from tests.query_plans.finds import Case
from wfe_postgres.statements import commands, events, maintenance, queries, workflows

MANY_ROWS = """
    INSERT INTO wfc.events (id, event_name, event_key, event_time, is_processed)
    SELECT 'many ' || i, 'tick', 'tock', '2025-01-01Z'::timestamptz + i * interval '1 second', true
      FROM generate_series(1, 30000) i;
    INSERT INTO wfc.events (id, event_name, event_key, event_time, is_processed)
    SELECT 'old ' || i, 'old', 'event', '2020-01-01Z'::timestamptz + i * interval '1 second', true
      FROM generate_series(1, 30000) i;
    INSERT INTO wfc.workflows (id, name, definition_id, version, status, create_time, complete_time, next_execution)
    SELECT 'many ' || i, 'many ' || i, 'many', 1, CASE i % 2 WHEN 0 THEN 'Runnable' ELSE 'Complete' END,
           '2027-01-01Z'::timestamptz + i * interval '1 second',
           CASE i % 2 WHEN 1 THEN '2027-01-01Z'::timestamptz + i * interval '1 second' END, 0
      FROM generate_series(1, 30000) i;
    INSERT INTO wfc.scheduled_commands (command_name, data, execute_time)
    SELECT 'Unexpected', i, i - 100000 FROM generate_series(1, 30000) i
"""
TICKS = {"event_name": "tick", "event_key": "tock", "limit": 10}
BATCH = {"batch_size": 1000, "id": ""}

UNEXPECTED_CASES = [
    *(
        Case(name, statement, TICKS | {time: "2025-01-01T05:00:00+00:00"}, {"idx_events_name_key_time"}, 20)
        for name, statement, time in (
            ("get_events", events.MATCHING_UNTIL, "as_of"),
            ("get_events_since", events.MATCHING_SINCE, "since"),
        )
    ),
    Case(
        "get_runnable_instances of definitions",
        workflows.RUNNABLE_OF_DEFINITIONS,
        {"as_at": 0, "limit": 10, "definition_ids": ["many"], "versions": [1]},
        {"idx_workflows_runnable_definition"},
        20,
    ),
    *(
        Case(
            f"find_workflows of a definition {times}",
            queries.find_workflows(frozenset({"definition_id", *times}), "definition_id"),
            {"limit": 101, "definition_id": "many", **times},
            {"idx_workflows_definition"},
            110,
        )
        for times in ({}, {"created_from": "2026-12-31Z"})
    ),
    Case(
        "claim command",
        commands.CLAIM,
        CLAIM | {"as_of": 0, "newest": 2**31 - 1},
        {"idx_scheduled_commands_execute_time"},
        50,
    ),
    Case(
        "purge of workflows",
        maintenance.batch(maintenance.WORKFLOWS),
        {**BATCH, "status": "Complete", "older_than": "2028-01-01Z", "complete_time": "2026-12-31Z"},
        {"idx_workflows_finished"},
        2010,
    ),
    Case(
        "purge of events",
        maintenance.batch(maintenance.EVENTS),
        {**BATCH, "older_than": "2021-01-01Z", "event_time": "-infinity"},
        {"idx_events_event_time"},
        2010,
    ),
]
