"""The verdict of the demo: what it compares, and that it can fail."""

from dataclasses import replace
from io import StringIO
from typing import cast

from rich.console import Console
from sqlalchemy.orm import Session

from wfe_postgres import PostgresPersistenceProvider, WorkflowStatus
from wfe_postgres.demo.audit import differences
from wfe_postgres.demo.ledger import Effects, Ledger
from wfe_postgres.demo.narration import Narration
from wfe_postgres.demo.orders import ORDER, expected_effects, order_data
from wfe_postgres.demo.run import WORKERS, consequences, verdict
from wfe_postgres.demo.scenario import Fault
from wfe_postgres.demo.show import Show
from wfe_postgres.demo.workers import Workers
from wfe_postgres.host import WorkflowHost

VERDICT = "No effect was lost or duplicated."


def test_differences_name_what_was_lost_and_what_was_doubled() -> None:
    due = Effects({("1", "shipped"): 1, ("1", "paid"): 1, ("2", "shipped"): 1})
    found = Effects({("1", "paid"): 2, ("2", "shipped"): 1, ("3", "shipped"): 1})
    assert list(differences(due, found, {"1": "order-1"}, "the table")) == [
        "DUPLICATED: order-1, 'paid': expected 1, found 2 in the table",
        "LOST: order-1, 'shipped': expected 1, found 0 in the table",
        "DUPLICATED: 3, 'shipped': expected 0, found 1 in the table",
    ]


def test_consequences_state_a_step_that_was_saved_and_an_effect_that_was_lost() -> None:
    fault = Fault("worker-1", "killed (SIGKILL)", "order-3", "pick line vase", "vase picked")
    assert list(consequences(fault, ["worker-1"]))[1:] == [
        "  It had just saved the step: 'vase picked' is recorded once, by worker-1."
    ]
    assert list(consequences(replace(fault, successor="worker-2"), []))[1:] == [
        "  worker-2 took the step over: 'vase picked' is recorded 0 times."
    ]


def judged(provider: PostgresPersistenceProvider, status: WorkflowStatus, crashed: list[str]) -> tuple[int, str]:
    """The verdict on one order, whose effects stand in its data and in the table."""
    ledger = Ledger(provider.engine, "wfc")
    ledger.create()
    text = StringIO()
    show = Show(Console(file=text, width=80), WORKERS)
    narration = Narration(provider, cast(Workers, None), show)
    data = order_data("order-1", ["tea"], busy=0)
    effects = expected_effects(data)
    id = WorkflowHost(provider, [ORDER]).start_workflow(ORDER.id, data | {"effects": list(effects)})
    workflow = provider.get_workflow_instance(id)
    workflow.status = status
    provider.persist_workflow(workflow)
    with Session(provider.engine) as session, session.begin():
        for effect in effects:
            ledger.write(session, id, effect, "worker-1")
    narration.orders, narration.crashed = {id: "order-1"}, crashed
    narration.expected = Effects({(id, effect): count for effect, count in effects.items()})
    return verdict(narration, provider, ledger, show), text.getvalue()


def test_the_verdict_is_good_when_everything_is_done_once(provider: PostgresPersistenceProvider) -> None:
    code, shown = judged(provider, WorkflowStatus.COMPLETE, [])
    assert code == 0
    assert VERDICT in shown


def test_the_verdict_is_bad_when_an_order_is_not_done(provider: PostgresPersistenceProvider) -> None:
    code, shown = judged(provider, WorkflowStatus.RUNNABLE, [])
    assert code == 1
    assert "NOT FINISHED: order-1" in shown
    assert VERDICT not in shown


def test_the_verdict_is_bad_when_a_worker_has_crashed(provider: PostgresPersistenceProvider) -> None:
    code, shown = judged(provider, WorkflowStatus.COMPLETE, ["worker-2"])
    assert code == 1
    assert "CRASHED: worker-2 exited unexpectedly" in shown
