"""A commit that took place and whose answer was lost: each write finds out, and none is done twice."""

import pytest
from sqlalchemy import make_url

from tests.faults.kit import tally
from tests.faults.kit.ambiguous import ambiguous_commits
from tests.faults.kit.cluster import Cluster
from tests.faults.kit.form import runs
from tests.wire.calls import ALL, Counted
from tests.wire.test_durable import WRITES
from wfe_postgres import PostgresPersistenceProvider, WorkflowExistsError
from wfe_postgres.rows import Base
from wfe_postgres.testing.conformance.support import workflow

COUNTS = " UNION ALL ".join(f"SELECT '{table}', count(*) FROM {table}" for table in Base.metadata.sorted_tables)
# The large ones are no other statements, and a purge only does not count the batch whose answer was lost.
CALLS = sorted(name for name in WRITES if "100" not in name and not name.startswith("purge"))


@pytest.mark.parametrize("counted", [ALL[name] for name in CALLS], ids=CALLS)
def test_the_truth_is_found_out(cluster: Cluster, database: str, counted: Counted) -> None:
    """It returns as it does undisturbed, and leaves the same number of rows."""
    name = str(make_url(database).database)
    with PostgresPersistenceProvider(database) as provider:
        left = []
        for disturbed in (False, True):
            provider.truncate_all()
            call = counted.prepare(provider)
            if disturbed:
                with ambiguous_commits(cluster) as ended:
                    call()
                assert ended == [1], "no commit was left waiting"
            else:
                call()
            left.append(cluster.sql(COUNTS, database=name))
    assert left[0] == left[1]
    tally.count("commit acknowledged to nobody", faults=1, acknowledged=1, doubled=0, unknown=0)


@pytest.mark.parametrize("turn", range(runs(2, 50)))
def test_a_creation_is_one(cluster: Cluster, database: str, turn: int) -> None:
    """The workflow is there once; another under its id is refused, and leaves it as it is."""
    with PostgresPersistenceProvider(database) as provider:
        with ambiguous_commits(cluster) as ended:
            assert provider.create_new_workflow(workflow(id="once", data={"turn": turn})) == "once"
        assert ended == [1]
        with pytest.raises(WorkflowExistsError):
            provider.create_new_workflow(workflow(id="once", data={"turn": "another"}))
        assert provider.get_workflow_instance("once").data == {"turn": turn}
