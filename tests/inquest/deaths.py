"""Deaths of containers as their sources tell of them, with the cause that each had: the sequences of real runtimes, as literals."""

from tests.inquest.deaths_docker import DOCKERS, UNSURE
from tests.inquest.deaths_kubernetes import KUBERNETES, PODMAN

DEATHS = (*DOCKERS, *UNSURE, *KUBERNETES, *PODMAN)
