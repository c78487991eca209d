"""A trigger of the application's own that suppresses the UPDATE of a workflow: an error, and no endless loop."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.conftest import Sql
from wfe_postgres import ConcurrencyError, PostgresPersistenceProvider, WorkflowInstance
from wfe_postgres.testing.conformance.support import created, subscription, workflow

Provider = PostgresPersistenceProvider

CALLS: dict[str, Callable[[Provider, WorkflowInstance], object]] = {
    "save": lambda it, instance: it.persist_workflow(instance),
    "unconditional save": lambda it, instance: it.persist_workflow(replace(instance, revision=None)),
    "save with subscriptions": lambda it, instance: it.persist_workflow_with_subscriptions(instance, [subscription()]),
    "suspend": lambda it, instance: it.suspend_workflow(instance.id),
    "renew": lambda it, instance: it.renew_workflow(instance.id, instance.revision or 0, 5),
}
SUPPRESS = """
CREATE FUNCTION public.suppress() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER suppress BEFORE UPDATE ON wfc.workflows FOR EACH ROW EXECUTE FUNCTION public.suppress()
"""


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_write_whose_update_is_suppressed_is_refused(
    provider: Provider, sql: Sql, call: Callable[[Provider, WorkflowInstance], object]
) -> None:
    instance = created(provider, workflow())
    sql(SUPPRESS)
    try:
        with pytest.raises(ConcurrencyError) as caught:
            call(provider, instance)
    finally:
        sql("DROP FUNCTION public.suppress CASCADE")
    assert caught.value.expected == caught.value.found == instance.revision
    assert provider.get_workflow_instance(instance.id) == instance
