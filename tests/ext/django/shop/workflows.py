"""An order that waits for its payment."""

from django.db.models import F

from tests.ext.django.shop.models import Order
from wfe_postgres.host import Retry, StepContext, WorkflowBuilder


def count(context: StepContext) -> None:
    """Writes a row by the ORM."""
    if context.data.get("fails"):
        Order.objects.create(number="of a step that failed")
        raise LookupError("no such article")
    Order.objects.filter(number=context.data["number"]).update(steps=F("steps") + 1)


ORDER = (
    WorkflowBuilder("order", on_error=Retry(interval=60, max_retries=1))
    .start_with(count)
    .wait_for("paid", key=lambda context: context.data["number"])
    .then(count)
    .build()
)
OUTSIDE = (
    WorkflowBuilder("outside", on_error=Retry(interval=0, max_retries=1)).start_with(count, transaction=False).build()
)
NO_DEFINITION = "not a definition"
