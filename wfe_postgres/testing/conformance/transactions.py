"""`transaction()`: several calls that are committed or rolled back together."""

from contextlib import suppress

import pytest

from wfe_postgres.contract.errors import ConcurrencyError, EventExistsError, WorkflowNotFoundError
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.testing.conformance.support import (
    Conformance,
    created,
    event,
    has_event,
    has_subscription,
    has_workflow,
    subscription,
    workflow,
)


class TransactionConformance(Conformance):
    """`transaction()`."""

    def test_a_block_is_committed_at_its_end(self, provider: PersistenceProvider) -> None:
        """The block sees what it wrote; afterwards everyone does."""
        happened, waiting, instance = event(), subscription(), workflow()
        with provider.transaction() as tx:
            tx.create_event(happened)
            tx.create_event_subscription(waiting)
            assert tx.get_event(happened.id) == happened
            assert created(tx, instance) == instance
        assert provider.get_event(happened.id) == happened
        assert provider.get_subscription(waiting.id) == waiting
        assert provider.get_workflow_instance(instance.id) == instance

    def test_a_block_that_raises_is_rolled_back(self, provider: PersistenceProvider) -> None:
        """Nothing of it is stored, and the exception is the block's own."""
        stored, happened, waiting = created(provider, workflow()), event(), subscription()
        with pytest.raises(LookupError, match="my own"), provider.transaction() as tx:  # noqa: PT012
            tx.create_event(happened)
            tx.create_event_subscription(waiting)
            changed = tx.get_workflow_instance(stored.id)
            changed.data = "changed"
            tx.persist_workflow(changed)
            assert created(tx, workflow(id="new")).id == "new"
            tx.next_definition_sequence("order")
            raise LookupError("my own")
        assert provider.get_workflow_instance(stored.id) == stored
        assert not has_event(provider, happened.id)
        assert not has_subscription(provider, waiting.id)
        assert not has_workflow(provider, "new")

    def test_an_instance_saved_in_a_rolled_back_block_is_stale(self, provider: PersistenceProvider) -> None:
        """Its revision is one that no stored state has, so its next save raises `ConcurrencyError`."""
        instance = created(provider, workflow())
        with suppress(LookupError), provider.transaction() as tx:
            tx.persist_workflow(instance)
            raise LookupError
        with pytest.raises(ConcurrencyError):
            provider.persist_workflow(instance)

    def test_an_inner_block_is_rolled_back_alone(self, provider: PersistenceProvider) -> None:
        """A block inside another one is a savepoint."""
        outer, inner, after = event(), event(), event()
        with provider.transaction() as tx:
            tx.create_event(outer)
            with suppress(LookupError), tx.transaction() as nested:
                nested.create_event(inner)
                raise LookupError
            tx.create_event(after)
        assert [has_event(provider, it.id) for it in (outer, inner, after)] == [True, False, True]

    def test_an_inner_block_ends_with_the_outer_one(self, provider: PersistenceProvider) -> None:
        """What an inner block wrote is rolled back with the outer one."""
        inner = event()
        with suppress(LookupError), provider.transaction() as tx:
            with tx.transaction() as nested:
                nested.create_event(inner)
            raise LookupError
        assert not has_event(provider, inner.id)

    def test_a_refusal_leaves_the_block_usable(self, provider: PersistenceProvider) -> None:
        """The errors of the contract come without a failing statement, so the block can go on after them."""
        happened, later = event(), event()
        with provider.transaction() as tx:
            tx.create_event(happened)
            with pytest.raises(EventExistsError):
                tx.create_event(event(id=happened.id))
            with pytest.raises(WorkflowNotFoundError):
                tx.get_workflow_instance("unknown")
            tx.create_event(later)
        assert [has_event(provider, it.id) for it in (happened, later)] == [True, True]
