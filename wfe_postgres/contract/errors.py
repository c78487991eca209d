"""The errors that callers can see. Each takes ids, never values, and builds its own message."""

from typing import Any, ClassVar


class WfeError(Exception):
    """The root of all errors of this library.

    The constructor's arguments are the error's `args`, so every error can be copied and pickled.
    """

    _message: ClassVar[str] = ""
    """With a place for each of the `args`."""

    def __str__(self) -> str:
        return self._message.format(*self.args) if self._message else super().__str__()


class NotFoundError(WfeError):
    """What was asked for by its id or name is not stored."""


class _EventError(WfeError):
    def __init__(self, event_id: str) -> None:
        super().__init__(event_id)
        self.event_id = event_id


class _SubscriptionError(WfeError):
    def __init__(self, subscription_id: str) -> None:
        super().__init__(subscription_id)
        self.subscription_id = subscription_id


class WorkflowNotFoundError(NotFoundError):
    """No workflow has this id or name."""

    _message = "there is no workflow {!r}"

    def __init__(self, workflow_id: str) -> None:
        super().__init__(workflow_id)
        self.workflow_id = workflow_id


class EventNotFoundError(_EventError, NotFoundError):
    """No event has this id."""

    _message = "there is no event {!r}"


class SubscriptionNotFoundError(_SubscriptionError, NotFoundError):
    """No subscription has this id."""

    _message = "there is no event subscription {!r}"


class WorkflowExistsError(WfeError):
    """The id or the name of a new workflow is taken; nothing was written."""

    _message = "a workflow with the id {!r} or the name {!r} exists"

    def __init__(self, workflow_id: str, name: str) -> None:
        super().__init__(workflow_id, name)
        self.workflow_id = workflow_id
        self.name = name


class EventExistsError(_EventError):
    """An event with this id is stored already; nothing was written."""

    _message = "an event with the id {!r} exists"


class SubscriptionExistsError(_SubscriptionError):
    """An event subscription with this id is stored already; nothing was written."""

    _message = "an event subscription with the id {!r} exists"


class SubscriptionTokenError(_SubscriptionError):
    """The subscription is not held by this token; its lock is unchanged."""

    _message = "event subscription {!r} is not held by this token"


class ConcurrencyError(WfeError):
    """The workflow was changed since it was loaded; nothing was written.

    `expected` is the revision the instance carried, `found` the one that stands in the store, read
    after the refusal.
    """

    _message = (
        "workflow {!r} was changed since it was loaded (expected revision {}, found {}): load it and decide again"
    )

    def __init__(self, workflow_id: str, expected: int, found: int) -> None:
        super().__init__(workflow_id, expected, found)
        self.workflow_id = workflow_id
        self.expected = expected
        self.found = found


class SerializationError(WfeError):
    """A value cannot be stored exactly, so nothing was sent.

    `path` leads to it (`data.order.lines[3].price`); the value itself is never quoted.
    """

    _message = "{}: {}"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason


class PersistenceError(WfeError):
    """Any other error of the database, or of the connection to it.

    `sqlstate` and `constraint` are PostgreSQL's (https://www.postgresql.org/docs/current/errcodes-appendix.html),
    `None` where the server said nothing. `retryable`: the call had no effect and the same call may
    succeed later. `original` is the driver's exception, for a debugger: its text can quote a row's
    values, so it is no part of this error's text, its cause or its context, and is left out of a pickle.
    """

    def __init__(
        self,
        reason: str,
        sqlstate: str | None = None,
        constraint: str | None = None,
        retryable: bool = False,
        *,
        original: BaseException | None = None,
    ) -> None:
        super().__init__(reason, sqlstate, constraint, retryable)
        self.reason = reason
        self.sqlstate = sqlstate
        self.constraint = constraint
        self.retryable = retryable
        self.original = original

    def __str__(self) -> str:
        facts = {"sqlstate": self.sqlstate, "constraint": self.constraint}
        known = ", ".join(f"{name} {fact}" for name, fact in facts.items() if fact)
        return f"{self.reason} ({known})" if known else self.reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args


class StoreNotReadyError(PersistenceError):
    """Schema or tables are missing, older or newer than the library; the message names the command that helps."""


class OutcomeUnknownError(PersistenceError):
    """It could not be determined whether a write was committed, or whether its commit is replicated.

    The connection was lost, or the commit's wait for a synchronous standby was cut short.

    `ids` are those of what was being written.
    """

    def __init__(self, reason: str, ids: tuple[str, ...] = (), *, original: BaseException | None = None) -> None:
        super().__init__(reason, original=original)
        self.args: tuple[Any, ...] = (reason, ids)
        self.ids = ids


class CorruptRowError(PersistenceError):
    """A stored row cannot be read: `row_id` and `column` say which and where."""

    def __init__(self, table: str, row_id: str, column: str) -> None:
        super().__init__(f"{table} row {row_id!r} cannot be read: column {column!r} is not what it should be")
        self.args: tuple[Any, ...] = (table, row_id, column)
        self.table = table
        self.row_id = row_id
        self.column = column
