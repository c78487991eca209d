"""The conformance suite detects broken providers: for each one, the named test of the suite must fail."""

import inspect
from datetime import datetime
from typing import Any

import pytest

from tests.conformance import broken_commands, broken_events, broken_workflows
from wfe_postgres.contract.models import WorkflowStatus
from wfe_postgres.testing import InMemoryPersistenceProvider
from wfe_postgres.testing.conformance import PersistenceConformance
from wfe_postgres.testing.conformance.bad_input import NAIVE
from wfe_postgres.testing.conformance.leases import LEASE

BROKEN_PROVIDERS: list[tuple[type[InMemoryPersistenceProvider], str, dict[str, Any]]] = [
    (broken_events.TokenReadThenWritten, "one_of_many_gets_the_token", {}),
    (broken_events.TokenReadThenWritten, "open_subscriptions_are_shared", {}),
    (broken_events.TokensAlwaysExpire, "a_token_without_expiry_never_expires", {}),
    (broken_events.TokensNeverExpire, "an_expired_token_may_be_taken_over", {}),
    (broken_events.TokensNeverExpire, "an_expired_one_is_open", {}),
    (broken_events.RenewalRefused, "the_same_token_renews", {}),
    (broken_events.AnyTokenClears, "a_wrong_token_clears_nothing", {}),
    (broken_events.TerminationOfNothing, "a_terminated_one_is_gone", {}),
    (broken_workflows.NoRevisionCheck, "who_comes_second_is_refused", {}),
    (broken_workflows.NoRevisionCheck, "a_twin_is_saved_under_its_stamp", {"twin": "pickle"}),
    (broken_workflows.NoRevisionCheck, "one_of_many_loads_is_saved", {}),
    (broken_workflows.NoRevisionCheck, "no_update_is_lost", {}),
    (broken_workflows.RevisionCounted, "a_stamp_is_never_used_twice", {}),
    (broken_workflows.RevisionAlwaysRequired, "without_a_stamp_the_save_is_unconditional", {}),
    (broken_workflows.OrderLost, "the_list_of_pointers_is_stored", {"change": "reversed"}),
    (broken_workflows.OrderLost, "any_history_of_pointers", {}),
    (broken_workflows.RemovedPointersStay, "the_list_of_pointers_is_stored", {"change": "first removed"}),
    (broken_workflows.SameObjectIsUnchanged, "a_change_deep_inside_is_stored", {"change": "data"}),
    (broken_workflows.SameObjectIsUnchanged, "a_change_deep_inside_is_stored", {"change": "persistence_data"}),
    (broken_workflows.CopiesSavedByDifference, "a_twin_is_saved_complete", {"twin": "deepcopy"}),
    (broken_workflows.SavedInTwoSteps, "a_load_is_one_snapshot", {}),
    (broken_workflows.CallersObjectKept, "the_store_keeps_its_own_copy", {}),
    (broken_workflows.StoredObjectReturned, "the_store_keeps_its_own_copy", {}),
    (broken_workflows.ObjectChangedFirst, "a_refused_creation_leaves_the_object", {}),
    (broken_workflows.NamesNotUnique, "a_taken_name_is_refused", {}),
    (broken_workflows.NamesNotUnique, "one_of_many_creates", {}),
    (broken_workflows.NamesNotUnique, "a_save_does_not_take_anothers_name", {}),
    (broken_workflows.SubscriptionsWrittenFirst, "a_refused_workflow_brings_no_subscription", {}),
    (broken_workflows.SubscriptionsWrittenFirst, "a_refused_subscription_brings_no_save", {}),
    (broken_workflows.SubscriptionsWrittenFirst, "two_subscriptions_of_one_id", {}),
    (broken_workflows.EveryStatusPolled, "only_runnable_ones_are_polled", {"status": WorkflowStatus.SUSPENDED}),
    (broken_workflows.DueTooLate, "a_workflow_is_due_from_its_millisecond_on", {}),
    (broken_workflows.DueTooLate, "unprocessed_events_are_runnable_from_their_time_on", {}),
    (broken_workflows.LimitIgnored, "the_earliest_come_first", {}),
    (broken_workflows.LatestFirst, "the_earliest_come_first", {}),
    (broken_workflows.LatestFirst, "matching_events_up_to_a_timestamp", {}),
    (broken_workflows.SequenceReadThenWritten, "a_sequence_never_gives_a_number_twice", {}),
    (broken_events.ProcessedEventsHidden, "matching_events_up_to_a_timestamp", {}),
    (broken_events.AnyKeyMatches, "an_event_matches_by_name_and_key", {}),
    (broken_events.EventOverwritten, "an_id_is_stored_once", {}),
    (broken_commands.AllDueDeleted, "scheduled_again_by_its_own_handler", {"second": 1}),
    (broken_commands.AllDueDeleted, "a_failure_does_not_stop_the_others", {}),
    (broken_commands.DeletedByKey, "scheduled_again_by_its_own_handler", {"second": 5}),
    (broken_commands.DeletedByKey, "scheduled_again_while_a_handler_runs", {"second": 0}),
    (broken_commands.NothingClaimed, "two_hosts_share_the_commands", {}),
    (broken_commands.NothingClaimed, "nobody_handles_what_is_being_handled", {}),
    (broken_commands.RemovedBeforehand, "an_interrupt_ends_the_run", {"interrupt": KeyboardInterrupt}),
    (broken_commands.FailureEndsTheRun, "a_failure_does_not_stop_the_others", {}),
    (broken_commands.FailuresRetriedImmediately, "one_call_handles_each_command_at_most_once", {}),
    (broken_commands.FirstDueTimeKept, "scheduling_is_an_upsert", {}),
    (broken_commands.LateHostNotRejected, "a_late_host_cannot_undo_its_successor", {}),
    (broken_commands.ErrorsMadeUnique, "errors_are_stored_whole", {}),
    (broken_commands.StoreRecreated, "the_store_is_ensured_any_number_of_times", {}),
    (broken_events.NumbersAsInJsonb, "json_comes_back_equal", {"value": 1e23}),
    (broken_workflows.NaiveTimesAccepted, "a_field_of_a_workflow", {"field": "create_time", "value": NAIVE}),
    (
        broken_events.TimesInLocalOffset,
        "a_timestamp_comes_back_in_utc",
        {"timestamp": datetime(2024, 1, 1, tzinfo=broken_events.TOKYO)},
    ),
    (
        broken_events.MicrosecondsTruncated,
        "a_timestamp_comes_back_in_utc",
        {"timestamp": datetime(2024, 1, 1, 0, 0, 0, 1, broken_events.TOKYO)},
    ),
    (broken_events.InvalidJsonStoredAsText, "events_and_subscriptions_that_cannot_be_stored", {"value": {1, 2}}),
    (broken_workflows.RefusedAfterWriting, "a_field_of_a_pointer", {"field": "step_id", "value": 2**31}),
]


def run(provider: InMemoryPersistenceProvider, name: str, arguments: dict[str, Any]) -> None:
    """Run one test of the suite on the provider."""
    test = getattr(PersistenceConformance(), f"test_{name}")
    fixtures = {
        "provider": provider,
        "short_lease": provider.another(command_lease=LEASE),
        "configure": provider.another,
    }
    parameters = inspect.signature(test).parameters
    test(**{key: value for key, value in fixtures.items() if key in parameters}, **arguments)


@pytest.mark.parametrize(
    ("broken", "name", "arguments"),
    BROKEN_PROVIDERS,
    ids=[f"{broken.__name__}-{name}" for broken, name, _ in BROKEN_PROVIDERS],
)
def test_suite_detects_broken_provider(
    broken: type[InMemoryPersistenceProvider], name: str, arguments: dict[str, Any]
) -> None:
    run(InMemoryPersistenceProvider(), name, arguments)
    with pytest.raises((Exception, pytest.fail.Exception)) as caught:
        run(broken(), name, arguments)
    assert not isinstance(caught.value, (NotImplementedError, TypeError, AttributeError, NameError))
