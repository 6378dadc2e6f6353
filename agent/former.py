"""What was known of containers that are not there any more: a join by name finds the image of a victim as long as its kills are shown."""

from collections.abc import Callable, Iterable, Mapping

from agent.identities import Identity
from collectors.base import Container, Former, Info
from collectors.kernel import container_id
from collectors.kernel.container_id import ContainerId, ContainerKey
from collectors.kernel.last_words import Death


class Formers:
    """Remembers each container as long as it has a name."""

    def __init__(self) -> None:
        self._known: dict[ContainerKey, tuple[ContainerId, Info]] = {}

    def take(
        self,
        containers: Iterable[Container],
        names: Mapping[ContainerKey, tuple[str, ...]],
        *,
        identities: Mapping[ContainerKey, Identity],
        deaths: Mapping[ContainerKey, Death],
        describe: Callable[[ContainerKey], tuple[str, Info]],
    ) -> list[Former]:
        """Return one for each name that no container of this census has; of several that had it, the last to end.

        `describe` gives what its runtime told of it: the runtime's own name, and the rest. Of one that no census has seen the cgroup is
        known if its end was noticed (`deaths`).
        """
        self._known |= {container.id.key: (container.id, container.info) for container in containers}
        taken = {container.labels for container in containers}

        def end(key: ContainerKey) -> tuple[bool, float, int]:
            # What a container made inside of itself never takes the place of another one.
            identity, death = identities.get(key), deaths.get(key)
            return not key.is_nested, (identity.ended if identity else None) or 0.0, death.inode if death else 0

        last = {names[key]: key for key in sorted((key for key in names if names[key] not in taken), key=end)}
        for key in last.values():
            death = deaths.get(key)
            identifier = self._known[key][0] if key in self._known else container_id.parse(death.path) if death else None
            if key in identities or key not in self._known:  # who tells of it forgets it before this does
                runtime, info = describe(key)
                self._known[key] = (identifier or ContainerId.of_key(key)).told(runtime), info
        self._known = {key: known for key, known in self._known.items() if key in names}
        return [Former(labels, *self._known[key]) for labels, key in last.items()]
