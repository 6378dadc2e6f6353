"""Which API of Kubernetes is asked for names, as whom and at what pace: from the settings, and what the node tells the agent."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Literal

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a pod finds the token of its service account, and the certificate of the cluster's authority."""

SOURCES = ("auto", "kubelet", "apiserver", "files", "none")


@dataclass(frozen=True, slots=True)
class Access:
    """Which API is asked, and as whom."""

    mode: Literal["kubelet", "apiserver"]
    url: str
    node_name: str = ""
    """Whose pods the API server is asked for."""
    token_file: str = f"{ACCOUNT}/token"
    ca_file: str = f"{ACCOUNT}/ca.crt"
    skip_verify: bool = False
    """Believe any certificate of the kubelet."""


@dataclass(frozen=True, slots=True)
class ChosenApi:
    """What --kubernetes.source comes to on this node. `access` only for the two APIs, and if there are no `problems`."""

    source: str
    reason: str = ""
    access: Access | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pace:
    """How long each thing may take, in seconds."""

    poll: float = 10.0
    seek: float = 2.0
    """The least time between two requests, however many ids are looked for."""
    end: float = 1.0
    """The same, however many containers have ended: what is said of a deleted pod is gone seconds later."""
    connect: float = 5.0
    answer: float = 10.0
    watch: float = 120.0
    """The API server is asked to end a watch after this; a longer one makes no difference but to how late a hang is noticed."""
    patience: float = 15.0
    again: float = 1.0
    """The least time between the starts of two watches."""


def choose(
    source: str,
    environ: Mapping[str, str],
    *,
    node_name: str = "",
    kubelet_url: str = "",
    token_file: str = "",
    ca_file: str = "",
    skip_verify: bool = False,
    exists: Callable[[str], bool] = os.path.exists,
) -> ChosenApi:
    """Decide which source of names is used, from the settings (empty: not set) and what the node tells the agent's container."""
    token_file, ca_file = token_file or f"{ACCOUNT}/token", ca_file or f"{ACCOUNT}/ca.crt"
    node_name = node_name or environ.get("NODE_NAME", "")
    node_ip, api_host = environ.get("NODE_IP", ""), environ.get("KUBERNETES_SERVICE_HOST", "")
    api_port = environ.get("KUBERNETES_SERVICE_PORT_HTTPS") or environ.get("KUBERNETES_SERVICE_PORT") or "443"
    kubelet_url = kubelet_url.rstrip("/") or (f"https://{_host(node_ip)}:10250" if node_ip else "")
    accesses = {
        "kubelet": Access("kubelet", kubelet_url, node_name, token_file, ca_file, skip_verify),
        "apiserver": Access("apiserver", f"https://{_host(api_host)}:{api_port}", node_name, token_file, ca_file),
    }
    wants = {
        "kubelet": {"NODE_IP in the environment (downward API: status.hostIP), or kubernetes.kubelet-url": kubelet_url},
        "apiserver": {
            "KUBERNETES_SERVICE_HOST in the environment, as every pod has it": api_host,
            "NODE_NAME in the environment (downward API: spec.nodeName), or kubernetes.node-name": node_name,
        },
    }
    problems = [f"kubernetes.source: {source} also needs {want}" for want, there in wants.get(source, {}).items() if not there]
    if source in ("auto", "kubelet") and kubelet_url and not re.fullmatch(r"https://[^/?#@\s]+", kubelet_url):
        problems.append(f"kubernetes.kubelet-url: got {kubelet_url!r}, expected https://HOST:PORT; without TLS the token is anybody's")
    if problems:
        return ChosenApi(source, problems=tuple(problems))
    if source == "auto":
        if not exists(token_file):
            return ChosenApi("files", f"{token_file} is not there: not in a pod, or in one without automountServiceAccountToken")
        able = next((each for each, there in wants.items() if all(there.values())), None)
        if able is None:
            return ChosenApi("files", "neither NODE_IP (status.hostIP) nor NODE_NAME (spec.nodeName) is in the environment")
        return ChosenApi(able, "a service account's token and the address are there", accesses[able])
    return ChosenApi(source, "as it was set", accesses.get(source))


def _host(address: str) -> str:
    try:
        return f"[{IPv6Address(address)}]"
    except ValueError:
        return address
