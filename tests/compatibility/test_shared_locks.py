"""A store that Python hosts and Rust hosts share, with the locks of a service of the application's own."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from uuid import uuid4

import pytest

from examples.valkey_locks import RELEASE, ValkeyLocks
from tests.compatibility.rust_host import Row, RustHost, pointer_row, workflow_row
from tests.compatibility.valkey import Valkey
from wfe_postgres import PostgresPersistenceProvider, WorkflowStatus
from wfe_postgres.contract.services import DistributedLockProvider
from wfe_postgres.host import StepContext, WorkflowBuilder, WorkflowHost
from wfe_postgres.testing.conformance import LockConformance
from wfe_postgres.testing.conformance.support import TIMEOUT, at, eventually

STEPS = 4
WORKFLOWS = 25
DUE = "SELECT id FROM wfc.workflows WHERE status = 'Runnable' AND next_execution <= %s"
HELD = 30
"""Seconds after which a lock of the engine's provider for Valkey ends. It is never renewed."""


class TestValkeyLocks(LockConformance):
    """The example passes the suite for lock services."""

    @pytest.fixture
    def make_locks(self) -> Callable[[], DistributedLockProvider]:
        return partial(ValkeyLocks, Valkey(), prefix="wfe")

    @pytest.mark.skip("for Valkey, all names are valid")
    def test_what_is_no_name_is_refused(self) -> None:  # type: ignore[override]
        """See `LockConformance`."""


class Work:
    """Steps that two kinds of host run: each run is counted, and changes the workflow's data."""

    def __init__(self) -> None:
        self.runs: Counter[tuple[str, int]] = Counter()
        self.by_rust = 0

    def step(self, context: StepContext) -> None:
        """A step in the Python host."""
        time.sleep(0.002)
        self.runs[context.workflow.id, context.pointer.step_id] += 1
        context.data["runs"].append(context.pointer.step_id)

    def pass_of_rust_host(self, rust: RustHost, valkey: Valkey, id: str) -> bool:
        """One pass of a Rust host: lock, load, run a step, save over everything, release. False: no step is ready."""
        key, value = f"wfe:lock:{id}", str(uuid4())
        if not valkey.set(key, value, nx=True, ex=HELD):
            return False
        try:
            row, pointers = rust.load(id)
            ready = [it for it in pointers if it["status"] == "Pending"]
            if row["status"] != "Runnable" or not ready:
                return False
            time.sleep(0.002)
            self._run(row, pointers, ready[0])
            rust.save(row, pointers)
            return True
        finally:
            valkey.eval(RELEASE, 1, key, value)

    def _run(self, row: Row, pointers: list[Row], pointer: Row) -> None:
        step = pointer["step_id"]
        self.runs[row["id"], step] += 1
        self.by_rust += 1
        row["data"]["runs"].append(step)
        pointer |= {"status": "Complete", "active": False}
        if step + 1 < STEPS:
            following = pointer_row(str(uuid4()), step_id=step + 1, step_name="step", predecessor_id=pointer["id"])
            pointers.append(following)
        else:
            row |= {"status": "Complete", "next_execution": None}

    def rust_host(self, rust: RustHost, valkey: Valkey, stopped: threading.Event) -> None:
        """Run steps of what is due, until the test ends."""
        while not stopped.is_set():
            for row in rust.query(DUE, int(time.time() * 1000)):
                self.pass_of_rust_host(rust, valkey, row["id"])


def definition(work: Work) -> WorkflowBuilder:
    """A number of steps, one after the other."""
    builder = WorkflowBuilder("shared").start_with(work.step, name="step")
    for _ in range(STEPS - 1):
        builder.then(work.step, name="step")
    return builder


@contextmanager
def running(target: Callable[..., None], *arguments: object) -> Iterator[None]:
    """Run the function in a thread; its last argument ends it."""
    stopped = threading.Event()
    thread = threading.Thread(target=target, args=(*arguments, stopped))
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(TIMEOUT)


def test_each_step_is_run_once_by_one_of_the_two_hosts(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    """The Rust host overwrites what is stored, without a look at the revision; under the lock nothing is lost."""
    work, valkey = Work(), Valkey()
    host = WorkflowHost(
        provider, [definition(work).build()], lock=ValkeyLocks(valkey, prefix="wfe"), poll_interval=0.01, threads=2
    )
    with host, running(work.rust_host, rust, valkey):
        ids = [host.start_workflow("shared", {"runs": []}) for _ in range(WORKFLOWS)]
        for id in ids:
            host.wait_for_workflow(id, TIMEOUT)
    assert work.runs == {(id, step): 1 for id in ids for step in range(STEPS)}
    assert 0 < work.by_rust < WORKFLOWS * STEPS, "one of the hosts had nothing to do"
    for workflow in provider.get_workflow_instances(ids):
        assert workflow.status is WorkflowStatus.COMPLETE
        assert workflow.data == {"runs": list(range(STEPS))}
    assert valkey.locks() == set()


def test_workflow_that_a_rust_host_has_locked_waits_for_it(
    provider: PostgresPersistenceProvider, rust: RustHost
) -> None:
    """And is not dropped: the poll finds it when the lock is free."""
    work, valkey = Work(), Valkey()
    locks = ValkeyLocks(valkey, prefix="wfe")
    with WorkflowHost(provider, [definition(work).build()], lock=locks, poll_interval=0.01) as host:
        valkey.set("wfe:lock:w1", "of the Rust host", nx=True, ex=HELD)
        rust.create(
            workflow_row("w1", definition_id="shared", data={"runs": []}, create_time=at(0)),
            [pointer_row("p1", step_id=0, step_name="step")],
        )
        time.sleep(0.3)
        assert work.runs == {}
        valkey.eval(RELEASE, 1, "wfe:lock:w1", "of the Rust host")
        assert host.wait_for_workflow("w1", TIMEOUT).status is WorkflowStatus.COMPLETE


def test_lock_of_a_long_step_is_renewed(provider: PostgresPersistenceProvider) -> None:
    """A Rust host cannot take the workflow, however long the step takes."""
    valkey, gate, entered = Valkey(), threading.Event(), threading.Event()

    def long(_: StepContext) -> None:
        entered.set()
        gate.wait(TIMEOUT)

    locks = ValkeyLocks(valkey, prefix="wfe", lease=1)
    with WorkflowHost(provider, [WorkflowBuilder("long").start_with(long).build()], lock=locks) as host:
        id = host.start_workflow("long")
        entered.wait(TIMEOUT)
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            assert not valkey.set(f"wfe:lock:{id}", "of the Rust host", nx=True, ex=HELD)
            time.sleep(0.02)
        gate.set()
        host.wait_for_workflow(id, TIMEOUT)
        eventually(lambda: not valkey.locks())


def test_step_whose_lock_expired_is_not_saved_over_the_rust_host(
    provider: PostgresPersistenceProvider, rust: RustHost
) -> None:
    """Also when the Rust host has only loaded the workflow, so that its revision still stands."""
    work, valkey, clock = Work(), Valkey(), [0.0]
    locks = ValkeyLocks(valkey, prefix="wfe", now=lambda: clock[0])
    gate, entered = threading.Event(), threading.Event()

    def long(context: StepContext) -> None:
        context.data["runs"].append("lost")
        entered.set()
        gate.wait(TIMEOUT)

    lost = WorkflowBuilder("shared").start_with(long, name="step").then(work.step, name="step").build()
    with WorkflowHost(provider, [lost], lock=locks, lease=300.0, poll_interval=0.01) as host:
        id = host.start_workflow("shared", {"runs": []})
        entered.wait(TIMEOUT)
        valkey.expire_all()
        clock[0] += HELD
        valkey.set(f"wfe:lock:{id}", "of the Rust host", nx=True, ex=HELD)
        row, pointers = rust.load(id)
        gate.set()
        time.sleep(0.3)
        assert rust.load(id) == (row, pointers)
        rust.save(row | {"description": "by the Rust host"}, pointers)
    workflow = provider.get_workflow_instance(id)
    assert (workflow.data, workflow.description) == ({"runs": []}, "by the Rust host")
