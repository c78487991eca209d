"""The lines of the order page: the shop's tables and the store's in one query, with `wfe_postgres.orm`."""

from collections import Counter

from sqlalchemy import select
from sqlalchemy.orm import contains_eager, joinedload, selectinload

from examples.shop.flask_front.models import Order, db
from examples.shop.overview import Line
from wfe_postgres import PointerStatus
from wfe_postgres.orm import WorkflowRow


def newest_orders(limit: int = 50) -> list[Line]:
    """The newest orders with their workflows, loaded with four queries."""
    newest = select(Order, WorkflowRow).join(Order.workflow).order_by(Order.number.desc()).limit(limit)
    steps = contains_eager(Order.workflow).options(selectinload(WorkflowRow.pointers), selectinload(WorkflowRow.errors))
    rows = db.session.execute(newest.options(joinedload(Order.product), selectinload(Order.payments), steps))
    return [line(order, workflow) for order, workflow in rows]


def line(order: Order, workflow: WorkflowRow) -> Line:
    """The order on the page."""
    last = workflow.pointers[-1]
    step = f"await {last.event_name}" if last.event_name else (last.step_name or "").replace("_", " ")
    waiting = [str(it.event_name) for it in workflow.pointers if it.status == PointerStatus.WAITING_FOR_EVENT]
    errors = Counter(it.message.splitlines()[0] for it in workflow.errors)
    return Line(order, workflow.status, step, waiting, errors, is_paid=bool(order.payments))
