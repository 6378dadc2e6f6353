"""Basic authentication: who may ask, and what asking costs."""

import base64
from collections.abc import Callable

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.web import users as module
from agent.web.users import MOST_REMEMBERED, Users, credentials
from tests.agent.web_files import SECRET_HASH

HASHES = {"alice": SECRET_HASH.encode()}


def basic(user: str, password: str | bytes) -> str:
    """Spell the header."""
    secret = password if isinstance(password, bytes) else password.encode()
    return "Basic " + base64.b64encode(user.encode() + b":" + secret).decode()


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Note which passwords bcrypt is asked of."""
    asked: list[bytes] = []
    check: Callable[[bytes, bytes], bool] = module._check

    def noted(password: bytes, known: bytes) -> bool:
        asked.append(password)
        return check(password, known)

    monkeypatch.setattr(module, "_check", noted)
    return asked


async def test_the_right_password_is_worked_out_once(checks: list[bytes]) -> None:
    """bcrypt takes 70 ms and more; scrapes come for ever."""
    users = Users()
    assert [await users.may_ask(basic("alice", "secret"), HASHES) for _ in range(3)] == [True, True, True]
    assert checks == [b"secret"]


async def test_a_wrong_password_and_an_unknown_user_cost_the_same(checks: list[bytes]) -> None:
    """Or the time would tell which users there are; and neither is ever remembered."""
    users = Users()
    for header in (basic("alice", "wrong"), basic("bob", "secret"), basic("bob", "secret")):
        assert not await users.may_ask(header, HASHES)
    assert checks == [b"wrong", b"secret", b"secret"]
    assert users._right == {}


async def test_a_password_that_was_right_is_not_when_the_hash_has_changed() -> None:
    """What is remembered belongs to the hash."""
    users = Users()
    assert await users.may_ask(basic("alice", "secret"), HASHES)
    assert not await users.may_ask(basic("alice", "secret"), {"alice": bcrypt.hashpw(b"other", bcrypt.gensalt(4))})
    assert not await users.may_ask(basic("alice", "secret"), {"bob": HASHES["alice"]})


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """bcrypt looks at 72 bytes, so one hash has more than one password."""
    monkeypatch.setattr(module, "_check", lambda _password, _known: True)
    users = Users()
    for number in range(MOST_REMEMBERED + 5):
        assert await users.may_ask(basic("alice", str(number)), HASHES)
    assert len(users._right) == MOST_REMEMBERED


async def test_a_password_longer_than_bcrypt_looks_at_is_that_of_its_beginning() -> None:
    """As in Go; and one that bcrypt does not take is wrong."""
    users, hashes = Users(), {"alice": bcrypt.hashpw(72 * b"x", bcrypt.gensalt(4))}
    assert await users.may_ask(basic("alice", 100 * "x"), hashes)
    assert not await users.may_ask(basic("alice", b"a\0b"), HASHES)


@pytest.mark.parametrize("version", ["2a", "2b", "2y"])
async def test_hashes_of_other_programs_are_taken(version: str) -> None:
    """htpasswd writes 2y."""
    assert await Users().may_ask(basic("alice", "secret"), {"alice": SECRET_HASH.replace("$2b$", f"${version}$").encode()})


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (basic("alice", "a:b"), ("alice", b"a:b")),
        (basic("", ""), ("", b"")),
        ("bASIC   YTpi", ("a", b"b")),
        ("", None),
        ("Basic", None),
        ("Bearer YTpi", None),
        ("Basic YWI=", None),
        ("Basic YTpi!", None),
        ("Basic \xff", None),
        ("Basic /zph", None),
    ],
)
def test_credentials(header: str, found: tuple[str, bytes] | None) -> None:
    """RFC 7617; a user's name is UTF-8."""
    assert credentials(header) == found


@given(st.text())
def test_any_header_is_answered(header: str) -> None:
    """Whatever a client sends."""
    credentials(header)
    credentials(f"Basic {header}")
