"""The demo's verdict: what was recorded, counted against what was due."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from wfe_postgres import WorkflowInstance
from wfe_postgres.demo.ledger import Effects


def recorded(workflows: Iterable[WorkflowInstance]) -> Effects:
    """How often each effect stands in the workflows' data."""
    return Counter((workflow.id, effect) for workflow in workflows for effect in workflow.data["effects"])


def differences(due: Effects, found: Effects, names: Mapping[str, str], where: str) -> Iterator[str]:
    """A line for each effect that was not found as often as it was due; `names` are the workflows', by id."""
    for key in sorted(due.keys() | found.keys()):
        if due[key] != found[key]:
            id, effect = key
            fate = "LOST" if found[key] < due[key] else "DOUBLED"
            yield f"{fate}: {names.get(id, id)}, {effect!r}: due {due[key]}, found {found[key]} in {where}"
