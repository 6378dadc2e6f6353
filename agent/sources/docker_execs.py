"""Exec sessions as Docker tells of them: the command of one that was started, and that of a health check, spelled alike. Pure.

Docker runs a health check as an exec session of its own, and its events do not say so.
https://github.com/moby/moby/blob/v20.10.24/daemon/health.go, exec.go
"""

from collections.abc import Mapping
from typing import Any

from agent.sources.docker_facts import mapping_of

_EXEC = "exec_start: "


def command_of(event: Mapping[str, Any]) -> str | None:
    """Return the command that an event says to be started in a container; None if it says something else."""
    action = event.get("Action")
    return action[len(_EXEC) :] if isinstance(action, str) and action.startswith(_EXEC) else None


def probe_of(container: object) -> str | None:
    """Return the command of the health check of a container that was inspected, as an event spells it; None if it has none."""
    config = mapping_of(mapping_of(container).get("Config"))
    test = mapping_of(config.get("Healthcheck")).get("Test")
    if not isinstance(test, list) or len(test) < 2 or not all(isinstance(each, str) for each in test):
        return None
    kind, *command = test
    if kind == "CMD-SHELL":
        shell = config.get("Shell")
        command = [*(map(str, shell) if isinstance(shell, list) and shell else ("/bin/sh", "-c")), *command]
    return None if kind == "NONE" else f"{command[0]} {' '.join(command[1:])}"
