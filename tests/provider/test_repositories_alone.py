"""Repositories created directly from a Session or a sessionmaker, without a provider."""

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from wfe_postgres import (
    PostgresEventRepository,
    PostgresPersistenceProvider,
    PostgresScheduledCommandRepository,
    PostgresSubscriptionRepository,
    PostgresWorkflowRepository,
    SerializationError,
    WorkflowExistsError,
)
from wfe_postgres.testing.conformance.support import at, command, from_now, has_event, subscription, workflow
from wfe_postgres.testing.conformance.support import event as published

Provider = PostgresPersistenceProvider


def test_repositories_join_the_transaction_of_a_session(provider: Provider, app_engine: Engine) -> None:
    """Their writes are committed and rolled back with the session."""
    with Session(app_engine) as session:
        instance = workflow()
        PostgresWorkflowRepository(session).create_new_workflow(instance)
        PostgresEventRepository(session).create_event(published(id="event-1"))
        PostgresSubscriptionRepository(session).create_event_subscription(subscription(id="subscription-1"))
        commands = PostgresScheduledCommandRepository(session, command_lease=5)
        commands.schedule_command(command("a"))
        assert commands.process_commands(at(1), lambda _: None) == 1
        assert not has_event(provider, "event-1")
        session.commit()
        PostgresEventRepository(session).mark_event_processed("event-1")
        session.rollback()
    assert provider.get_workflow_instance(instance.id) == instance
    assert not provider.get_event("event-1").is_processed
    assert provider.get_subscription("subscription-1").event_name == "paid"


def test_repositories_with_a_sessionmaker_commit_each_call(provider: Provider, app_engine: Engine) -> None:
    """Each call runs in its own transaction."""
    make = sessionmaker(app_engine)
    workflows, events = PostgresWorkflowRepository(make), PostgresEventRepository(make)
    instance = workflow()
    workflows.create_new_workflow(instance)
    assert provider.get_workflow_instance(instance.id) == instance
    instance.revision = None
    instance.description = "unconditional"
    workflows.persist_workflow(instance)
    assert provider.get_workflow_instance(instance.id) == instance
    with pytest.raises(WorkflowExistsError):
        workflows.create_new_workflow(workflow(id=instance.id))
    assert has_event(provider, events.create_event(published()))
    commands = PostgresScheduledCommandRepository(make)
    commands.schedule_command(command("a"))
    assert commands.process_commands(at(1), lambda _: None) == 1
    subscriptions = PostgresSubscriptionRepository(make)
    assert subscriptions.set_subscription_token(
        subscriptions.create_event_subscription(subscription()), "t", "w", from_now(60)
    )


def test_repository_keyword_arguments_are_validated_and_applied(empty_database_url: str) -> None:
    """`schema` and `max_payload_bytes` have the same checks as those of the provider."""
    with Provider(empty_database_url, schema="other") as provider:
        provider.ensure_store_exists()
        with provider.engine.connect() as connection:
            for kind in (
                PostgresWorkflowRepository,
                PostgresSubscriptionRepository,
                PostgresScheduledCommandRepository,
            ):
                kind(connection, schema="other", max_payload_bytes=10)
                with pytest.raises(ValueError, match="schema"):
                    kind(connection, schema="Other")
            events = PostgresEventRepository(connection, schema="other", max_payload_bytes=10)
            events.create_event(published(event_data="x" * 8))
            with pytest.raises(SerializationError):
                events.create_event(published(event_data="x" * 9))
            assert len(events.get_runnable_events(at(0))) == 1
