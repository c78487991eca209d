"""Stores what the executor has changed: one call, or one transaction."""

from contextlib import suppress

from wfe_postgres.contract.errors import (
    ConcurrencyError,
    PersistenceError,
    SubscriptionNotFoundError,
    WorkflowExistsError,
    WorkflowNotFoundError,
)
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import WorkflowInstance
from wfe_postgres.host.changes import Changes
from wfe_postgres.host.environment import Environment
from wfe_postgres.host.outage import Outage, is_transient


class LeaseLostError(Exception):
    """Somebody else has changed the workflow (a host, or who suspended or terminated it), or has its lock."""


def store(provider: PersistenceProvider, instance: WorkflowInstance, changes: Changes) -> None:
    """Save the instance and the changes in one transaction. Raises what `persist_workflow` raises."""
    if not changes.are_simple:
        with provider.transaction() as tx:
            store_joined(tx, instance, changes)
    elif changes.subscriptions:
        provider.persist_workflow_with_subscriptions(instance, changes.subscriptions)
    else:
        provider.persist_workflow(instance)


def store_joined(tx: PersistenceProvider, instance: WorkflowInstance, changes: Changes) -> None:
    """As `store`, by a provider that is in a transaction."""
    if changes.subscriptions:
        tx.persist_workflow_with_subscriptions(instance, changes.subscriptions)
    else:
        tx.persist_workflow(instance)
    for id in changes.ended_subscriptions:
        with suppress(SubscriptionNotFoundError):
            tx.terminate_subscription(id)
    for child in changes.children:
        _create_child(tx, child)
    for event in changes.events:
        tx.create_event(event, if_new=True)
    if changes.errors:
        tx.persist_errors(changes.errors)


def _create_child(tx: PersistenceProvider, child: WorkflowInstance) -> None:
    """A child that was created before is left as it is."""
    with suppress(WorkflowNotFoundError):
        tx.get_workflow_instance(child.id)
        return
    with suppress(WorkflowExistsError):
        tx.create_new_workflow(child)


def reload(provider: PersistenceProvider, instance: WorkflowInstance, outage: Outage) -> WorkflowInstance:
    """The workflow as it was claimed. Raises `LeaseLostError` if somebody has changed it since."""
    try:
        stored = outage.outlast(lambda: provider.get_workflow_instance(instance.id))
    except WorkflowNotFoundError:
        raise LeaseLostError from None
    if stored.revision != instance.revision:
        raise LeaseLostError
    return stored


def store_surely(environment: Environment, instance: WorkflowInstance, changes: Changes) -> None:
    """As `store`, however long the database is unavailable: the save is repeated if the revision still stands.

    Raises `LeaseLostError` if somebody else has changed the workflow or its lock was lost, and what the store refuses
    for good.
    """
    provider, outage = environment.provider, environment.outage
    claimed = instance.revision
    while True:
        if not environment.holds(instance.id):  # whoever has the lock now may overwrite without looking
            raise LeaseLostError
        try:
            store(provider, instance, changes)
        except (ConcurrencyError, WorkflowNotFoundError):
            raise LeaseLostError from None
        except PersistenceError as error:
            if not is_transient(error):
                raise
            outage.begin(error)
        else:
            outage.end()
            return
        instance.revision = claimed
        stored = outage.outlast(lambda: provider.get_workflow_instance(instance.id))
        if stored == instance and stored.revision != claimed:
            instance.revision = stored.revision
            return
        if stored.revision != claimed:
            raise LeaseLostError
