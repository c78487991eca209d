"""Scheduled commands, execution errors and `ensure_store_exists`."""

from typing import NoReturn

import pytest

from wfe_postgres.contract.errors import CorruptRowError
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import CommandName, ExecutionError, ScheduledCommand
from wfe_postgres.testing.conformance.support import Conformance, at, command, created, ms, workflow


class Recorder:
    """A handler that records its commands."""

    def __init__(self) -> None:
        self.seen: list[ScheduledCommand] = []

    def __call__(self, command: ScheduledCommand) -> None:
        self.seen.append(command)

    @property
    def data(self) -> list[str]:
        """The `data` of the recorded commands."""
        return [it.data for it in self.seen]


def never(command: ScheduledCommand) -> NoReturn:
    """A handler that must not be called."""
    raise AssertionError(f"{command.data} was handled")


class CommandConformance(Conformance):
    """`ScheduledCommandRepository` with a single host."""

    def test_commands_are_supported(self, provider: PersistenceProvider) -> None:
        """The property `supports_scheduled_commands` is True."""
        assert provider.supports_scheduled_commands is True

    def test_due_commands_are_handled_earliest_first(self, provider: PersistenceProvider) -> None:
        """Commands with `execute_time <= as_of` are handled, earliest first; the result is their number."""
        for second in (3, 1, 4, 2):
            provider.schedule_command(command(f"at {second}", second))
        handled = Recorder()
        assert provider.process_commands(at(3), handled) == 3
        assert handled.seen == [command("at 1", 1), command("at 2", 2), command("at 3", 3)]
        assert all(type(it.command_name) is CommandName for it in handled.seen)

    def test_a_command_is_due_from_its_millisecond_on(self, provider: PersistenceProvider) -> None:
        """A command is not handled a millisecond before its `execute_time`."""
        provider.schedule_command(ScheduledCommand.process_event("event", ms(1) + 1))
        assert provider.process_commands(at(1), never) == 0
        assert provider.process_commands(at(1.0009), never) == 0
        assert provider.process_commands(at(1.001), Recorder()) == 1

    def test_the_store_keeps_its_own_copy_of_a_command(self, provider: PersistenceProvider) -> None:
        """Changes of the caller's or the handler's object do not affect the scheduled command."""
        mine = command("one", 1)
        provider.schedule_command(mine)
        mine.execute_time = ms(99)

        def change(it: ScheduledCommand) -> None:
            it.execute_time = ms(99)
            raise ValueError

        with pytest.raises(ExceptionGroup):
            provider.process_commands(at(1), change)
        handled = Recorder()
        assert provider.process_commands(at(1), handled) == 1
        assert handled.seen == [command("one", 1)]

    def test_a_handled_command_is_removed(self, provider: PersistenceProvider) -> None:
        """A command is removed after its handler returned, whatever the result."""
        provider.schedule_command(command("once"))
        assert provider.process_commands(at(1), lambda _: False) == 1
        assert provider.process_commands(at(1), never) == 0

    def test_it_is_there_while_its_handler_runs(self, provider: PersistenceProvider) -> None:
        """A command is removed after its handler returned, and a nested call does not handle it again."""
        provider.schedule_command(command("one"))
        inner: list[int] = []
        assert provider.process_commands(at(1), lambda _: inner.append(_process_again(provider))) == 1
        assert inner == [0]

    def test_scheduling_is_an_upsert(self, provider: PersistenceProvider) -> None:
        """Upsert on (command_name, data): the `execute_time` of the last call applies."""
        for second in (5, 9, 1):
            provider.schedule_command(command("sooner", second))
        for second in (5, 1, 9):
            provider.schedule_command(command("later", second))
        handled = Recorder()
        assert provider.process_commands(at(8), handled) == 1
        assert handled.seen == [command("sooner", 1)]
        assert provider.process_commands(at(9), handled) == 1
        assert handled.seen[1:] == [command("later", 9)]

    def test_name_and_data_are_the_identity(self, provider: PersistenceProvider) -> None:
        """Commands with the same name or the same `data` are different commands."""
        both = [command("same", 1, CommandName.PROCESS_EVENT), command("same", 2)]
        for it in (*both, command("other", 3)):
            provider.schedule_command(it)
        handled = Recorder()
        assert provider.process_commands(at(2), handled) == 2
        assert handled.seen == both

    def test_a_failure_does_not_stop_the_others(self, provider: PersistenceProvider) -> None:
        """A command whose handler raises stays; the others are handled; the exceptions are raised as a group."""
        for number in range(25):
            provider.schedule_command(command(f"{number:02}", number))
        handled = Recorder()
        raised: list[Exception] = []

        def fail_sometimes(it: ScheduledCommand) -> None:
            if it.data in ("03", "17"):
                raised.append(ValueError(it.data))
                raise raised[-1]
            handled(it)

        with pytest.raises(ExceptionGroup) as caught:
            provider.process_commands(at(99), fail_sometimes)
        assert list(caught.value.exceptions) == raised
        assert [str(error) for error in raised] == ["03", "17"]
        assert len(handled.seen) == 23
        retried = Recorder()
        assert provider.process_commands(at(99), retried) == 2
        assert retried.seen == [command("03", 3), command("17", 17)]

    def test_a_handler_that_cannot_read_its_workflow_has_failed(self, provider: PersistenceProvider) -> None:
        """Its `CorruptRowError` is raised like any other: it is not about the command."""
        provider.schedule_command(command("unreadable", 1))

        def load(it: ScheduledCommand) -> NoReturn:
            raise CorruptRowError("workflows", it.data, "data")

        with pytest.raises(ExceptionGroup) as caught:
            provider.process_commands(at(99), load)
        assert [type(error) for error in caught.value.exceptions] == [CorruptRowError]

    def test_one_call_handles_each_command_at_most_once(self, provider: PersistenceProvider) -> None:
        """A command that fails or is rescheduled by its handler is not handled again by the same call."""
        provider.schedule_command(command("fails", 1))
        provider.schedule_command(command("again", 2))
        handled = Recorder()

        def fail_or_again(it: ScheduledCommand) -> None:
            handled(it)
            provider.schedule_command(command(it.data, 1))
            if it.data == "fails":
                raise ValueError(it.data)

        for _ in range(3):
            handled.seen.clear()
            with pytest.raises(ExceptionGroup):
                provider.process_commands(at(9), fail_or_again)
            assert sorted(handled.data) == ["again", "fails"]

    @pytest.mark.parametrize("second", [0, 1, 5], ids=["earlier", "same time", "later"])
    def test_scheduled_again_by_its_own_handler(self, provider: PersistenceProvider, second: int) -> None:
        """A command that is rescheduled by its handler is not lost, even with the same `execute_time`."""
        provider.schedule_command(command("again", 1))
        assert provider.process_commands(at(1), lambda _: provider.schedule_command(command("again", second))) == 1
        if second > 1:
            assert provider.process_commands(at(second - 1), never) == 0
        handled = Recorder()
        assert provider.process_commands(at(second), handled) == 1
        assert handled.seen == [command("again", second)]
        assert provider.process_commands(at(99), never) == 0

    def test_scheduled_again_by_a_handler_that_fails(self, provider: PersistenceProvider) -> None:
        """A command that the handler scheduled is kept, even if the handler raises afterwards."""
        provider.schedule_command(command("again", 1))

        def fail(_: ScheduledCommand) -> None:
            provider.schedule_command(command("again", 5))
            raise ValueError

        with pytest.raises(ExceptionGroup):
            provider.process_commands(at(1), fail)
        assert provider.process_commands(at(4), never) == 0
        assert provider.process_commands(at(5), Recorder()) == 1

    def test_a_handler_may_schedule_others(self, provider: PersistenceProvider) -> None:
        """A command that a handler schedules is handled by the same or by the next call."""
        provider.schedule_command(command("first", 1))
        handled = Recorder()

        def schedule(it: ScheduledCommand) -> None:
            handled(it)
            if it.data == "first":
                provider.schedule_command(command("second", 1))

        count = provider.process_commands(at(1), schedule)
        count += provider.process_commands(at(1), schedule)
        assert (count, handled.data) == (2, ["first", "second"])

    @pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
    def test_an_interrupt_ends_the_run(self, provider: PersistenceProvider, interrupt: type[BaseException]) -> None:
        """KeyboardInterrupt and SystemExit end the call immediately; unhandled commands stay."""
        for number in range(5):
            provider.schedule_command(command(str(number), number))
        handled = Recorder()

        def stop(it: ScheduledCommand) -> None:
            if it.data == "0":
                raise ValueError(it.data)
            if it.data == "2":
                raise interrupt
            handled(it)

        with pytest.raises(interrupt):
            provider.process_commands(at(9), stop)
        assert handled.data == ["1"]
        assert provider.process_commands(at(9), handled) == 4
        assert handled.data == ["1", "0", "2", "3", "4"]

    def test_a_handler_may_use_the_provider(self, provider: PersistenceProvider) -> None:
        """A handler can load and save workflows with the provider."""
        instance = created(provider, workflow())
        provider.schedule_command(ScheduledCommand.process_workflow(instance.id, ms(1)))

        def carry_out(it: ScheduledCommand) -> None:
            loaded = provider.get_workflow_instance(it.data)
            loaded.data = "handled"
            provider.persist_workflow(loaded)

        assert provider.process_commands(at(1), carry_out) == 1
        assert provider.get_workflow_instance(instance.id).data == "handled"


def _process_again(provider: PersistenceProvider) -> int:
    return provider.process_commands(at(1), never)


class StoreConformance(Conformance):
    """`persist_errors` and `ensure_store_exists`."""

    def test_errors_are_stored_whole(self, provider: PersistenceProvider) -> None:
        """All fields of all errors are stored, including duplicates."""
        errors = [ExecutionError("workflow", "pointer", f"no {n}", error_time=at(n)) for n in (1, 2, 2, 3)]
        provider.persist_errors(errors)
        provider.persist_errors([])
        assert self.execution_errors(provider) == errors[::-1]

    def test_the_store_is_ensured_any_number_of_times(self, provider: PersistenceProvider) -> None:
        """`ensure_store_exists` does not change an existing store."""
        instance = created(provider, workflow())
        for _ in range(3):
            provider.ensure_store_exists()
        assert provider.get_workflow_instance(instance.id) == instance
