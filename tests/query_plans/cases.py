"""Every statement of the library, with parameters for the filled store, required indexes and a limit of rows read."""

import json

from tests.query_plans.finds import FIND_CASES, TIME, Case
from tests.query_plans.purges import PURGE_CASES
from tests.query_plans.services import SERVICE_CASES
from wfe_postgres.statements import (
    commands,
    errors,
    events,
    maintenance,
    status_changes,
    subscriptions,
    workflows,
)

EARLY = "2025-02-01T00:00:00+00:00"
LATE = "2030-01-01T00:00:00+00:00"
NOW = 1_800_000_000_000

WORKFLOW = {
    "name": "name 45000",
    "root_workflow_id": None,
    "definition_id": "definition 0",
    "version": 0,
    "description": None,
    "reference": "order",
    "status": "Suspended",
    "data": '{"order": 1}',
    "next_execution": 45000,
    "create_time": TIME,
    "complete_time": None,
}
POINTER = {
    "step_id": 1,
    "active": True,
    "status": "Complete",
    "event_published": False,
    "retry_count": 0,
    "children": [],
    "scope": [],
    "extension_attributes": {},
}
SUBSCRIPTION = {
    "workflow_id": "w45000",
    "step_id": 1,
    "execution_pointer_id": "p1",
    "event_name": "event 1",
    "event_key": "key 1",
    "subscribe_as_of": TIME,
    "subscription_data": None,
    "external_token": None,
    "external_worker_id": None,
    "external_token_expiry": None,
}
EVENT = {"event_name": "event 1", "event_key": "key 1", "event_data": "null", "event_time": TIME, "is_processed": False}
ERROR = {"workflow_id": "w1", "execution_pointer_id": "p1", "message": "wrong", "error_time": TIME}


def _pointers(*ids: str) -> str:
    return json.dumps([POINTER | {"id": id, "position": 2**40 + index} for index, id in enumerate(ids)])


SAVE = WORKFLOW | {
    "workflow_id": "w45000",
    "new_revision": 1,
    "expected_revision": None,
    "pointers": _pointers("p1", "p2", "new"),
    "removed": ["p3"],
    "kept": ["p1", "p2", "new"],
    "subscription_ids": ["new"],
    "subscriptions": json.dumps([SUBSCRIPTION | {"id": "new"}]),
}
CREATE = WORKFLOW | {"id": "new", "name": "new", "revision": 1, "pointers": _pointers("p1", "p2")}


IN_ORDER = "idx_execution_pointers_position"
BY_ID = {"workflows_pkey", IN_ORDER}
MANY = [f"w{number}" for number in range(100, 50_000, 1000)]
MATCHING = {"event_name": "event 1", "event_key": "key 1"}
TOKEN = {"subscription_id": "s1", "token": "mine", "worker_id": "me", "expiry": TIME}
COMMAND = {"command_name": "ProcessWorkflow", "data": "w700", "execute_time": 5}
CLAIM = {"as_of": NOW, "newest": 20_000, "still_there": [30, 31], "claim": 7, "lease": 30.0}
CLAIMED_COMMAND = {"command_id": 20, "claim": 20}
CHANGE = {"workflow_id": "w45000", "expected_revision": 0, "new_revision": 1}
BATCH = [f"w{number}" for number in range(1, 21)]

CASES = [
    Case("get_workflow_instance", workflows.GET, {"workflow_id": "w45000"}, BY_ID, 5),
    Case(
        "get_workflow_instance_by_name",
        workflows.GET_BY_NAME,
        {"name": "name 45000"},
        {"workflows_name_key", IN_ORDER},
        6,  # the id is looked up by the name for the pointers, too
    ),
    Case("get_workflow_instances", workflows.GET_MANY, {"workflow_ids": MANY}, BY_ID, 250),
    *(
        Case(
            "persist_workflow"
            + " with its columns" * form[0]
            + " complete" * form[1]
            + " removing" * form[2]
            + " with subscriptions" * form[3],
            statement,
            SAVE,
            BY_ID if form[1] else {"workflows_pkey", "execution_pointers_pkey"},
            10,
        )
        for form, statement in workflows.SAVES.items()
    ),
    Case("create_new_workflow", workflows.CREATE, CREATE, set(), 2),
    Case("select revision", workflows.REVISION, {"workflow_id": "w45000"}, {"workflows_pkey"}, 1),
    Case("select revision for update", workflows.LOCKED_REVISION, {"workflow_id": "w45000"}, {"workflows_pkey"}, 1),
    Case("get_runnable_instances", workflows.RUNNABLE, {"as_at": NOW, "limit": None}, {"idx_workflows_runnable"}, 500),
    Case(
        "get_runnable_instances, limit",
        workflows.RUNNABLE,
        {"as_at": NOW, "limit": 10},
        {"idx_workflows_runnable"},
        11,
    ),
    Case(
        "get_runnable_instances of definitions",
        workflows.RUNNABLE_OF_DEFINITIONS,
        {"as_at": NOW, "limit": 10, "definition_ids": ["definition 7", "definition 8"], "versions": [1, 1]},
        {"idx_workflows_runnable_definition"},
        50,
    ),
    Case("renew_workflow", status_changes.RENEW, CHANGE | {"next_execution": 5}, {"workflows_pkey"}, 1),
    Case("suspend_workflow", status_changes.SUSPEND, CHANGE, {"workflows_pkey"}, 1),
    Case("resume_workflow", status_changes.RESUME, CHANGE, BY_ID, 10),
    Case("resume_workflow, skip failed", status_changes.RESUME_AFTER_FAILED, CHANGE, BY_ID, 10),
    Case(
        "terminate_workflow",
        status_changes.TERMINATE,
        CHANGE | {"event_id": "new"},
        {"workflows_pkey", "idx_subscriptions_workflow", "scheduled_commands_command_name_data_key"},
        10,
    ),
    Case(
        "next_definition_sequence",
        workflows.NEXT_NUMBER,
        {"definition_id": "definition 7"},
        {"definition_sequences_pkey"},
        1,
    ),
    Case("create_event", events.CREATE, EVENT | {"id": "new"}, set(), 1),
    Case("create_event, after a lost answer", events.IS_STORED, EVENT | {"id": "e1"}, {"events_pkey"}, 1),
    Case("get_event", events.GET, {"event_id": "e1"}, {"events_pkey"}, 1),
    Case("get_runnable_events", events.RUNNABLE, {"as_at": LATE, "limit": None}, {"idx_events_unprocessed"}, 1000),
    Case("get_runnable_events, limit", events.RUNNABLE, {"as_at": LATE, "limit": 10}, {"idx_events_unprocessed"}, 11),
    *(
        Case(name, statement, MATCHING | {time: TIME, "limit": None}, {"idx_events_name_key_time"}, 5)
        for name, statement, time in (
            ("get_events", events.MATCHING_UNTIL, "as_of"),
            ("get_events_since", events.MATCHING_SINCE, "since"),
        )
    ),
    Case("mark_event_processed", events.MARK_PROCESSED, {"event_id": "e49500"}, {"events_pkey"}, 1),
    Case("mark_event_unprocessed", events.MARK_UNPROCESSED, {"event_id": "e1"}, {"events_pkey"}, 1),
    Case("create_event_subscription", subscriptions.CREATE, SUBSCRIPTION | {"id": "new"}, set(), 1),
    Case(
        "create_event_subscription, after a lost answer",
        subscriptions.IS_STORED,
        SUBSCRIPTION | {"id": "s1"},
        {"event_subscriptions_pkey"},
        1,
    ),
    Case("stored of", subscriptions.STORED_OF, {"subscription_ids": ["s1", "new"]}, {"event_subscriptions_pkey"}, 2),
    Case("get_subscription", subscriptions.GET, {"subscription_id": "s1"}, {"event_subscriptions_pkey"}, 1),
    Case("get_subscriptions", subscriptions.OPEN, MATCHING | {"as_of": LATE}, {"idx_subscriptions_name_key"}, 5),
    Case(
        "get_first_open_subscription",
        subscriptions.FIRST_OPEN,
        MATCHING | {"as_of": LATE},
        {"idx_subscriptions_name_key"},
        5,
    ),
    Case(
        "get_workflow_subscriptions",
        subscriptions.OF_WORKFLOW,
        {"workflow_id": "w45000"},
        {"idx_subscriptions_workflow"},
        5,
    ),
    Case("set_subscription_token", subscriptions.SET_TOKEN, TOKEN, {"event_subscriptions_pkey"}, 3),
    Case("clear_subscription_token", subscriptions.CLEAR_TOKEN, TOKEN, {"event_subscriptions_pkey"}, 3),
    Case("select token", subscriptions.TOKEN, TOKEN, {"event_subscriptions_pkey"}, 1),
    Case("terminate_subscription", subscriptions.TERMINATE, TOKEN, {"event_subscriptions_pkey"}, 1),
    Case("schedule_command", commands.SCHEDULE, COMMAND, {"scheduled_commands_command_name_data_key"}, 2),
    Case(
        "schedule_command, rescheduled",
        commands.SCHEDULE,
        COMMAND | {"data": "new"},
        {"scheduled_commands_command_name_data_key"},
        2,
    ),
    Case("select newest command", commands.NEWEST, {}, {"scheduled_commands_pkey"}, 1),
    Case(
        "claim command",
        commands.CLAIM,
        CLAIM,
        {"idx_scheduled_commands_execute_time", "scheduled_commands_pkey"},
        100,
    ),
    Case("finish command", commands.FINISH, CLAIMED_COMMAND, {"scheduled_commands_pkey"}, 1),
    Case("release command", commands.RELEASE, CLAIMED_COMMAND, {"scheduled_commands_pkey"}, 1),
    Case(
        "persist_errors",
        errors.STORE_ERRORS,
        {"errors": json.dumps([ERROR | {"nonce": 10**9 + number} for number in range(100)])},
        {"idx_errors_nonce"},
        1,
    ),
    *FIND_CASES,
    Case("get_execution_errors", errors.find_errors(frozenset()), {"limit": 100}, {"idx_errors_error_time"}, 100),
    Case(
        "get_execution_errors since",
        errors.find_errors(frozenset({"since"})),
        {"limit": 100, "since": EARLY},
        {"idx_errors_error_time"},
        100,
    ),
    Case(
        "get_execution_errors of a workflow",
        errors.find_errors(frozenset({"workflow_id"})),
        {"limit": 100, "workflow_id": "w7"},
        {"idx_errors_workflow"},
        5,
    ),
    Case(
        "get_execution_errors of a workflow since",
        errors.find_errors(frozenset({"workflow_id", "since"})),
        {"limit": 100, "workflow_id": "w7", "since": EARLY},
        {"idx_errors_workflow"},
        5,
    ),
    *(
        Case(
            f"the deletion of {len(ids)} workflows",
            maintenance.DELETE_WORKFLOWS,
            {"ids": ids},
            BY_ID | {"idx_subscriptions_workflow", "idx_errors_workflow"},
            20 * len(ids),
        )
        for ids in (["w45000"], BATCH)
    ),
    *PURGE_CASES,
    *SERVICE_CASES,
]
