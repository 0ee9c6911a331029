"""`--engine kubernetes`: starts the runners of a scenario and passes fresh bearers to them."""

from collections.abc import Sequence

from loadtest.config.models import Kubernetes
from loadtest.k6.distributed.protocol import ScenarioRequest
from loadtest.k6.kubernetes.client import Cluster
from loadtest.k6.kubernetes.test_run import ClusterFleet, launch_fleet
from loadtest.state.bearers import Bearer


class KubernetesEngine:
    """A cluster in which an environment's scenarios run, one after the other."""

    def __init__(self, cluster: Cluster, environment_name: str, where: Kubernetes) -> None:
        self._cluster = cluster
        self._environment_name = environment_name
        self._where = where
        self._fleet: ClusterFleet | None = None
        self._fresh: Sequence[Bearer] = ()

    def launch(self, request: ScenarioRequest) -> ClusterFleet:
        """Create the runners of a scenario."""
        before = self._fresh
        fleet = self._fleet = launch_fleet(
            request,
            cluster=self._cluster,
            environment_name=self._environment_name,
            where=self._where,
        )
        try:
            if self._fresh is not before:  # renewed after the Secret was created
                fleet.update_bearers(self._fresh)
        except BaseException:
            fleet.close()
            raise
        return fleet

    def renew(self, bearers: Sequence[Bearer]) -> None:
        """Put fresh bearers into the Secret that the runners read; K6Error if that fails."""
        self._fresh = bearers
        if self._fleet is not None:
            self._fleet.update_bearers(bearers)
