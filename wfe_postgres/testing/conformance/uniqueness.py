"""Unique ids and names. A violation aborts a surrounding transaction, so each call needs its own transaction."""

import pytest

from wfe_postgres.contract.errors import EventExistsError, PersistenceError, SubscriptionExistsError
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.testing.conformance.support import (
    Conformance,
    at,
    created,
    event,
    has_subscription,
    state,
    subscription,
    workflow,
)


class UniquenessConformance(Conformance):
    """Violations of unique constraints."""

    def test_an_id_is_stored_once(self, provider: PersistenceProvider) -> None:
        """A duplicate id raises `EventExistsError` or `SubscriptionExistsError`, and nothing is written."""
        happened, waiting = event(), subscription()
        provider.create_event(happened)
        provider.create_event_subscription(waiting)
        with pytest.raises(EventExistsError) as refused:
            provider.create_event(event(id=happened.id, event_data="other"))
        assert refused.value.event_id == happened.id
        with pytest.raises(SubscriptionExistsError) as caught:
            provider.create_event_subscription(subscription(id=waiting.id, step_id=2))
        assert caught.value.subscription_id == waiting.id
        assert provider.get_event(happened.id) == happened
        assert provider.get_subscription(waiting.id) == waiting

    def test_a_save_does_not_take_anothers_name(self, provider: PersistenceProvider) -> None:
        """A save with the name of another workflow raises `PersistenceError`; nothing is written."""
        provider.create_new_workflow(workflow(name="taken"))
        instance = created(provider, workflow(name="mine"))
        stored = provider.get_workflow_instance(instance.id)
        instance.name, instance.data = "taken", "changed"
        before = state(instance)
        with pytest.raises(PersistenceError) as caught:
            provider.persist_workflow(instance)
        assert caught.value.constraint
        assert state(instance) == before
        assert provider.get_workflow_instance_by_name("mine") == stored

    def test_a_subscription_that_is_stored_stops_the_save(self, provider: PersistenceProvider) -> None:
        """If the id of one subscription is a duplicate, neither the workflow nor the other subscriptions are saved."""
        taken = subscription()
        provider.create_event_subscription(taken)
        instance = created(provider, workflow())
        stored = provider.get_workflow_instance(instance.id)
        instance.data = "changed"
        instance.execution_pointers.pop(0)
        empty, rival = subscription(id="", event_key="other"), subscription(id=taken.id, step_id=2)
        before = state(instance)
        with pytest.raises(SubscriptionExistsError) as caught:
            provider.persist_workflow_with_subscriptions(instance, [empty, rival])
        assert caught.value.subscription_id == taken.id
        assert (state(instance), empty.id) == (before, "")
        assert provider.get_workflow_instance(instance.id) == stored
        assert provider.get_subscriptions("paid", "other", at(0)) == []
        assert provider.get_subscription(taken.id) == taken
        provider.persist_workflow_with_subscriptions(instance, [empty])
        assert provider.get_workflow_instance(instance.id) == instance
        assert has_subscription(provider, empty.id)
