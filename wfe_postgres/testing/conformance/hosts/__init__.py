"""The conformance suite for hosts: what `WorkflowHost` promises, as far as it can be told from outside."""

from wfe_postgres.testing.conformance.hosts.alarms import HostAlarmConformance
from wfe_postgres.testing.conformance.hosts.claims import HostClaimConformance
from wfe_postgres.testing.conformance.hosts.definitions import HostDefinitionConformance
from wfe_postgres.testing.conformance.hosts.disturbances import HostDisturbanceConformance
from wfe_postgres.testing.conformance.hosts.events import HostEventConformance
from wfe_postgres.testing.conformance.hosts.failures import HostFailureConformance
from wfe_postgres.testing.conformance.hosts.sagas import HostSagaConformance
from wfe_postgres.testing.conformance.hosts.status_changes import HostStatusConformance
from wfe_postgres.testing.conformance.hosts.structures import HostStructureConformance
from wfe_postgres.testing.conformance.hosts.support import Host, HostSuite, MakeHost, World


class HostConformance(
    HostClaimConformance,
    HostFailureConformance,
    HostStatusConformance,
    HostEventConformance,
    HostAlarmConformance,
    HostSagaConformance,
    HostStructureConformance,
    HostDefinitionConformance,
    HostDisturbanceConformance,
):
    """The complete suite.

        class TestMyHost(HostConformance):
            @pytest.fixture
            def provider(self):
                return InMemoryPersistenceProvider()          # on an empty store

            @pytest.fixture
            def make_host(self):
                return MyHost          # called with provider, definitions, clock=, lease= and poll_interval=

    `Host` says what the suite uses of a host. The definitions are made by `WorkflowBuilder`. The parts can be inherited
    separately, for a host that has not all of it.
    """


__all__ = [
    "Host",
    "HostAlarmConformance",
    "HostClaimConformance",
    "HostConformance",
    "HostDefinitionConformance",
    "HostDisturbanceConformance",
    "HostEventConformance",
    "HostFailureConformance",
    "HostSagaConformance",
    "HostStatusConformance",
    "HostStructureConformance",
    "HostSuite",
    "MakeHost",
    "World",
]
