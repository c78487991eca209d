"""Compares the recorded effects with the expected ones."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from wfe_postgres import WorkflowInstance
from wfe_postgres.demo.ledger import Effects


def recorded(workflows: Iterable[WorkflowInstance]) -> Effects:
    """The number of times each effect is recorded in the data of the workflows."""
    return Counter((workflow.id, effect) for workflow in workflows for effect in workflow.data["effects"])


def differences(expected: Effects, found: Effects, names: Mapping[str, str], source: str) -> Iterator[str]:
    """Yield one line for each effect whose count differs; `names` maps workflow ids to names."""
    for key in sorted(expected.keys() | found.keys()):
        if expected[key] != found[key]:
            id, effect = key
            kind = "LOST" if found[key] < expected[key] else "DUPLICATED"
            yield f"{kind}: {names.get(id, id)}, {effect!r}: expected {expected[key]}, found {found[key]} in {source}"
