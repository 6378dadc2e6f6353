"""The commands of exec sessions and of health checks, spelled alike: as dockerd 20.10 spells them."""

import pytest
from hypothesis import given

from agent.sources.docker_execs import command_of, probe_of
from tests.agent.test_docker_facts import JSON, event


def config(test: object, **more: object) -> object:
    """Spell an inspection."""
    return {"Config": {"Healthcheck": {"Test": test}, **more}}


@pytest.mark.parametrize(
    ("inspected", "action"),
    [
        (config(["CMD-SHELL", "curl -f localhost || exit 1"]), "exec_start: /bin/sh -c curl -f localhost || exit 1"),
        (config(["CMD-SHELL", "x"], Shell=["/bin/bash", "-eo", "pipefail", "-c"]), "exec_start: /bin/bash -eo pipefail -c x"),
        (config(["CMD", "/probe", "--fast", "a b"]), "exec_start: /probe --fast a b"),
        (config(["CMD", "/probe"]), "exec_start: /probe "),
    ],
)
def test_a_health_check_is_spelled_as_its_event(inspected: object, action: str) -> None:
    """With the space behind a command without arguments."""
    assert probe_of(inspected) == command_of(event(action))


@pytest.mark.parametrize(
    "inspected", [{}, {"Config": None}, config(None), config([]), config(["NONE"]), config(["NONE", "x"]), config(["CMD", 3])]
)
def test_one_without_a_health_check_has_none(inspected: object) -> None:
    """Also if an image's was switched off."""
    assert probe_of(inspected) is None


@pytest.mark.parametrize("action", ["exec_create: sh ", "exec_die", "start", "exec_start", None, 3])
def test_other_events_start_nothing(action: object) -> None:
    """A session has three."""
    assert command_of(event(action)) is None


@given(JSON)
def test_whatever_is_said_nothing_is_raised(content: object) -> None:
    """It is others' JSON."""
    assert isinstance(probe_of(content), str | None)
    assert isinstance(probe_of(config(content)), str | None)
    assert isinstance(command_of({"Action": content}), str | None)
