"""The web configuration and its certificates when they change while the agent runs."""

import os
import ssl
from pathlib import Path

import pytest
import trustme

from agent.web import protection as module
from agent.web.protection import Protection, check
from tests.agent.web_files import SECRET_HASH, certify, web_file

PROTECTED = f"""
tls_server_config: {{cert_file: a.crt, key_file: a.key}}
basic_auth_users: {{alice: {SECRET_HASH}}}
"""


@pytest.fixture
def authority() -> trustme.CA:
    """Who signs."""
    return trustme.CA()


@pytest.fixture
async def protection(tmp_path: Path, authority: trustme.CA) -> Protection:
    """TLS and a user."""
    certify(tmp_path, "a", authority)
    problems: list[str] = []
    made = Protection(web_file(tmp_path, PROTECTED), problems)
    assert problems == []
    return made


async def test_without_a_change_nothing_is_read_again(protection: Protection, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for every connection and every request."""
    monkeypatch.setattr(module, "load", None)
    before = protection.loaded
    assert await protection.current() is before


async def test_without_a_file_there_is_no_protection() -> None:
    """And nothing to look at."""
    loaded = await Protection("", []).current()
    assert (loaded.context, loaded.file.tls, loaded.file.users) == (None, None, {})


async def test_a_new_certificate_is_taken(protection: Protection, tmp_path: Path, authority: trustme.CA) -> None:
    """By connections that begin from now on."""
    before = protection.loaded.context
    certify(tmp_path, "a", authority)
    after = (await protection.current()).context
    assert isinstance(after, ssl.SSLContext)
    assert after is not before
    assert await protection.current() is protection.loaded


async def test_between_a_new_certificate_and_its_key_the_old_pair_holds(
    protection: Protection, tmp_path: Path, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever copies two files copies one first; it is said once, and then the new pair is taken."""
    before = protection.loaded
    key = (tmp_path / "a.key").read_bytes()
    certify(tmp_path, "a", authority)
    new_key = (tmp_path / "a.key").read_bytes()
    (tmp_path / "a.key").write_bytes(key)

    assert await protection.current() is before
    assert await protection.current() is before
    assert "the key is not that of the certificate" in protection.reason
    assert len([record for record in caplog.records if "cannot be used" in record.message]) == 1

    (tmp_path / "a.key").write_bytes(new_key)
    assert await protection.current() is not before
    assert protection.reason == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tls_server_config:\n",
        "tls_server_config: {cert_file: a.crt, ke",
        "tls_server_config: {cert_file: a.crt, key_file: a.key}",
        f"basic_auth_users: {{alice: {SECRET_HASH}}}",
        PROTECTED + "rate_limit: {}",
        PROTECTED.replace("a.crt", "nowhere.crt"),
    ],
)
async def test_a_file_that_is_wrong_or_protects_less_changes_nothing(protection: Protection, tmp_path: Path, text: str) -> None:
    """An empty file is what one looks like that is being written."""
    before = protection.loaded
    web_file(tmp_path, text)

    assert await protection.current() is before
    assert protection.reason
    web_file(tmp_path, PROTECTED.replace("alice", "bob"))
    assert list((await protection.current()).file.users) == ["bob"]


async def test_a_file_that_is_gone_changes_nothing(protection: Protection, tmp_path: Path) -> None:
    """And is read when it is back."""
    before = protection.loaded
    (tmp_path / "web.yml").unlink()
    assert await protection.current() is before
    assert "No such file" in protection.reason
    web_file(tmp_path, PROTECTED)
    assert await protection.current() is not before


async def test_a_certificate_that_was_missing_is_taken_when_it_is_there(
    protection: Protection, tmp_path: Path, authority: trustme.CA
) -> None:
    """Also one that only the file names that could not be used."""
    web_file(tmp_path, PROTECTED.replace("a.crt", "b.crt").replace("a.key", "b.key"))
    before = await protection.current()
    assert "b.crt" in protection.reason
    certify(tmp_path, "b", authority)
    assert await protection.current() is not before
    assert protection.reason == ""


async def test_a_secret_of_kubernetes_changes_by_a_link(tmp_path: Path, authority: trustme.CA) -> None:
    """The kubelet swaps the link `..data`, through which all files are seen: kubernetes/pkg/volume/util/atomic_writer.go."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        certify(tmp_path / name, "a", authority)
        web_file(tmp_path / name, PROTECTED)
    (tmp_path / "..data").symlink_to("one")
    for name in ("web.yml", "a.crt", "a.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    protection = Protection(str(tmp_path / "web.yml"), [])
    before = protection.loaded
    (tmp_path / "..new").symlink_to("two")
    os.replace(tmp_path / "..new", tmp_path / "..data")

    assert await protection.current() is not before
    assert protection.reason == ""


def test_a_check_says_what_is_wrong_with_certificates_too(tmp_path: Path) -> None:
    """Not only with the file."""
    problems: list[str] = []
    check(web_file(tmp_path, PROTECTED), problems)
    assert [problem.partition(":")[0] for problem in problems] == [f"cannot read {tmp_path}/a.crt", f"cannot read {tmp_path}/a.key"]
