"""A handler that fails or is interrupted does not stop other commands, and its command is not lost."""

from collections import Counter

import pytest

from tests.concurrency.support import run_in_threads
from tests.conftest import Sql
from wfe_postgres import (
    PostgresPersistenceProvider,
    ScheduledCommand,
)
from wfe_postgres.testing.conformance.commands import Recorder, never
from wfe_postgres.testing.conformance.support import (
    at,
    command,
)

ROWS = "SELECT data, execute_time FROM wfc.scheduled_commands ORDER BY id"


class Unreliable(Recorder):
    """A handler that fails for some commands, and is interrupted the first time it gets command 50."""

    interrupted = False

    def __call__(self, command: ScheduledCommand) -> None:
        number = int(command.data)
        if number == 50 and not self.interrupted:
            self.interrupted = True
            raise KeyboardInterrupt
        if number % 10 == 9:
            raise ValueError(command.data)
        super().__call__(command)


def test_failing_command_does_not_stop_the_others(provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """KeyboardInterrupt ends the call immediately and leaves the rest due; other errors are raised at the end."""
    for number in random_order(100):
        provider.schedule_command(command(str(number), number))
    handle = Unreliable()
    with pytest.raises(KeyboardInterrupt):
        provider.process_commands(at(999), handle)
    assert handle.data == [str(number) for number in range(50) if number % 10 != 9]
    assert len(sql(ROWS)) == 55
    with pytest.raises(ExceptionGroup) as caught:
        provider.process_commands(at(999), handle)
    assert handle.data == [str(number) for number in range(100) if number % 10 != 9]
    failed = [str(number) for number in range(9, 100, 10)]
    assert [str(error) for error in caught.value.exceptions] == failed
    assert [data for data, _ in sorted(sql(ROWS), key=lambda row: row[1])] == failed
    retried = Recorder()
    assert provider.process_commands(at(999), retried) == 10
    assert retried.data == failed


def random_order(count: int) -> list[int]:
    """The numbers below `count`, shuffled deterministically."""
    return sorted(range(count), key=lambda number: number * 37 % count)


def test_two_hosts_with_failing_commands_handle_all_others_once(provider: PostgresPersistenceProvider) -> None:
    """Each call tries a failing command once; every other command is handled once, by either host."""
    for number in range(100):
        provider.schedule_command(command(str(number), number))
    hosts = [Unreliable(), Unreliable()]
    for each in hosts:
        each.interrupted = True

    def host(number: int) -> list[str]:
        try:
            provider.process_commands(at(999), hosts[number])
        except ExceptionGroup as failures:
            return [str(error) for error in failures.exceptions]
        return []

    failures = [failure for each in run_in_threads(2, host) for failure in each]
    assert Counter(hosts[0].data + hosts[1].data) == {str(number): 1 for number in range(100) if number % 10 != 9}
    assert set(failures) == {str(number) for number in range(9, 100, 10)}


def test_failed_command_stays_claimed_until_the_call_returns(provider: PostgresPersistenceProvider) -> None:
    """Another host claims neither failed commands nor the one being handled; failed commands are due afterwards."""

    def fail_and_check(received: ScheduledCommand) -> None:
        assert provider.process_commands(at(0), never) == 0
        if received.data == "second":
            assert provider.process_commands(at(999), Recorder()) == 1, "only the third command is unclaimed"
        raise ValueError(received.data)

    for second, name in enumerate(("first", "second", "third")):
        provider.schedule_command(command(name, second))
    with pytest.raises(ExceptionGroup) as caught:
        provider.process_commands(at(1), fail_and_check)
    assert [repr(error) for error in caught.value.exceptions] == ["ValueError('first')", "ValueError('second')"]
    handled = Recorder()
    assert provider.process_commands(at(999), handled) == 2
    assert handled.data == ["first", "second"]
