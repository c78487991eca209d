"""Workflows with a generation number in every part, and a check that finds parts of different generations."""

from typing import Any

import psycopg

from wfe_postgres import EventSubscription, ExecutionPointer, WorkflowInstance

SUBSCRIPTIONS = 2
"""The number of subscriptions that each generation adds."""

PARTS = """
SELECT w.id, (w.data->>'generation')::int,
       coalesce(array_agg((p.persistence_data->>'generation')::int ORDER BY p.position)
                FILTER (WHERE p.id IS NOT NULL), '{}'),
       coalesce(array_agg(p.id ORDER BY p.position) FILTER (WHERE p.id IS NOT NULL), '{}'),
       (SELECT count(*) FROM wfc.event_subscriptions s WHERE s.workflow_id = w.id)
  FROM wfc.workflows w LEFT JOIN wfc.execution_pointers p ON p.workflow_id = w.id
 GROUP BY w.id
"""
ORPHANS = """
SELECT 'pointer ' || id FROM wfc.execution_pointers p
 WHERE NOT EXISTS (SELECT FROM wfc.workflows w WHERE w.id = p.workflow_id)
UNION ALL
SELECT 'subscription ' || id FROM wfc.event_subscriptions s
 WHERE NOT EXISTS (SELECT FROM wfc.workflows w WHERE w.id = s.workflow_id)
"""


def become(instance: WorkflowInstance, generation: int) -> None:
    """Set the workflow to this generation: 18 to 20 pointers, some with the ids of adjacent generations."""
    instance.data = {"generation": generation}
    instance.execution_pointers = [
        ExecutionPointer(0, id=id, persistence_data={"generation": generation}) for id in pointer_ids(generation)
    ]


def pointer_ids(generation: int) -> list[str]:
    """Return the pointer ids of a generation in their order."""
    return [f"pointer-{number}" for number in range(generation % 5, generation % 5 + 18 + generation % 3)]


def new_subscriptions(workflow_id: str, generation: int) -> list[EventSubscription]:
    """Return the subscriptions that a generation adds."""
    return [
        EventSubscription(workflow_id, 0, "pointer", "paid", "order", id=f"{workflow_id}-{generation}-{number}")
        for number in range(SUBSCRIPTIONS)
    ]


def audit(connection: "psycopg.Connection[Any]") -> dict[str, int]:
    """Return the generation of each workflow; fail if one has mixed, missing or duplicate parts."""
    found = {}
    for id, generation, pointer_generations, ids, subscriptions in connection.execute(PARTS).fetchall():
        assert set(pointer_generations) <= {generation}, (
            f"{id}: pointers of generations {set(pointer_generations)} under {generation}"
        )
        assert ids == pointer_ids(generation), f"{id}: the pointers of generation {generation} are {ids}"
        assert subscriptions == SUBSCRIPTIONS * generation, f"{id}: {subscriptions} subscriptions at {generation}"
        found[id] = generation
    assert connection.execute(ORPHANS).fetchall() == []
    return found


def first(id: str) -> WorkflowInstance:
    """Return a new workflow of generation 0."""
    instance = WorkflowInstance("audited", 1, id=id)
    become(instance, 0)
    return instance
