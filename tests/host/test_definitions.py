"""The definitions that a host knows."""

from wfe_postgres.host import WorkflowBuilder, WorkflowDefinition
from wfe_postgres.host.definitions import Definitions


def definition(id: str) -> WorkflowDefinition:
    """One of a single step."""
    return WorkflowBuilder(id).end_workflow().build()


def test_definition_that_is_added_during_an_iteration_does_not_disturb_it() -> None:
    """A host that polls iterates in another thread than the one that registers."""
    definitions = Definitions([definition("first"), definition("second")])
    keys = iter(definitions.keys())
    found = [next(keys)]
    definitions.add(definition("third"))
    assert [*found, *keys] == [("first", 1), ("second", 1)]
    assert list(definitions) == [("first", 1), ("second", 1), ("third", 1)]
