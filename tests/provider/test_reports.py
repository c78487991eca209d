"""The queries beyond the engine's interfaces: lists, errors, statistics, and the end of finished work."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.conftest import Sql
from tests.provider.databases import contents, statements_of
from wfe_postgres import (
    ExecutionError,
    PersistenceError,
    PostgresPersistenceProvider,
    SerializationError,
    StoreStatistics,
    WorkflowInstance,
    WorkflowNotFoundError,
    WorkflowStatus,
    WorkflowSummary,
)
from wfe_postgres.schema import HEAD
from wfe_postgres.testing.conformance.support import (
    at,
    command,
    created,
    event,
    from_now,
    full_workflow,
    has_workflow,
    ms,
    pointer,
    subscription,
    workflow,
)

Provider = PostgresPersistenceProvider
NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001 - it is here to be refused
BIG = 2**63 - 1


def summary(instance: WorkflowInstance) -> WorkflowSummary:
    """What a list shows of it."""
    return WorkflowSummary(
        id=instance.id,
        name=instance.name,
        workflow_definition_id=instance.workflow_definition_id,
        version=instance.version,
        status=instance.status,
        description=instance.description,
        reference=instance.reference,
        root_workflow_id=instance.root_workflow_id,
        next_execution=instance.next_execution,
        create_time=instance.create_time,
        complete_time=instance.complete_time,
    )


def ids(provider: Provider, **filters: Any) -> list[str]:
    """The ids that a list of these filters has."""
    return [it.id for it in provider.find_workflows(**filters).items]


def pages(provider: Provider, between: Callable[[], object] = lambda: None, **filters: Any) -> Iterator[list[str]]:
    """The ids, page by page; `between` two pages something is done."""
    cursor = None
    while True:
        page = provider.find_workflows(cursor=cursor, **filters)
        yield [it.id for it in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return
        between()


# Lists -----------------------------------------------------------------------------------------------------


def test_what_a_list_shows(provider: Provider) -> None:
    """Everything but the data and the pointers."""
    stored = [created(provider, full_workflow()), created(provider, workflow(create_time=at(-1)))]
    page = provider.find_workflows()
    assert page.items == [summary(it) for it in stored]
    assert page.next_cursor is None


def test_each_filter(provider: Provider) -> None:
    """Alone and together with the others; one that nothing satisfies gives an empty page."""
    base: dict[str, Any] = {
        "status": WorkflowStatus.SUSPENDED,
        "workflow_definition_id": "invoice",
        "version": 2,
        "reference": "A-17",
        "root_workflow_id": "root",
    }
    match = created(provider, workflow(id="match", create_time=at(5), **base)).id
    for name, other in (
        ("status", WorkflowStatus.RUNNABLE),
        ("workflow_definition_id", "order"),
        ("version", 3),
        ("reference", None),
        ("root_workflow_id", "another"),
    ):
        provider.create_new_workflow(workflow(id=f"other {name}", create_time=at(5), **{**base, name: other}))
    filters = {("definition_id" if name == "workflow_definition_id" else name): value for name, value in base.items()}
    for name, value in filters.items():
        found = ids(provider, **{name: value})
        assert match in found
        assert len(found) == 5
    assert ids(provider, **filters) == [match]
    assert ids(provider, **filters, created_from=at(5), created_to=at(6)) == [match]
    assert ids(provider, **filters, created_from=at(6)) == []
    assert ids(provider, reference="B-17") == []
    assert ids(provider, status="Suspended", definition_id="invoice", version=3) == ["other version"]


def test_the_times_of_a_list(provider: Provider) -> None:
    """From the first moment on, up to but not including the last; in any timezone."""
    for second in range(4):
        provider.create_new_workflow(workflow(id=str(second), create_time=at(second)))
    assert ids(provider, created_from=at(1)) == ["3", "2", "1"]
    assert ids(provider, created_to=at(2)) == ["1", "0"]
    assert ids(provider, created_from=at(1), created_to=at(3)) == ["2", "1"]
    assert ids(provider, created_from=at(1).astimezone(), created_to=at(1)) == []
    assert ids(provider, created_from=at(0) + timedelta(microseconds=1), created_to=at(1)) == []


def test_the_order_of_a_list(provider: Provider) -> None:
    """Newest first; among equal times it is always the same order."""
    for index in (3, 1, 4, 5, 2):
        provider.create_new_workflow(workflow(id=str(index), create_time=at(index % 2)))
    assert ids(provider) == ["5", "3", "1", "4", "2"]
    assert [it for page in pages(provider, limit=2) for it in page] == ["5", "3", "1", "4", "2"]


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
def test_pages_while_rows_are_added(provider: Provider, limit: int) -> None:
    """No gap and no repeat: what was there when the first page was asked for comes exactly once, in order."""
    stored = [f"{index:02}" for index in range(6)]
    for id in stored:
        provider.create_new_workflow(workflow(id=id, create_time=at(int(id) // 3)))
    number = iter(range(1000))

    def add() -> None:
        for time in (-1, 0, 0.5, 1, 2):
            provider.create_new_workflow(workflow(id=f"new {next(number)}", create_time=at(time)))

    seen = [it for page in pages(provider, add, limit=limit, created_to=at(10)) for it in page]
    assert [it for it in seen if not it.startswith("new")] == stored[::-1]
    assert len(seen) == len(set(seen))


def test_pages_while_rows_go_and_change(provider: Provider) -> None:
    """What goes meanwhile leaves no gap in the rest; a save moves nothing."""
    stored = [created(provider, workflow(id=f"{index}", create_time=at(index))) for index in range(8)]
    gone = iter(["7", "4", "1"])

    def remove_one_and_save_all() -> None:
        provider.delete_workflow(next(gone))
        for it in stored:
            if has_workflow(provider, it.id):
                it.description = "changed"
                provider.persist_workflow(it)

    assert list(pages(provider, remove_one_and_save_all, limit=2)) == [["7", "6"], ["5", "4"], ["3", "2"], ["0"]]


def test_a_last_page_that_is_full(provider: Provider) -> None:
    """The end shows at once, not by an empty page."""
    for index in range(4):
        provider.create_new_workflow(workflow(id=str(index)))
    assert [len(page) for page in pages(provider, limit=2)] == [2, 2]
    assert [len(page) for page in pages(provider, limit=4)] == [4]
    assert provider.find_workflows(limit=BIG).next_cursor is None


def test_a_cursor_is_text_for_a_url(provider: Provider) -> None:
    """Opaque, and whatever the id holds."""
    for id in ("100%", 'quote"', "ä ☃ 𐍈", "back\\slash", "new\nline"):
        provider.create_new_workflow(workflow(id=id))
    cursor = provider.find_workflows(limit=3).next_cursor
    assert cursor is not None
    assert cursor.isascii()
    assert not set(cursor) & set(" +/%&?#\n")
    assert sum(len(page) for page in pages(provider, limit=1)) == 5


BAD_CURSORS: list[Any] = [
    "",
    "x",
    "nonsense",
    "=" * 8,
    "ä",
    "\0",
    "\ud83d",
    "bnVsbA==",  # null
    "W10=",  # []
    "WzEsMl0=",  # [1,2]
    "WyJ4IiwieSJd",  # ["x","y"]
    "WyIyMDMwLTAxLTAxVDAwOjAwOjAwIiwgMV0=",  # ["2030-01-01T00:00:00", 1]
    "WyIyMDMwLTAxLTAxVDAwOjAwOjAwIiwgIlx1MDAwMCJd",  # ["2030-01-01T00:00:00", "\u0000"]
    "WyIyMDMwLTAxLTAxVDAwOjAwOjAwIiwgIlx1ZDgzZCJd",  # ["2030-01-01T00:00:00", "\ud83d"]
    "WyIyMDMwLTAxLTAxVDAwOjAwOjAwIiwgIngiLCAieSJd",  # one element too many
    "W1tb" * 10_000,  # nested beyond Python's recursion
    b"bnVsbA==",
    7,
    ["x"],
]


@pytest.mark.parametrize("cursor", BAD_CURSORS, ids=lambda it: repr(it)[:30])
def test_a_bad_cursor(provider: Provider, cursor: Any) -> None:
    """A ValueError, and nothing is sent."""
    with statements_of(provider.engine) as sent, pytest.raises(ValueError, match="cursor"):
        provider.find_workflows(cursor=cursor)
    assert sent == []


def test_a_cursor_that_was_cut_short(provider: Provider) -> None:
    """A ValueError, wherever it was cut."""
    for _ in range(2):
        provider.create_new_workflow(workflow())
    cursor = provider.find_workflows(limit=1).next_cursor
    assert cursor is not None
    for length in range(len(cursor.rstrip("=")) - 1):
        with pytest.raises(ValueError, match="cursor"):
            provider.find_workflows(cursor=cursor[:length])


LIMITED: dict[str, Callable[[Provider, Any], object]] = {
    "find_workflows": lambda it, limit: it.find_workflows(limit=limit),
    "get_execution_errors": lambda it, limit: it.get_execution_errors(limit=limit),
    "purge_workflows": lambda it, limit: it.purge_workflows(WorkflowStatus.COMPLETE, at(0), batch_size=limit),
    "purge_events": lambda it, limit: it.purge_events(at(0), batch_size=limit),
}


@pytest.mark.parametrize("call", LIMITED.values(), ids=LIMITED)
def test_bad_limits(provider: Provider, call: Callable[[Provider, Any], object]) -> None:
    """A ValueError, and nothing is sent; one that is only large is fine."""
    with statements_of(provider.engine) as sent:
        for limit in (0, -1, True, 1.0, "1", None):
            with pytest.raises(ValueError, match="rows"):
                call(provider, limit)
    assert sent == []
    for limit in (1, 2**31, BIG, 2**63, 10**30):
        call(provider, limit)


@pytest.mark.parametrize("limit", [-1, True, 1.0, "1"])
def test_bad_limits_of_the_poll_calls(provider: Provider, limit: Any) -> None:
    """They may be `None` or 0, too."""
    with statements_of(provider.engine) as sent:
        for call in (provider.get_runnable_instances, provider.get_runnable_events):
            with pytest.raises(ValueError, match="limit"):
                call(at(0), limit)
    assert sent == []
    for call in (provider.get_runnable_instances, provider.get_runnable_events):
        assert call(at(0), None) == call(at(0), 0) == call(at(0), 2**63) == call(at(0), 10**30) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("status", "Sleeping"),
        ("status", 1),
        ("definition_id", 7),
        ("definition_id", "\0"),
        ("reference", "\ud83d"),
        ("root_workflow_id", ["root"]),
        ("version", "1"),
        ("version", True),
        ("version", 2**63),
        ("created_from", NAIVE),
        ("created_to", "2030-01-01"),
    ],
)
def test_bad_filters(provider: Provider, path: str, value: Any) -> None:
    """Refused as any other bad input."""
    with statements_of(provider.engine) as sent, pytest.raises(SerializationError) as caught:
        provider.find_workflows(**{path: value})
    assert caught.value.path == path
    assert sent == []


# Errors and subscriptions ----------------------------------------------------------------------------------


def failure(workflow_id: str, second: float, message: str = "failed") -> ExecutionError:
    """What went wrong at that second."""
    return ExecutionError(workflow_id, "pointer", message, error_time=at(second))


def test_execution_errors(provider: Provider) -> None:
    """Newest first, of one workflow or of all, from a time on; among equal times the last one stored is first."""
    given = [failure("a", 1), failure("b", 3), failure("a", 2), failure("a", 2, "later"), failure("b", 0)]
    provider.persist_errors(given)
    first, second, third, later, last = given
    assert provider.get_execution_errors() == [second, later, third, first, last]
    assert provider.get_execution_errors("a") == [later, third, first]
    assert provider.get_execution_errors("a", since=at(2)) == [later, third]
    assert provider.get_execution_errors(since=at(3)) == [second]
    assert provider.get_execution_errors(since=at(3) + timedelta(microseconds=1)) == []
    assert provider.get_execution_errors(limit=2) == [second, later]
    assert provider.get_execution_errors("missing") == []


def test_a_hundred_errors_unless_asked_for_more(provider: Provider) -> None:
    """The default limit."""
    provider.persist_errors([failure("a", second, str(second)) for second in range(150)])
    assert [it.message for it in provider.get_execution_errors()] == [str(it) for it in range(149, 49, -1)]
    assert len(provider.get_execution_errors(limit=1000)) == 150


def test_bad_filters_of_errors(provider: Provider) -> None:
    """Refused as any other bad input."""
    bad: dict[str, dict[str, Any]] = {"since": {"since": NAIVE}, "workflow_id": {"workflow_id": "\0"}}
    for path, given in bad.items():
        with pytest.raises(SerializationError) as caught:
            provider.get_execution_errors(**given)
        assert caught.value.path == path


def test_what_a_workflow_waits_for(provider: Provider) -> None:
    """Open ones and held ones, oldest first, and no other's."""
    held = subscription(subscribe_as_of=at(1), external_token="t", external_worker_id="w")
    open_one = subscription(subscribe_as_of=at(0), subscription_data={"a": 1})
    expired = subscription(subscribe_as_of=at(2), external_token="t", external_token_expiry=from_now(-1))
    for it in (held, open_one, expired, subscription(workflow_id="another")):
        provider.create_event_subscription(it)
    assert provider.get_workflow_subscriptions("workflow-1") == [open_one, held, expired]
    assert provider.get_workflow_subscriptions("missing") == []


# Statistics ------------------------------------------------------------------------------------------------


def test_statistics_of_an_empty_store(provider: Provider) -> None:
    """Zeros, nothing oldest, and how the store stands."""
    found = provider.get_statistics()
    assert found == StoreStatistics(
        workflows=dict.fromkeys(WorkflowStatus, 0),
        runnable_due=0,
        oldest_due=None,
        unprocessed_events=0,
        oldest_unprocessed_event=None,
        due_commands=0,
        oldest_due_command=None,
        open_subscriptions=0,
        held_subscriptions=0,
        expired_subscriptions=0,
        execution_errors=0,
        schema_revision=HEAD,
        clock_offset=found.clock_offset,
    )


def test_every_field_of_the_statistics(provider: Provider) -> None:
    """What is due is due by the server's clock."""
    past, future = from_now(-3600), from_now(3600)
    for status, count in zip(WorkflowStatus, (4, 3, 2, 1), strict=True):
        for _ in range(count):
            provider.create_new_workflow(workflow(status=status, next_execution=None))
    for due in (milliseconds(past), milliseconds(past) + 1, milliseconds(future)):
        provider.create_new_workflow(workflow(next_execution=due))
    for processed, moment in ((False, at(3)), (False, at(2)), (True, at(1))):
        provider.create_event(event(is_processed=processed, event_time=moment))
    for data, due in (("a", milliseconds(past) + 1), ("b", milliseconds(past)), ("c", milliseconds(future))):
        due_command = command(data)
        due_command.execute_time = due
        provider.schedule_command(due_command)
    for token, expiry in ((None, None), ("t", None), ("t", future), ("t", past)):
        provider.create_event_subscription(subscription(external_token=token, external_token_expiry=expiry))
    provider.persist_errors([failure("a", 1), failure("b", 2)])
    found = provider.get_statistics()
    assert found == StoreStatistics(
        workflows={
            WorkflowStatus.RUNNABLE: 7,
            WorkflowStatus.SUSPENDED: 3,
            WorkflowStatus.COMPLETE: 2,
            WorkflowStatus.TERMINATED: 1,
        },
        runnable_due=2,
        oldest_due=past.replace(microsecond=past.microsecond // 1000 * 1000),
        unprocessed_events=2,
        oldest_unprocessed_event=at(2),
        due_commands=2,
        oldest_due_command=past.replace(microsecond=past.microsecond // 1000 * 1000),
        open_subscriptions=2,
        held_subscriptions=2,
        expired_subscriptions=1,
        execution_errors=2,
        schema_revision=HEAD,
        clock_offset=found.clock_offset,
    )
    assert found.oldest_due is not None
    assert found.oldest_due.tzinfo is UTC


def milliseconds(moment: datetime) -> int:
    """Since the Unix epoch, whole ones."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@pytest.mark.parametrize("ahead", [0, 3600, -3600])
def test_the_clock_offset(provider: Provider, monkeypatch: pytest.MonkeyPatch, sql: Sql, ahead: float) -> None:
    """Seconds by which this machine's clock is ahead of the server's, in either direction."""
    ((server_ahead,),) = sql(
        "SELECT extract(epoch FROM clock_timestamp())::float8 - %s", [datetime.now(UTC).timestamp()]
    )

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(seconds=ahead)

    monkeypatch.setattr("wfe_postgres.repositories.reports.datetime", Skewed)
    assert provider.get_statistics().clock_offset == pytest.approx(ahead - server_ahead, abs=1)


@pytest.mark.parametrize("due", [-(2**63), -1, 2**63 - 1])
def test_statistics_with_times_beyond_datetimes(provider: Provider, due: int) -> None:
    """Any 64-bit number may be stored as a due time; it counts, and the oldest is shown as near as can be."""
    provider.create_new_workflow(workflow(next_execution=due))
    provider.schedule_command(late := command("a"))
    late.execute_time = due
    provider.schedule_command(late)
    found = provider.get_statistics()
    assert found.runnable_due == found.due_commands == (1 if due < 0 else 0)
    if due < -1:
        assert found.oldest_due == found.oldest_due_command == datetime.min.replace(tzinfo=UTC)


# The end of finished work ----------------------------------------------------------------------------------


def with_everything(provider: Provider, **values: Any) -> str:
    """A workflow with pointers, subscriptions and errors."""
    instance = workflow(**values)
    provider.create_new_workflow(instance)
    provider.persist_workflow_with_subscriptions(instance, [subscription(workflow_id=instance.id) for _ in range(2)])
    provider.persist_errors([failure(instance.id, 1), failure(instance.id, 2)])
    return instance.id


def left(sql: Sql, id: str) -> dict[str, int]:
    """How many rows of the workflow there are in each table."""
    counts = {"workflows": sql("SELECT count(*) FROM wfc.workflows WHERE id = %s", [id])[0][0]}
    for table in ("execution_pointers", "event_subscriptions", "execution_errors"):
        counts[table] = sql(f"SELECT count(*) FROM wfc.{table} WHERE workflow_id = %s", [id])[0][0]
    return counts


ALL = {"workflows": 1, "execution_pointers": 2, "event_subscriptions": 2, "execution_errors": 2}
NONE = dict.fromkeys(ALL, 0)


def test_delete_workflow(provider: Provider, sql: Sql) -> None:
    """With all that is its own, and nothing of another's."""
    gone, kept = with_everything(provider), with_everything(provider)
    provider.delete_workflow(gone)
    assert left(sql, gone) == NONE
    assert left(sql, kept) == ALL
    with pytest.raises(WorkflowNotFoundError) as caught:
        provider.delete_workflow(gone)
    assert caught.value.workflow_id == gone


def test_a_deleted_workflow_cannot_be_saved(provider: Provider) -> None:
    """By who still holds it."""
    instance = created(provider, workflow())
    provider.delete_workflow(instance.id)
    for revision in (instance.revision, None):
        instance.revision = revision
        with pytest.raises(WorkflowNotFoundError):
            provider.persist_workflow(instance)


def finished(provider: Provider, count: int, status: WorkflowStatus = WorkflowStatus.COMPLETE) -> list[str]:
    """So many finished workflows, one a second."""
    return [with_everything(provider, status=status, complete_time=at(second)) for second in range(count)]


@pytest.mark.parametrize("status", [WorkflowStatus.COMPLETE, WorkflowStatus.TERMINATED])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 1000])
def test_purge_workflows(provider: Provider, status: WorkflowStatus, batch_size: int, sql: Sql) -> None:
    """Those of the status that ended before, in batches of any size, with what belongs to them."""
    other = WorkflowStatus.TERMINATED if status is WorkflowStatus.COMPLETE else WorkflowStatus.COMPLETE
    old, kept = finished(provider, 6, status), finished(provider, 2, other)
    kept += [
        with_everything(provider, status=WorkflowStatus.RUNNABLE, complete_time=at(0)),
        with_everything(provider, status=WorkflowStatus.SUSPENDED),
        with_everything(provider, status=status, complete_time=None),
        old.pop(),
    ]
    assert provider.purge_workflows(status, at(5), batch_size=batch_size) == 5
    for id in old:
        assert left(sql, id) == NONE
    for id in kept:
        assert left(sql, id) == ALL
    assert provider.purge_workflows(status, at(5), batch_size=batch_size) == 0


def test_each_batch_is_a_transaction(provider: Provider, sql: Sql) -> None:
    """What is done stays done when a later batch fails."""
    finished(provider, 5)
    sql("""
        CREATE FUNCTION public.keep_two() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF (SELECT count(*) FROM wfc.workflows) <= 2 THEN RAISE 'enough'; END IF; RETURN OLD; END $$
    """)
    sql("CREATE TRIGGER keep_two BEFORE DELETE ON wfc.workflows FOR EACH STATEMENT EXECUTE FUNCTION public.keep_two()")
    try:
        with pytest.raises(PersistenceError, match="P0001"):
            provider.purge_workflows(WorkflowStatus.COMPLETE, at(9), batch_size=2)
        assert sql("SELECT count(*) FROM wfc.workflows") == [(1,)]
    finally:
        sql("DROP FUNCTION public.keep_two CASCADE")


@contextmanager
def locking(url: str, id: str) -> Iterator[None]:
    """Another session holds the workflow's row during the block."""
    with psycopg.connect(url) as other:
        other.execute("SELECT FROM wfc.workflows WHERE id = %s FOR UPDATE", [id])
        yield
        other.rollback()


def test_locked_ones_are_left_for_another_time(provider: Provider, database_url: str, sql: Sql) -> None:
    """The purge waits for nobody."""
    old = finished(provider, 3)
    with locking(database_url, old[1]):
        assert provider.purge_workflows(WorkflowStatus.COMPLETE, at(9), batch_size=1) == 2
    assert left(sql, old[1]) == ALL
    assert provider.purge_workflows(WorkflowStatus.COMPLETE, at(9)) == 1


def test_a_workflow_that_came_back_to_life(provider: Provider, database_url: str, sql: Sql) -> None:
    """One that is being saved as Runnable while the purge runs is left alone."""
    (id,) = finished(provider, 1)
    with psycopg.connect(database_url) as host:
        host.execute("UPDATE wfc.workflows SET status = 'Runnable' WHERE id = %s", [id])
        assert provider.purge_workflows(WorkflowStatus.COMPLETE, at(9)) == 0
        host.commit()
    assert provider.purge_workflows(WorkflowStatus.COMPLETE, at(9)) == 0
    assert left(sql, id) == ALL


def test_purges_side_by_side(provider: Provider) -> None:
    """Each workflow is removed, and counted, once."""
    finished(provider, 30)
    counts: list[int] = []
    start = threading.Barrier(4)

    def purge() -> None:
        start.wait(10)
        counts.append(provider.purge_workflows(WorkflowStatus.COMPLETE, at(100), batch_size=3))

    threads = [threading.Thread(target=purge) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 30


@pytest.mark.parametrize("status", [WorkflowStatus.RUNNABLE, WorkflowStatus.SUSPENDED, "Sleeping", None])
def test_live_ones_are_not_purged(provider: Provider, database_url: str, status: Any) -> None:
    """A ValueError, and nothing is sent."""
    finished(provider, 1)
    before = contents(database_url)
    with statements_of(provider.engine) as sent, pytest.raises(ValueError, match="Complete and Terminated"):
        provider.purge_workflows(status, at(9))
    assert sent == []
    assert contents(database_url) == before


def test_purge_times_must_be_aware(provider: Provider) -> None:
    """Refused as any other bad input."""
    calls: Sequence[Callable[[], object]] = (
        lambda: provider.purge_workflows(WorkflowStatus.COMPLETE, NAIVE),
        lambda: provider.purge_events(NAIVE),
    )
    for call in calls:
        with statements_of(provider.engine) as sent, pytest.raises(SerializationError) as caught:
            call()
        assert caught.value.path == "older_than"
        assert sent == []


@pytest.mark.parametrize("batch_size", [1, 2, 1000])
def test_purge_events(provider: Provider, batch_size: int) -> None:
    """Processed ones from before, in batches of any size."""
    for second in range(5):
        provider.create_event(event(id=f"processed {second}", event_time=at(second), is_processed=True))
        provider.create_event(event(id=f"waiting {second}", event_time=at(second)))
    assert provider.purge_events(at(3), batch_size=batch_size) == 3
    assert provider.get_events("paid", "order-1", at(9)) == [
        "waiting 0",
        "waiting 1",
        "waiting 2",
        "processed 3",
        "waiting 3",
        "processed 4",
        "waiting 4",
    ]
    assert provider.purge_events(at(3), batch_size=batch_size) == 0


def test_locked_events_are_left(provider: Provider, database_url: str) -> None:
    """The purge waits for nobody."""
    for id in ("a", "b", "c"):
        provider.create_event(event(id=id, is_processed=True))
    with psycopg.connect(database_url) as other:
        other.execute("SELECT FROM wfc.events WHERE id = 'b' FOR UPDATE")
        assert provider.purge_events(at(9), batch_size=1) == 2
        other.rollback()
    assert provider.purge_events(at(9)) == 1


def test_pages_of_pointers_are_not_loaded(provider: Provider, sql: Sql) -> None:
    """A list does not look into pointers, so broken ones do not matter to it."""
    id = provider.create_new_workflow(workflow(pointer("a"), next_execution=ms(1)))
    sql("UPDATE wfc.execution_pointers SET status = 'Nonsense'")
    assert ids(provider) == [id]
