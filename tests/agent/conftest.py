"""A cluster for the tests of what asks it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from tests.agent.fake_kubernetes import Kubernetes


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The cluster's certificate authority."""
    return trustme.CA()


@pytest.fixture
async def cluster(authority: trustme.CA) -> AsyncIterator[Kubernetes]:
    """A node's kubelet and the API server, at one address."""
    async with Kubernetes(authority) as cluster:
        yield cluster


@pytest.fixture
def account(tmp_path: Path, authority: trustme.CA) -> Path:
    """The files of a service account."""
    (tmp_path / "token").write_text("first\n")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    return tmp_path
