"""Scheduled commands, the log of errors and the store itself."""

from typing import NoReturn

import pytest

from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import CommandName, ExecutionError, ScheduledCommand
from wfe_postgres.testing.conformance.support import Conformance, at, command, created, ms, workflow


class Recorder:
    """A handler that remembers what it was called with."""

    def __init__(self) -> None:
        self.seen: list[ScheduledCommand] = []

    def __call__(self, command: ScheduledCommand) -> None:
        self.seen.append(command)

    @property
    def data(self) -> list[str]:
        """What the commands were about."""
        return [it.data for it in self.seen]


def never(command: ScheduledCommand) -> NoReturn:
    """A handler that must not be called."""
    raise AssertionError(f"{command.data} was handled")


class CommandConformance(Conformance):
    """`ScheduledCommandRepository`, where one host is at work."""

    def test_commands_are_supported(self, provider: PersistenceProvider) -> None:
        """`supports_scheduled_commands` is a property; True here."""
        assert provider.supports_scheduled_commands is True

    def test_due_commands_are_handled_earliest_first(self, provider: PersistenceProvider) -> None:
        """Each command with `execute_time <= as_of`, earliest first; the result is how many."""
        for second in (3, 1, 4, 2):
            provider.schedule_command(command(f"at {second}", second))
        handled = Recorder()
        assert provider.process_commands(at(3), handled) == 3
        assert handled.seen == [command("at 1", 1), command("at 2", 2), command("at 3", 3)]
        assert all(type(it.command_name) is CommandName for it in handled.seen)

    def test_a_command_is_due_from_its_millisecond_on(self, provider: PersistenceProvider) -> None:
        """A millisecond too early, and it stays."""
        provider.schedule_command(ScheduledCommand.process_event("event", ms(1) + 1))
        assert provider.process_commands(at(1), never) == 0
        assert provider.process_commands(at(1.0009), never) == 0
        assert provider.process_commands(at(1.001), Recorder()) == 1

    def test_the_store_keeps_its_own_copy_of_a_command(self, provider: PersistenceProvider) -> None:
        """What caller or handler does to the object they have changes nothing of what is scheduled."""
        mine = command("one", 1)
        provider.schedule_command(mine)
        mine.execute_time = ms(99)

        def spoil(it: ScheduledCommand) -> None:
            it.execute_time = ms(99)
            raise ValueError

        with pytest.raises(ExceptionGroup):
            provider.process_commands(at(1), spoil)
        handled = Recorder()
        assert provider.process_commands(at(1), handled) == 1
        assert handled.seen == [command("one", 1)]

    def test_a_handled_command_is_removed(self, provider: PersistenceProvider) -> None:
        """A command is removed once its handler returned, whatever it returned."""
        provider.schedule_command(command("once"))
        assert provider.process_commands(at(1), lambda _: False) == 1
        assert provider.process_commands(at(1), never) == 0

    def test_it_is_there_while_its_handler_runs(self, provider: PersistenceProvider) -> None:
        """Removed once its handler returned, not before: who asks meanwhile gets nothing, and it counts once."""
        provider.schedule_command(command("one"))
        inner: list[int] = []
        assert provider.process_commands(at(1), lambda _: inner.append(_rest(provider))) == 1
        assert inner == [0]

    def test_scheduling_is_an_upsert(self, provider: PersistenceProvider) -> None:
        """Upsert on (command_name, data): the later call's `execute_time` stands, earlier or later."""
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
        """Two commands of one name, or of one `data`, are two."""
        both = [command("same", 1, CommandName.PROCESS_EVENT), command("same", 2)]
        for it in (*both, command("other", 3)):
            provider.schedule_command(it)
        handled = Recorder()
        assert provider.process_commands(at(2), handled) == 2
        assert handled.seen == both

    def test_a_failure_does_not_stop_the_others(self, provider: PersistenceProvider) -> None:
        """Who raises stays in place; the others run; the failures are raised together at the end."""
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
        again = Recorder()
        assert provider.process_commands(at(99), again) == 2
        assert again.seen == [command("03", 3), command("17", 17)]

    def test_one_call_handles_each_command_at_most_once(self, provider: PersistenceProvider) -> None:
        """One that fails, or is scheduled anew in its handler, is not handled again by the same call."""
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
        """A command that its own handler re-schedules is not lost, for the same `execute_time` as well."""
        provider.schedule_command(command("again", 1))
        assert provider.process_commands(at(1), lambda _: provider.schedule_command(command("again", second))) == 1
        if second > 1:
            assert provider.process_commands(at(second - 1), never) == 0
        handled = Recorder()
        assert provider.process_commands(at(second), handled) == 1
        assert handled.seen == [command("again", second)]
        assert provider.process_commands(at(99), never) == 0

    def test_scheduled_again_by_a_handler_that_fails(self, provider: PersistenceProvider) -> None:
        """What the handler scheduled stands, though it raised after that."""
        provider.schedule_command(command("again", 1))

        def fail(_: ScheduledCommand) -> None:
            provider.schedule_command(command("again", 5))
            raise ValueError

        with pytest.raises(ExceptionGroup):
            provider.process_commands(at(1), fail)
        assert provider.process_commands(at(4), never) == 0
        assert provider.process_commands(at(5), Recorder()) == 1

    def test_a_handler_may_schedule_others(self, provider: PersistenceProvider) -> None:
        """What a handler schedules for another key is there afterwards, handled now or by the next call."""
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
        """KeyboardInterrupt and SystemExit end the run at once; what was not handled is there to be handled."""
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
        """A handler that loads and saves what its command is about does so like anybody else."""
        instance = created(provider, workflow())
        provider.schedule_command(ScheduledCommand.process_workflow(instance.id, ms(1)))

        def carry_out(it: ScheduledCommand) -> None:
            loaded = provider.get_workflow_instance(it.data)
            loaded.data = "handled"
            provider.persist_workflow(loaded)

        assert provider.process_commands(at(1), carry_out) == 1
        assert provider.get_workflow_instance(instance.id).data == "handled"


def _rest(provider: PersistenceProvider) -> int:
    return provider.process_commands(at(1), never)


class StoreConformance(Conformance):
    """`persist_errors` and `ensure_store_exists`."""

    def test_errors_are_stored_whole(self, provider: PersistenceProvider) -> None:
        """Every field of every error is stored, equal ones as often as they were given."""
        errors = [ExecutionError("workflow", "pointer", f"no {n}", error_time=at(n)) for n in (1, 2, 2, 3)]
        provider.persist_errors(errors)
        provider.persist_errors([])
        assert self.execution_errors(provider) == errors[::-1]

    def test_the_store_is_ensured_any_number_of_times(self, provider: PersistenceProvider) -> None:
        """`ensure_store_exists` on a store that is there changes nothing in it."""
        instance = created(provider, workflow())
        for _ in range(3):
            provider.ensure_store_exists()
        assert provider.get_workflow_instance(instance.id) == instance
