"""How many services a container has: two only where there are two, and names are whatever their processes choose."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collectors.inquest.services import services
from collectors.kernel.process_stat import Member

NOW = 10_000

Spec = tuple[int, int, bytes]
"""PID, parent and name."""


def members(
    *specs: Spec, sessions: dict[int, int] | None = None, terminals: tuple[int, ...] = (), young: tuple[int, ...] = ()
) -> list[Member]:
    """Make processes, all in the session of the init, which is 1, unless said otherwise."""
    return [
        Member(pid, parent, (sessions or {}).get(pid, 1), pid in terminals, comm, NOW if pid in young else pid)
        for pid, parent, comm in specs
    ]


def found(*specs: Spec, **others: object) -> tuple[bytes, ...]:
    """Tell the services of a container whose init is 1."""
    return services(members(*specs, **others), 1, NOW)  # type: ignore[arg-type] # keywords of members, passed on


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        ([(1, 0, b"sh"), (2, 1, b"nginx"), (3, 2, b"nginx"), (4, 1, b"php-fpm8.2"), (5, 4, b"php-fpm8.2")], (b"nginx", b"php-fpm8.2")),
        ([(1, 0, b"supervisord"), (2, 1, b"sh"), (3, 2, b"redis-server"), (4, 1, b"celery")], (b"celery", b"redis-server")),
        ([(1, 0, b"s6-svscan"), (2, 1, b"s6-supervise"), (3, 2, b"sshd"), (4, 1, b"s6-supervise"), (5, 4, b"cron")], (b"cron", b"sshd")),
        ([(1, 0, b"tini"), (2, 1, b"bash"), (3, 2, b"java"), (4, 2, b"node")], (b"java", b"node")),
        ([(1, 0, b"systemd"), (2, 1, b"systemd-journal"), (3, 1, b"nginx"), (4, 1, b"postgres")], (b"nginx", b"postgres")),
    ],
    ids=["shell", "supervisor", "s6", "init and shell", "systemd"],
)
def test_programs_of_different_names_under_a_shell_or_a_supervisor(specs: list[Spec], expected: tuple[bytes, ...]) -> None:
    """Each counts once, whatever workers it has."""
    assert found(*specs) == expected


def test_daemons_in_a_container_that_something_idle_keeps_open() -> None:
    """`service nginx start; service cron start; exec tail -f`: they lead sessions of their own, and are orphans."""
    specs = (1, 0, b"tail"), (20, 1, b"nginx"), (21, 20, b"nginx"), (30, 1, b"cron")

    assert found(*specs, sessions={20: 20, 21: 20, 30: 30}) == (b"cron", b"nginx")


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        ([(1, 0, b"nginx"), (2, 1, b"nginx"), (3, 1, b"nginx")], b"nginx"),
        ([(1, 0, b"postgres"), (2, 1, b"checkpointer"), (3, 1, b"walwriter")], b"postgres"),
        ([(1, 0, b"gunicorn"), (2, 1, b"gunicorn"), (3, 1, b"worker")], b"gunicorn"),
        ([(1, 0, b"sh"), (2, 1, b"worker-1"), (3, 1, b"worker-2")], b"worker-1"),
        ([(1, 0, b"sh"), (2, 1, b"app"), (3, 1, b"tee")], b"app"),
        ([(1, 0, b"sh"), (2, 1, b"sleep")], b"sh"),
        ([(1, 0, b"sh"), (2, 1, b"npm run start"), (3, 2, b"sh"), (4, 3, b"node")], b"npm run start"),
        ([(1, 0, b"docker-init"), (2, 1, b"node"), (3, 1, b"crashpad"), (4, 2, b"git")], b"node"),
        ([(1, 0, b"tini")], b"tini"),
        ([(1, 0, b"sleep")], b"sleep"),
        ([(1, 0, b"sh"), (2, 1, b"123"), (3, 1, b"123")], b"123"),
    ],
    ids=["nginx", "postgres", "gunicorn", "pool", "pipe", "loop", "npm", "orphans", "init alone", "idle", "digits"],
)
def test_one_program_is_one_service(specs: list[Spec], expected: bytes) -> None:
    """Its workers, helpers, wrappers and orphans are none."""
    assert found(*specs) == (expected,)


def test_who_came_from_outside_is_none_and_neither_is_what_it_left() -> None:
    """docker exec has a parent outside; what outlived its session was adopted by the init and has the session of one that has ended."""
    specs = (1, 0, b"sh"), (2, 1, b"app"), (10, 4711, b"sh"), (11, 10, b"psql"), (12, 1, b"left")

    assert found(*specs, sessions={10: 10, 11: 10, 12: 9}) == (b"app",)


def test_what_has_a_terminal_is_a_persons() -> None:
    """docker run -it ... bash."""
    assert found((1, 0, b"bash"), (2, 1, b"vim"), (3, 1, b"make"), terminals=(1, 2, 3)) == (b"bash",)


def test_a_step_of_a_script_is_none() -> None:
    """What is younger than ten seconds."""
    specs = (1, 0, b"sh"), (2, 1, b"redis-server"), (3, 1, b"migrate")

    assert found(*specs, young=(3,)) == (b"redis-server",)
    assert found(*specs) == (b"migrate", b"redis-server")


def test_an_init_that_is_not_there_has_none() -> None:
    """It ended while others were read."""
    assert services(members((2, 1, b"app")), 1, NOW) == ()
    assert services([], 1, NOW) == ()


NAMES = st.binary(max_size=15) | st.sampled_from([b"sh", b"tini", b"tail", b"app"])


@example([(1, 2, b"sh"), (2, 1, b"sh")])
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 12), NAMES)))
def test_whatever_there_is_it_ends_and_counts_no_more_than_there_are(specs: list[Spec]) -> None:
    """Also for parents in a circle, which no scan that takes a while is safe from."""
    names = found(*specs)

    assert len(names) <= len(specs)
    assert {*names} <= {comm for _, _, comm in specs}
