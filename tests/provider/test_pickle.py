"""A provider is not pickled; models and errors are."""

import copy
import multiprocessing
import pickle
from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session, sessionmaker

from wfe_postgres import ConcurrencyError, PostgresPersistenceProvider, PostgresWorkflowRepository
from wfe_postgres.testing.conformance.support import created, workflow

Provider = PostgresPersistenceProvider


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_provider_is_not_pickled_or_copied(provider: Provider, copied: Callable[[object], object]) -> None:
    """The same holds for what `from_engine()` and `using()` return, and for a single repository."""
    with Session(provider.engine) as session:
        repository = PostgresWorkflowRepository(sessionmaker(provider.engine))
        for each in provider, Provider.from_engine(provider.engine), provider.using(session), repository:
            with pytest.raises(
                TypeError, match=f"^a {type(each).__name__} cannot be copied or pickled: pass the URL"
            ) as caught:
                copied(each)
            assert "://" not in str(caught.value)


def test_provider_as_argument_of_a_spawned_process_raises_type_error(provider: Provider) -> None:
    process = multiprocessing.get_context("spawn").Process(target=print, args=(provider,))
    with pytest.raises(TypeError, match="pass the URL"):
        process.start()


def test_loaded_workflow_is_saved_after_it_was_pickled(provider: Provider) -> None:
    id = created(provider, workflow()).id
    instance = pickle.loads(pickle.dumps(provider.get_workflow_instance(id)))
    instance.data = {"changed": True}
    provider.persist_workflow(instance)
    assert provider.get_workflow_instance(id).data == {"changed": True}


def test_revision_as_text_detects_a_late_save(provider: Provider) -> None:
    """Browsers read numbers in JSON as doubles, which are exact up to 53 bits."""
    id = created(provider, workflow()).id
    seen = str(provider.get_workflow_instance(id).revision)
    save_as_of(provider, id, seen, "in time")
    with pytest.raises(ConcurrencyError):
        save_as_of(provider, id, seen, "late")
    assert provider.get_workflow_instance(id).description == "in time"


def save_as_of(provider: Provider, id: str, revision: str, description: str) -> None:
    """Save the workflow if it still has this revision."""
    instance = provider.get_workflow_instance(id)
    instance.revision, instance.description = int(revision), description
    provider.persist_workflow(instance)
