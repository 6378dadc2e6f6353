"""The register of births and deaths, as the cgroup tree tells of them: names are asked for, last words are counted and logged."""

import logging

from agent.identities import Identities
from collectors import oom
from collectors.base import CONTAINER
from collectors.inquest.kills import KillLedger
from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.container_id import ContainerId
from collectors.kernel.last_words import LastWords

_SOURCE = "cgroup"

log = logging.getLogger(__name__)


class Register:
    """Hands on who was born and who ended. `local_events`: memory.events does not count what is nested (memory_localevents)."""

    def __init__(self, identities: Identities, ledger: KillLedger, *, local_events: bool) -> None:
        self._identities = identities
        self._ledger = ledger
        self._local_events = local_events

    def born(self, container: ContainerId, _cgroup: Cgroup) -> None:
        """Take note of a container whose cgroup was just made: it is on the page even if no pass ever sees it."""
        if container.host_id:
            return  # a container's word
        if container.pod_uid:
            self._identities.ask(container.key)  # it may be a sandbox, which only who knows its name can tell
        else:
            self._identities.hear(_SOURCE, container.key)

    def ended(self, container: ContainerId, cgroup: Cgroup, words: LastWords | None) -> None:
        """Take note of a container whose last process has ended; `words` is None if its cgroup was gone before it could be read."""
        if words is not None and not self._local_events:
            oom.read_last(self._ledger, container, cgroup, words)
        identity = self._identities.known.get(container.key)
        if identity is not None and identity.is_sandbox and not identity.holds_pod:
            return
        facts: dict[str, object] = dict(zip(CONTAINER, identity.name, strict=True)) if identity is not None and identity.name else {}
        if words is not None:
            facts["memory_peak_bytes"] = words.memory_peak
            facts["threads_peak"] = words.threads_peak
            facts["fork_failures"] = words.fork_failures
            if words.memory_events is not None:
                facts["oom_kill"] = words.memory_events.oom_kill
            if words.cpu_stat is not None:
                facts["cpu_seconds"] = words.cpu_stat.usage_usec / 1e6
                facts["throttled_periods"] = words.cpu_stat.nr_throttled
        known = {key: value for key, value in facts.items() if value is not None}
        level = logging.DEBUG if container.host_id else logging.INFO  # one container may make many of these
        log.log(level, "container ended", extra={"id": container.url, **known})
