"""The mutants: the library with known defects, and the tests that must fail with each of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from tests.mutation.breaks import (
    Provider,
    allow_pipeline_mode,
    believe_unconfirmed_commits,
    believe_written,
    change_migrations,
    change_statements,
    delete_all_due_commands,
    forget_events,
    handle_in_open_transaction,
    host_time,
    ignore_connect_args,
    ignore_fork,
    load_in_two_statements,
    quote_driver_message,
    replace,
    reset_pools_in_fork_hook_only,
    retry_operational_errors,
    retry_without_check,
    save_in_several_transactions,
    save_over_others,
    save_pointers_first,
    set_token_after_read,
)
from wfe_postgres.connections import PooledRunner, failures, pooled
from wfe_postgres.host import renewal, runner, saving
from wfe_postgres.repositories import guarded_writes
from wfe_postgres.repositories import workflows as workflow_repository
from wfe_postgres.services import PostgresLockProvider


@dataclass(frozen=True)
class Mutant:
    """A defect of the library."""

    name: str
    defect: str
    install: Callable[[], None]
    tests: Sequence[str]
    """Ids of tests, at least one of which must fail."""


def _by_name(mutants: Iterable[Mutant]) -> dict[str, Mutant]:
    return {mutant.name: mutant for mutant in mutants}


MUTANTS = _by_name(
    [
        Mutant(
            "M-a",
            "pointers are written before the parent",
            replace(workflow_repository, "write_guarded", save_pointers_first),
            ["tests/conformance/test_postgres.py::TestPostgres::test_who_comes_second_is_refused"],
        ),
        Mutant(
            "M-b",
            "a save does not compare the revision",
            change_statements(r"AND \w+\.workflows\.revision = \(%\(expected_revision\)s\)::BIGINT", lambda: ""),
            ["tests/concurrency/test_lost_updates.py::test_concurrent_saves_by_threads_lose_no_update"],
        ),
        Mutant(
            "M-c",
            "a token is set after a separate read",
            replace(Provider, "set_subscription_token", set_token_after_read),
            ["tests/concurrency/test_tokens.py::test_token_requested_by_many_threads_is_set_once"],
        ),
        Mutant(
            "M-d",
            "all due commands are deleted after handling",
            replace(Provider, "process_commands", delete_all_due_commands),
            ["tests/concurrency/test_commands_shared.py::test_every_occurrence_is_handled_once"],
        ),
        Mutant(
            "M-e",
            "a save uses several transactions",
            replace(workflow_repository, "write_guarded", save_in_several_transactions),
            ["tests/concurrency/test_atomic_saves.py::test_save_killed_halfway_is_atomic"],
        ),
        Mutant(
            "M-f",
            "migrations run without the advisory lock",
            change_migrations("SELECT pg_try_advisory_xact_lock(", "SELECT true OR 0 < ("),
            ["tests/migrations/test_concurrent_upgrades.py::test_eight_concurrent_processes_upgrade_once[None]"],
        ),
        Mutant(
            "M-g",
            "every OperationalError is retried",
            retry_operational_errors,
            ["tests/faults/test_permanent_errors.py::test_rejected_statement_is_not_retried[a statement timeout]"],
        ),
        Mutant(
            "M-h",
            "errors contain the message of the driver",
            replace(failures, "_refused", quote_driver_message),
            ["tests/provider/test_canaries.py::test_database_errors_do_not_disclose_values"],
        ),
        Mutant(
            "M-i",
            "migrations use a session-level advisory lock",
            change_migrations("pg_try_advisory_xact_lock", "pg_try_advisory_lock"),
            ["tests/faults/test_pgbouncer.py::test_concurrent_migrations_through_pgbouncer_complete"],
        ),
        Mutant(
            "M-j",
            "statements are prepared behind PgBouncer",
            replace(Provider, "__init__", ignore_connect_args),
            ["tests/faults/test_pgbouncer.py::test_concurrent_token_requests_have_one_holder"],
        ),
        Mutant(
            "M-k",
            "a load uses two statements",
            replace(Provider, "_get", load_in_two_statements),
            ["tests/concurrency/test_torn_reads.py::test_load_during_saves_returns_one_save[read committed]"],
        ),
        Mutant(
            "M-l",
            "a command is deleted without checking its claim",
            change_statements(
                r"AND \w+\.\w+\.claim = \(%\(claim\)s\)::BIGINT AND NOT \w+\.\w+\.rescheduled",
                lambda: "",
            ),
            [
                "tests/concurrency/test_command_handlers.py::test_handler_rescheduling_its_own_command_runs_each_occurrence"
            ],
        ),
        Mutant(
            "M-m",
            "handlers run in an open transaction",
            replace(Provider, "process_commands", handle_in_open_transaction),
            ["tests/concurrency/test_command_handlers.py::test_no_transaction_is_open_while_a_handler_runs"],
        ),
        Mutant(
            "M-n",
            "leases are compared with the clock of the host",
            change_statements(r"(?<=<= )pg_catalog\.clock_timestamp\(\)", host_time),
            [
                "tests/faults/test_clock_skew.py::test_token_expires_by_the_database_clock_when_host_clocks_are_wrong",
                "tests/faults/test_clock_skew.py::test_command_lease_expires_by_the_database_clock_when_host_clocks_are_wrong",
            ],
        ),
        Mutant(
            "M-o",
            "pools are not reset after a fork",
            ignore_fork,
            ["tests/provider/test_threads_and_forks.py::test_provider_works_after_a_fork"],
        ),
        Mutant(
            "M-p",
            "a write with a lost answer is retried without a check",
            replace(PooledRunner, "_try", retry_without_check),
            ["tests/protocol/test_lost_answers.py::test_call_with_lost_request_or_answer_takes_effect_once"],
        ),
        Mutant(
            "M-q",
            "a save with a lost answer is assumed to be committed",
            replace(guarded_writes, "_was_committed", believe_written),
            ["tests/protocol/test_lost_answers.py::test_call_with_lost_request_or_answer_takes_effect_once"],
        ),
        Mutant(
            "M-r",
            "a commit that no standby has confirmed is believed",
            believe_unconfirmed_commits,
            [
                "tests/faults/test_synchronous_standby.py::test_write_raises_outcome_unknown_when_no_standby_confirms_it[call_timeout]"
            ],
        ),
        Mutant(
            "M-s",
            "a retry after a lost answer does not commit to confirm",
            replace(pooled, "CONFIRM", select(1)),
            [
                "tests/faults/test_synchronous_standby.py::test_write_raises_outcome_unknown_when_no_standby_confirms_it[pg_terminate_backend]"
            ],
        ),
        Mutant(
            "M-t",
            "the process id of a pool is not compared",
            reset_pools_in_fork_hook_only,
            ["tests/faults/test_c_forks.py::test_forked_children_get_their_own_answers"],
        ),
        Mutant(
            "M-u",
            "pipeline mode is not rejected",
            allow_pipeline_mode,
            ["tests/provider/test_pipeline_mode.py::test_every_call_is_rejected_in_pipeline_mode"],
        ),
        Mutant(
            "M-v",
            "a host saves over the changes of others",
            replace(saving, "store", save_over_others),
            ["tests/host_faults/test_failed_workflows.py::test_intervention_during_a_step_wins_over_its_save"],
        ),
        Mutant(
            "M-w",
            "one event counts for two waits",
            forget_events,
            ["tests/host_faults/test_events.py::test_one_event_is_not_counted_twice"],
        ),
        Mutant(
            "M-x",
            "lost tries have no limit",
            replace(runner, "_MAX_LOST", 10**9),
            ["tests/host_faults/test_lost_tries.py::test_step_that_kills_its_process_fails_after_five_lost_tries"],
        ),
        Mutant(
            "M-y",
            "leases are not renewed",
            replace(renewal.Claim, "_renew", lambda _: None),
            ["tests/host_faults/test_claims.py::test_step_of_four_leases_runs_once_among_three_hosts"],
        ),
        Mutant(
            "M-za",
            "who takes from the queue waits for another who does",
            change_migrations("FOR UPDATE SKIP LOCKED", "FOR UPDATE"),
            ["tests/services/test_queue.py::test_row_that_somebody_is_taking_is_passed_over_with_all_rows_of_its_id"],
        ),
        Mutant(
            "M-zb",
            "what is queued notifies nobody",
            change_migrations("PERFORM pg_notify(channel, queue_name)", "NULL"),
            ["tests/host_faults/test_queue.py::test_started_workflow_and_published_event_reach_a_host_at_rest"],
        ),
        Mutant(
            "M-zc",
            "the leases of locks are not renewed",
            replace(PostgresLockProvider, "_renew", lambda _, locks: {it.holder for it in locks}),
            ["tests/services/test_lock_leases.py::test_lock_is_held_for_longer_than_its_lease"],
        ),
    ]
)
