"""A handler that fails, or is interrupted, does not stop the others, and what it was given is not lost."""

from collections import Counter

import pytest

from tests.concurrency.crowd import together
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
    """A handler that fails with some commands and is interrupted at one, the first time that it gets it."""

    interrupted = False

    def __call__(self, command: ScheduledCommand) -> None:
        number = int(command.data)
        if number == 50 and not self.interrupted:
            self.interrupted = True
            raise KeyboardInterrupt
        if number % 10 == 9:
            raise ValueError(command.data)
        super().__call__(command)


def test_one_bad_command_does_not_stop_the_others(provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """An interruption ends the run with the rest still due, at once and for everybody; failures come at the end."""
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
    patient = Recorder()
    assert provider.process_commands(at(999), patient) == 10
    assert patient.data == failed


def random_order(count: int) -> list[int]:
    """The numbers below `count`, in an order that has nothing to do with theirs."""
    return sorted(range(count), key=lambda number: number * 37 % count)


def test_two_hosts_go_on_beside_failures(provider: PostgresPersistenceProvider) -> None:
    """Each failing command is tried once by a call; all others are handled once, whoever takes them."""
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

    failures = [failure for each in together(2, host) for failure in each]
    assert Counter(hosts[0].data + hosts[1].data) == {str(number): 1 for number in range(100) if number % 10 != 9}
    assert set(failures) == {str(number) for number in range(9, 100, 10)}


def test_what_failed_is_nobody_elses_before_the_call_is_over(provider: PostgresPersistenceProvider) -> None:
    """Neither what failed nor what is being handled is claimed by another host; what failed is there afterwards."""

    def fail_and_look(given: ScheduledCommand) -> None:
        assert provider.process_commands(at(0), never) == 0
        if given.data == "second":
            assert provider.process_commands(at(999), Recorder()) == 1, "the third is free, the first is not"
        raise ValueError(given.data)

    for second, name in enumerate(("first", "second", "third")):
        provider.schedule_command(command(name, second))
    with pytest.raises(ExceptionGroup) as caught:
        provider.process_commands(at(1), fail_and_look)
    assert [repr(error) for error in caught.value.exceptions] == ["ValueError('first')", "ValueError('second')"]
    handled = Recorder()
    assert provider.process_commands(at(999), handled) == 2
    assert handled.data == ["first", "second"]
