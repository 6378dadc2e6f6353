"""The names behind findings: too many to be labels, so they are looked for when a person or a script asks."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from agent.culprits import sentence
from agent.gather import Gather
from collectors import forensics
from collectors.base import Node
from collectors.findings import Examination, Finding
from collectors.kernel.container_id import ContainerKey
from collectors.services import services_of

MOST = 20
"""Findings that are looked into; the worst come first."""

log = logging.getLogger(__name__)


def _culprits(node: Node, key: ContainerKey) -> tuple[str, ...]:
    return tuple(map(sentence, forensics.culprits(node, key)))


def _services(node: Node, key: ContainerKey) -> tuple[str, ...]:
    names = services_of(node, time.clock_gettime(time.CLOCK_BOOTTIME)).get(key, ())
    return (", ".join(name.decode(errors="backslashreplace") for name in names),) if names else ()


_LOOKS: Mapping[str, Callable[[Node, ContainerKey], tuple[str, ...]]] = {
    "zombies-near-pid-limit": _culprits,
    "zombies-under-init": _culprits,
    "zombies-under-child": _culprits,
    "several-services": _services,
}
"""What is looked for, by the rule."""


async def with_names(examination: Examination, gather: Gather, seconds: float) -> Examination:
    """Return it with the names behind its findings, as far as they are found within so many seconds."""
    named = [finding for finding in examination.findings if finding.rule in _LOOKS][:MOST]
    if not named:
        return examination
    try:
        details = await gather.ask(lambda node: _look(node, named), seconds)
    except Exception as error:  # what is found is true without them
        log.debug("names not found", exc_info=error)
        return examination
    return replace(
        examination, findings=[replace(each, details=details.get((each.rule, each.labels), ())) for each in examination.findings]
    )


def _look(node: Node, findings: list[Finding]) -> dict[tuple[str, tuple[str, ...]], tuple[str, ...]]:
    keys = {container.labels: container.id.key for container in node.containers}
    found: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}
    for finding in findings:
        if (key := keys.get(finding.labels)) is not None:
            try:
                found[finding.rule, finding.labels] = _LOOKS[finding.rule](node, key)
            except Exception as error:  # it costs no other its names
                log.debug("names not found", exc_info=error, extra={"finding": finding.rule})
    return found
