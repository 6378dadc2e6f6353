"""Which API of Kubernetes is asked: from the settings, and what the node tells the agent."""

import re
from typing import Any

import pytest

from agent.sources.kubernetes_access import ACCOUNT, SOURCES, Access, choose
from tests.agent.fake_kubernetes import NODE

IN_A_POD = {
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    "KUBERNETES_SERVICE_PORT": "6443",
    "NODE_NAME": NODE,
    "NODE_IP": "192.0.2.7",
}


def without(*names: str) -> dict[str, str]:
    """Return what a pod's environment says, without these."""
    return {name: value for name, value in IN_A_POD.items() if name not in names}


@pytest.mark.parametrize(
    ("source", "environ", "settings", "chosen", "url"),
    [
        ("auto", IN_A_POD, {}, "kubelet", "https://192.0.2.7:10250"),
        ("auto", without("NODE_IP"), {}, "apiserver", "https://10.96.0.1:6443"),
        ("auto", without("NODE_IP"), {"kubelet_url": "https://localhost:10250/"}, "kubelet", "https://localhost:10250"),
        ("auto", without("NODE_IP", "NODE_NAME"), {}, "files", None),
        ("auto", without("NODE_IP"), {"exists": lambda _: False}, "files", None),
        ("auto", {}, {}, "files", None),
        ("kubelet", {"NODE_IP": "2001:db8::7"}, {"exists": lambda _: False}, "kubelet", "https://[2001:db8::7]:10250"),
        ("kubelet", IN_A_POD, {"kubelet_url": "https://node:1"}, "kubelet", "https://node:1"),
        ("apiserver", IN_A_POD, {}, "apiserver", "https://10.96.0.1:6443"),
        ("apiserver", {"KUBERNETES_SERVICE_HOST": "fd00::1", "NODE_NAME": NODE}, {}, "apiserver", "https://[fd00::1]:443"),
        ("apiserver", IN_A_POD | {"KUBERNETES_SERVICE_PORT_HTTPS": "443"}, {}, "apiserver", "https://10.96.0.1:443"),
        ("files", IN_A_POD, {}, "files", None),
        ("none", IN_A_POD, {}, "none", None),
    ],
)
def test_the_source_follows_from_the_setting_and_what_is_there(
    source: str, environ: dict[str, str], settings: dict[str, Any], chosen: str, url: str | None
) -> None:
    """Where the API is not chosen by hand, it is only used if all that it needs is there."""
    choice = choose(source, environ, **{"exists": lambda path: path == f"{ACCOUNT}/token", **settings})

    assert (choice.source, choice.access.url if choice.access else None, choice.problems) == (chosen, url, ())
    assert choice.reason
    assert choice.source in SOURCES


def test_settings_beat_the_environment() -> None:
    """The node's name, the files and the certificate."""
    settings = {"node_name": "other", "token_file": "/t", "ca_file": "/c"}

    assert choose("kubelet", IN_A_POD, **settings, skip_verify=True).access == Access(  # type: ignore[arg-type] # all of them are text
        "kubelet", "https://192.0.2.7:10250", "other", "/t", "/c", skip_verify=True
    )
    api = choose("apiserver", IN_A_POD, **settings, skip_verify=True).access  # type: ignore[arg-type] # as above
    assert api == Access("apiserver", "https://10.96.0.1:6443", "other", "/t", "/c", skip_verify=False), "that one is always verified"


@pytest.mark.parametrize("url", ["http://node:10255", "node:10250", "https://", "https://user@node", "https://node/x", "https://a b"])
def test_a_kubelet_is_only_asked_over_tls(url: str) -> None:
    """The token would go to whoever listens."""
    assert choose("kubelet", IN_A_POD, kubelet_url=url).access is None
    assert "kubernetes.kubelet-url: got" in choose("kubelet", IN_A_POD, kubelet_url=url).problems[0]


@pytest.mark.parametrize(
    ("source", "environ", "names"),
    [
        ("kubelet", {}, [["NODE_IP", "status.hostIP", "kubernetes.kubelet-url"]]),
        ("apiserver", {}, [["KUBERNETES_SERVICE_HOST"], ["NODE_NAME", "spec.nodeName", "kubernetes.node-name"]]),
        ("apiserver", without("NODE_NAME"), [["NODE_NAME"]]),
        ("auto", {"NODE_IP": "192.0.2.7/x"}, [["kubernetes.kubelet-url", "https://HOST:PORT"]]),
    ],
)
def test_what_is_missing_for_a_source_that_was_asked_for_is_a_problem(source: str, environ: dict[str, str], names: list[list[str]]) -> None:
    """All of it at once."""
    choice = choose(source, environ, exists=lambda _: True)

    assert choice.access is None
    assert len(choice.problems) == len(names)
    for problem, expected in zip(choice.problems, names, strict=True):
        assert re.match(rf"kubernetes\.source: {source} also needs |kubernetes\.kubelet-url: got '.*', expected ", problem)
        assert all(name in problem for name in expected)
