"""The conformance suite for hosts detects broken hosts: for each one, the named test of the suite must fail."""

from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance import broken_hosts, broken_waits
from wfe_postgres.host import Suspend, WorkflowHost
from wfe_postgres.testing import HostConformance, InMemoryPersistenceProvider
from wfe_postgres.testing.conformance import support
from wfe_postgres.testing.conformance.hosts import World

BROKEN_HOSTS: list[tuple[Callable[[pytest.MonkeyPatch], None], str, dict[str, Any]]] = [
    (broken_hosts.claims_nothing, "a_step_runs_only_after_its_claim_is_stored", {}),
    (broken_hosts.saves_without_revision, "a_claim_that_comes_second_runs_nothing", {}),
    (broken_hosts.saves_without_revision, "a_result_that_comes_after_the_lease_is_not_saved", {}),
    (broken_hosts.saves_without_revision, "suspend_and_terminate_win_against_a_running_step", {"verb": "terminate"}),
    (broken_hosts.saves_without_revision, "a_step_that_suspend_interrupted_is_run_again_after_resume", {}),
    (broken_hosts.saves_without_revision, "of_four_hosts_one_runs_each_step", {}),
    (broken_hosts.saves_twice, "a_workflow_of_three_steps_takes_four_saves_and_one_load", {}),
    (broken_hosts.loads_for_each_step, "a_workflow_of_three_steps_takes_four_saves_and_one_load", {}),
    (broken_hosts.renews_nothing, "a_step_of_several_leases_is_run_once", {}),
    (broken_hosts.keeps_what_a_failed_step_changed, "a_failed_step_leaves_its_error_and_nothing_else", {}),
    (broken_hosts.stores_no_errors, "a_failed_step_leaves_its_error_and_nothing_else", {}),
    (broken_hosts.stores_no_errors, "a_step_that_kills_its_host_is_repeated_and_counted_and_fails_in_the_end", {}),
    (broken_hosts.retries_at_once, "a_failed_step_is_run_again_after_its_interval", {}),
    (broken_hosts.never_suspends, "a_step_whose_retries_are_used_up_suspends_the_workflow", {}),
    (broken_hosts.never_suspends, "a_failed_branch_is_not_passed_over", {}),
    (broken_hosts.never_suspends, "a_resumed_workflow_runs_its_failed_step_or_what_follows", {"skip_failed": False}),
    (broken_hosts.terminates_nothing, "terminate_as_error_behavior_ends_the_workflow", {}),
    (
        broken_hosts.trusts_who_made_it_runnable,
        "a_workflow_that_is_made_runnable_with_a_failed_step_is_not_completed",
        {},
    ),
    (
        broken_hosts.catches_exceptions_only,
        "whatever_a_step_ends_with_is_a_failure_and_stops_no_other",
        {"way": "SystemExit"},
    ),
    (
        broken_hosts.catches_exceptions_only,
        "whatever_a_step_ends_with_is_a_failure_and_stops_no_other",
        {"way": "CancelledError"},
    ),
    (
        broken_hosts.writes_errors_as_they_are,
        "whatever_a_step_ends_with_is_a_failure_and_stops_no_other",
        {"way": "NUL in the text"},
    ),
    (
        broken_hosts.writes_errors_as_they_are,
        "whatever_a_step_ends_with_is_a_failure_and_stops_no_other",
        {"way": "exception without a text"},
    ),
    (broken_hosts.counts_no_lost_tries, "a_step_that_kills_its_host_is_repeated_and_counted_and_fails_in_the_end", {}),
    (
        broken_hosts.resumes_nothing_but_the_status,
        "a_resumed_workflow_runs_its_failed_step_or_what_follows",
        {"skip_failed": True},
    ),
    (broken_hosts.terminates_the_status_only, "terminate_removes_the_waits_and_alarms", {}),
    (broken_hosts.says_that_each_verb_worked, "a_verb_says_whether_the_workflow_was_in_a_status_for_it", {}),
    (broken_hosts.invents_workflows, "a_verb_for_an_unknown_workflow_raises", {"verb": "resume"}),
    (broken_waits.polls_the_first_event_only, "an_event_wakes_everybody_who_waits_for_its_name_and_key", {}),
    (broken_waits.leaves_subscriptions, "an_event_wakes_everybody_who_waits_for_its_name_and_key", {}),
    (broken_waits.leaves_subscriptions, "a_wait_ends_with_its_timeout_and_takes_no_later_event", {"handled": True}),
    (broken_waits.leaves_subscriptions, "end_workflow_completes_it_and_cancels_the_other_branches", {}),
    (broken_waits.forgets_the_id_of_the_event, "a_step_is_given_the_whole_event", {}),
    (
        broken_waits.looks_for_no_earlier_events,
        "an_event_before_the_wait_is_found_and_one_before_the_workflow_is_not",
        {},
    ),
    (
        broken_waits.looks_before_the_workflow,
        "an_event_before_the_wait_is_found_and_one_before_the_workflow_is_not",
        {},
    ),
    (broken_waits.looks_for_no_earlier_events, "an_event_that_was_processed_before_the_wait_is_found", {}),
    (broken_waits.refuses_an_id_again, "an_event_published_twice_under_one_id_is_one_event", {}),
    (broken_waits.publishes_an_id_again, "an_event_published_twice_under_one_id_is_one_event", {}),
    (broken_waits.delivers_again, "two_waits_need_two_events_and_get_them_in_their_order", {"rests": True}),
    (broken_waits.delivers_again, "each_turn_of_a_loop_needs_an_event_of_its_own", {}),
    (broken_waits.delivers_once_a_workflow, "parallel_siblings_get_the_same_event", {}),
    (broken_waits.stops_at_a_waiter_that_is_gone, "a_waiter_that_is_gone_stops_no_other", {}),
    (
        broken_waits.drops_what_a_claimed_workflow_cannot_take,
        "an_event_that_comes_while_another_step_of_the_workflow_runs_is_given_afterwards",
        {},
    ),
    (broken_waits.hands_over_the_latest, "a_host_that_dies_after_a_wait_began_leaves_it_its_earliest_event", {}),
    (broken_waits.removes_waiters_of_suspended_workflows, "a_suspended_workflow_gets_its_event_when_it_is_resumed", {}),
    (broken_waits.does_not_wait, "a_delay_ends_when_its_time_has_come", {}),
    (broken_waits.loads_what_sleeps, "what_sleeps_is_neither_due_nor_saved", {}),
    (broken_waits.goes_on_after_persist, "a_step_says_when_it_is_run_again_and_finds_what_it_kept", {}),
    (broken_waits.goes_on_after_persist, "a_step_that_persists_is_run_again_with_what_it_kept", {}),
    (broken_waits.puts_nothing, "a_parent_goes_on_with_the_data_of_its_child", {}),
    (broken_waits.rings_one_alarm_only, "each_alarm_of_many_workflows_comes_at_its_time", {}),
    (broken_waits.runs_schedules_first, "the_main_path_does_not_wait_for_a_schedule_and_the_workflow_does", {}),
    (broken_waits.recurs_once, "recur_repeats_its_branch_until_the_condition_holds", {}),
    (broken_waits.carries_out_no_commands, "a_command_for_a_workflow_makes_it_due", {}),
    (broken_waits.carries_out_no_commands, "a_command_for_an_event_hands_it_over", {}),
    (broken_waits.keeps_commands_for_nothing, "a_command_for_what_does_not_exist_is_done", {}),
    (broken_waits.compensates_forwards, "a_failed_saga_is_compensated_in_reverse_order_and_the_workflow_goes_on", {}),
    (broken_waits.compensates_nothing, "a_failed_saga_is_compensated_in_reverse_order_and_the_workflow_goes_on", {}),
    (broken_waits.compensates_always, "a_saga_that_succeeds_is_not_compensated", {}),
    (broken_waits.ignores_what_follows_a_saga, "retry_of_a_saga_runs_it_again_from_its_start", {}),
    (
        broken_waits.ignores_what_follows_a_saga,
        "the_error_behavior_of_a_saga_follows_its_compensation",
        {"on_error": Suspend()},
    ),
    (broken_waits.passes_over_failed_compensation, "a_compensation_that_fails_is_retried_and_not_passed_over", {}),
    (broken_waits.takes_the_first_case, "decide_runs_the_branch_of_the_case_or_the_other", {}),
    (broken_waits.loops_once, "if_and_while_run_their_branches_as_their_conditions_hold", {}),
    (broken_waits.takes_all_items_at_once, "for_each_runs_its_branch_for_each_item", {"parallel": False}),
    (broken_waits.takes_items_in_turn, "for_each_runs_its_branch_for_each_item", {"parallel": True}),
    (broken_waits.goes_on_after_one_branch, "parallel_goes_on_when_each_branch_has_ended", {}),
    (broken_waits.ends_no_branches, "end_workflow_completes_it_and_cancels_the_other_branches", {}),
    (broken_waits.ignores_how_a_child_ended, "a_child_that_is_terminated_fails_the_step_of_its_parent", {}),
    (broken_waits.ignores_how_an_activity_ended, "an_activity_ends_with_what_its_worker_reports", {"succeeds": False}),
    (broken_hosts.polls_for_everything, "workflows_of_unknown_definitions_stay_untouched_and_take_no_turn", {}),
    (broken_hosts.begins_in_the_lowest_version, "a_workflow_begins_in_the_highest_version_and_stays_in_its_own", {}),
    (broken_hosts.replaces_definitions, "two_definitions_of_one_id_and_version_are_refused", {}),
    (broken_hosts.starts_unknown_definitions, "a_workflow_of_an_unknown_definition_cannot_be_started", {}),
    (
        broken_hosts.runs_changed_definitions,
        "a_workflow_whose_definition_was_changed_is_suspended_and_not_run",
        {"change": "another name"},
    ),
    (broken_hosts.gives_up_a_save, "a_step_that_ended_during_an_outage_is_saved_and_not_repeated", {"after": False}),
    (
        broken_hosts.repeats_a_save_that_was_committed,
        "a_step_that_ended_during_an_outage_is_saved_and_not_repeated",
        {"after": True},
    ),
    (broken_hosts.ends_at_what_cannot_be_read, "a_workflow_that_cannot_be_read_keeps_no_other_from_its_turn", {}),
    (broken_hosts.goes_on_after_stop, "stop_saves_the_step_that_is_running_and_begins_no_other", {}),
    (broken_hosts.polls_once, "a_started_host_finds_what_becomes_due_while_it_runs", {}),
    (broken_hosts.polls_once, "a_started_host_goes_on_after_an_outage", {}),
]


def run(name: str, arguments: dict[str, Any]) -> None:
    """Run one test of the suite on this library's host."""
    suite, provider = HostConformance(), InMemoryPersistenceProvider()
    getattr(suite, f"test_{name}")(World(provider, WorkflowHost, suite.execution_errors), **arguments)


@pytest.mark.parametrize(
    ("break_host", "name", "arguments"),
    BROKEN_HOSTS,
    ids=[f"{break_host.__name__}-{name}" for break_host, name, _ in BROKEN_HOSTS],
)
def test_suite_detects_broken_host(
    monkeypatch: pytest.MonkeyPatch,
    break_host: Callable[[pytest.MonkeyPatch], None],
    name: str,
    arguments: dict[str, Any],
) -> None:
    monkeypatch.setattr(support, "TIMEOUT", 1.0)
    break_host(monkeypatch)
    with pytest.raises((AssertionError, Exception, SystemExit, CancelledError, pytest.fail.Exception)) as caught:
        run(name, arguments)
    assert not isinstance(caught.value, (NotImplementedError, TypeError, AttributeError, NameError))
    assert "pytest-timeout" not in str(caught.value), "the suite has to end a run that does not end"


def test_each_test_of_the_suite_detects_a_broken_host() -> None:
    tests = {name.removeprefix("test_") for name in dir(HostConformance) if name.startswith("test_")}
    assert tests == {name for _, name, _ in BROKEN_HOSTS}
