"""HTTPS to Kubernetes, as the source asks: tokens, certificates, and the remedy in every refusal. The TLS is real."""

import asyncio
import gzip
import logging
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from agent.sources.kubernetes_access import Pace
from agent.supervise import Blind
from tests.agent.fake_kubernetes import Kubernetes, PlainAuthority, answer, pod_of, status_of
from tests.agent.test_kubernetes_source import BOTH, A, B, Following, Mode


@BOTH
async def test_a_token_that_was_replaced_is_read_again(cluster: Kubernetes, account: Path, mode: Mode) -> None:
    """The kubelet replaces it hourly; also between the agent's reading it and the server's asking for it."""
    cluster.put(pod_of("web", status_of("app", A)))

    async def replaced(_: web.Request) -> web.StreamResponse:
        (account / "token").write_text("second")
        cluster.tokens = {"second"}
        return web.Response(status=401)

    cluster.instead = [replaced]
    following = Following(cluster.url, account, mode)
    async with following.run() as task:
        await following.until(lambda: following.name(A) != () and following.status.is_up, task)
        (account / "token").write_text("third")
        cluster.tokens = {"third"}
        cluster.end()
        before = len(cluster.requests)
        await following.until(lambda: len(cluster.requests) > before, task)
        cluster.put(pod_of("new", status_of("app", B)))
        await following.until(lambda: following.name(B) != (), task)

    assert following.status.is_up


@BOTH
async def test_a_token_that_is_refused_for_good_is_blindness_with_the_remedy(cluster: Kubernetes, account: Path, mode: Mode) -> None:
    """It is asked once more, not for ever; the token is never part of a message."""
    cluster.tokens = set()
    following = Following(cluster.url, account, mode)

    reason = await following.blind(r"answered 401; the token in .*/token is not accepted")

    assert "first" not in reason
    assert len(cluster.requests) == 2


@pytest.mark.parametrize(("mode", "remedy"), [("kubelet", "`get` on `nodes/pods`"), ("apiserver", "`list` and `watch` on `pods`")])
async def test_a_missing_right_is_named(cluster: Kubernetes, account: Path, mode: Mode, remedy: str) -> None:
    """403 says what to grant, and what not."""
    cluster.instead = [answer(403, "Forbidden")]

    reason = await Following(cluster.url, account, mode).blind("answered 403")

    assert remedy in reason
    assert ("nodes/proxy, which is too much to grant" in reason) == (mode == "kubelet")


@BOTH
async def test_redirects_are_not_followed(cluster: Kubernetes, authority: trustme.CA, account: Path, mode: Mode) -> None:
    """The token would go with them."""
    async with Kubernetes(authority) as other:
        cluster.instead = [answer(307, Location=f"{other.url}/pods")]

        await Following(cluster.url, account, mode).blind("answered 307; redirects are not followed")

        assert other.requests == []


@BOTH
async def test_compressed_answers_are_neither_asked_for_nor_unpacked(cluster: Kubernetes, account: Path, mode: Mode) -> None:
    """A megabyte of them may be a gigabyte."""
    body = gzip.compress(b'{"metadata": {"resourceVersion": "1"}, "items": []}')

    async def packed(request: web.Request) -> web.StreamResponse:
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    cluster.instead = [packed]

    await Following(cluster.url, account, mode).blind("the answer is not a list of pods")


@BOTH
async def test_proxies_of_the_environment_are_not_used(
    cluster: Kubernetes, account: Path, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet is on the same node, and a proxy is none of the token's business."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    cluster.put(pod_of("web", status_of("app", A)))
    following = Following(cluster.url, account, mode)
    async with following.run() as task:
        await following.until(lambda: following.name(A) != (), task)


@BOTH
@pytest.mark.parametrize("behaviour", ["hang", "dribble"])
async def test_an_answer_that_does_not_come_blocks_nothing_and_is_given_up(
    cluster: Kubernetes, account: Path, mode: Mode, behaviour: str
) -> None:
    """Neither one that never begins nor one that never ends; the loop goes on meanwhile."""
    cluster.instead = [getattr(cluster, behaviour)]
    following = Following(cluster.url, account, mode, Pace(answer=0.3))
    async with following.run() as task:
        await asyncio.sleep(0)
        assert not task.done(), "the loop goes on while it waits"
        with pytest.raises(Blind, match=r"no complete answer in time; the (kubelet|API server) hangs"):
            await task


@BOTH
async def test_a_port_that_accepts_and_says_nothing_is_given_up(account: Path, mode: Mode) -> None:
    """Not even TLS begins."""
    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    await Following(url, account, mode, Pace(connect=0.2)).blind(r"no connection within 0\.2 s; .*\(NetworkPolicy, firewall\)")

    for writer in connections:
        writer.close()
    server.close()


@BOTH
async def test_nobody_there_is_said_with_the_address(account: Path, mode: Mode) -> None:
    """A wrong NODE_IP looks like this."""
    await Following("https://127.0.0.1:1", account, mode).blind(
        r"https://127\.0\.0\.1:1/.*: connection refused; is the (kubelet|API server) running"
    )


@BOTH
async def test_something_that_is_not_tls_is_said(account: Path, mode: Mode) -> None:
    """The port of something else."""

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    await Following(url, account, mode).blind("127.0.0.1.*; ")

    server.close()


async def test_nothing_secret_is_logged(cluster: Kubernetes, account: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the token nor anything of a pod."""
    caplog.set_level(logging.DEBUG)
    cluster.put(pod_of("web", status_of("app", A)))
    following = Following(cluster.url, account, "apiserver")
    async with following.run() as task:
        await following.until(lambda: cluster.watches == 1, task)
        cluster.tokens = set()
        cluster.end()
        with pytest.raises(Blind) as caught:
            await task

    text = "\n".join(str(vars(record)) for record in caplog.records if not record.name.startswith("aiohttp.access"))
    assert "hunter2" not in text + str(caught.value)
    assert "first" not in text + str(caught.value)


# Certificates and tokens.


async def test_a_certificate_of_another_authority_is_not_believed(cluster: Kubernetes, account: Path) -> None:
    """The token is not even sent; what to do about kubelets that sign their own is said."""
    trustme.CA().cert_pem.write_to_path(str(account / "ca.crt"))

    reason = await Following(cluster.url, account).blind("the certificate of the kubelet is not accepted: unable to get local issuer")

    assert "serverTLSBootstrap" in reason
    assert "--kubernetes.kubelet-insecure-skip-verify" in reason
    assert cluster.requests == []


async def test_the_api_server_has_no_way_around_its_certificate(cluster: Kubernetes, account: Path) -> None:
    """Its certificate is always the cluster's."""
    trustme.CA().cert_pem.write_to_path(str(account / "ca.crt"))

    reason = await Following(cluster.url, account, "apiserver").blind("the certificate of the API server is not accepted")

    assert "skip-verify" not in reason


async def test_an_authority_that_another_has_signed_is_believed(authority: trustme.CA, account: Path) -> None:
    """Whatever is in the file is trusted, as everywhere in Kubernetes."""
    department = authority.create_child_ca()
    department.cert_pem.write_to_path(str(account / "ca.crt"))

    async with Kubernetes(department) as cluster:
        following = Following(cluster.url, account)
        async with following.run() as task:
            await following.until(lambda: following.status.is_up, task)


async def test_an_authority_without_identifiers_is_believed(account: Path) -> None:
    """Many clusters have one (EKS), and Python 3.13 refuses it by default: Missing Authority Key Identifier."""
    authority = PlainAuthority()
    (account / "ca.crt").write_bytes(authority.pem)

    async with Kubernetes(authority) as cluster:
        following = Following(cluster.url, account)
        async with following.run() as task:
            await following.until(lambda: following.status.is_up, task)


async def test_a_certificate_of_another_address_is_not_believed(authority: trustme.CA, account: Path) -> None:
    """One node's kubelet is not another's."""
    async with Kubernetes(authority, host="10.0.0.7") as cluster:
        await Following(cluster.url, account).blind(r"not accepted: IP address mismatch, certificate is not valid for '127\.0\.0\.1'")


async def test_any_certificate_is_believed_if_so_told_and_that_is_said(cluster: Kubernetes, account: Path) -> None:
    """Without any authority; the status page shows it."""
    (account / "ca.crt").unlink()
    cluster.put(pod_of("web", status_of("app", A)))
    following = Following(cluster.url, account, skip_verify=True)
    async with following.run() as task:
        await following.until(lambda: following.name(A) != () and following.status.is_up, task)

    assert following.status.reason == "any certificate of the kubelet is believed (--kubernetes.kubelet-insecure-skip-verify)"


async def test_an_authority_that_was_replaced_is_read_again(cluster: Kubernetes, account: Path) -> None:
    """Also when a connection of the old one is still open."""
    following = Following(cluster.url, account)
    async with following.run() as task:
        await following.until(lambda: len(cluster.requests) > 2, task)
        trustme.CA().cert_pem.write_to_path(str(account / "ca.crt"))
        async with asyncio.timeout(120):
            with pytest.raises(Blind, match="certificate of the kubelet is not accepted"):
                await task


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("token", None, r"token: No such file or directory; the pod needs automountServiceAccountToken: true"),
        ("token", "", r"token: no token in it"),
        ("token", "two\nwords", r"token: no token in it"),
        ("token", "sécret", r"token: no token in it"),
        ("ca.crt", None, r"ca\.crt: No such file or directory; it comes with a service account's token"),
        ("ca.crt", "", r"ca\.crt: no certificate in it"),
        ("ca.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", r"ca\.crt: no certificate in it"),
        ("ca.crt", "é", r"ca\.crt: no certificate in it"),
    ],
)
async def test_a_file_of_the_account_that_is_no_use_is_named(
    cluster: Kubernetes, account: Path, file: str, content: str | None, message: str
) -> None:
    """With what to do about it; and what is in it is never said."""
    (account / file).unlink()
    if content is not None:
        (account / file).write_text(content)

    reason = await Following(cluster.url, account).blind(message)

    assert not content or content not in reason
