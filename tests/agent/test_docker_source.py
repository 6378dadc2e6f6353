"""Names from Docker, against a daemon that lists, streams, lies, hangs and dies. The SDK and the socket are real."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web

from agent.identities import Amended, Identity
from agent.sources import docker
from agent.sources.docker import DockerSource
from agent.sources.docker_looks import MOST_WAITING
from agent.supervise import Blind
from collectors.inquest.execs import Execs
from collectors.inquest.facts import Configured, Exited, Fact, Removed, Signalled, Started, StopReturned, Watched
from collectors.kernel.container_id import ContainerKey
from tests.agent.desk import Desk

F = TypeVar("F", bound=Fact)

WEB, DB, C = ContainerKey("a" * 64), ContainerKey("b" * 64), ContainerKey("c" * 64)


def listed(identifier: str, name: str, state: str = "running") -> dict[str, Any]:
    """Spell one row of GET /containers/json."""
    return {"Id": identifier, "Names": [f"/{name}"], "Image": "img:1", "State": state, "Labels": {"secret": "x"}}


def event(action: str, identifier: str, name: str, nanoseconds: int = 5) -> dict[str, Any]:
    """Spell one line of GET /events."""
    actor = {"ID": identifier, "Attributes": {"name": name, "image": "img:1"}}
    return {"Type": "container", "Action": action, "Actor": actor, "time": 0, "timeNano": nanoseconds}


class Daemon:
    """A Docker Engine on a Unix socket, as far as the source needs one."""

    def __init__(self, socket: Path) -> None:
        self.url = f"unix://{socket}"
        self.containers: list[Any] = []
        self.inspected: dict[str, Any] = {}
        self.events: list[Any] = []
        self.requests: list[web.Request] = []
        self.hang: set[str] = set()
        self.fail = False
        self.headers: dict[str, str] = {}
        self.end_stream = asyncio.Event()
        self._socket = socket
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_get("/version", self._version)
        app.router.add_get("/_ping", self._ping)
        app.router.add_get("/{version}/containers/json", self._list)
        app.router.add_get("/{version}/containers/{identifier}/json", self._inspect)
        app.router.add_get("/{version}/events", self._stream)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self._socket)).start()

    async def stop(self) -> None:
        """Go away, with the socket."""
        if self._runner is not None:
            self.end_stream.set()
            await self._runner.cleanup()
            self._socket.unlink(missing_ok=True)
            self._runner = None
            self.end_stream = asyncio.Event()

    async def _seen(self, what: str, request: web.Request) -> None:
        self.requests.append(request)
        if what in self.hang:
            await self.end_stream.wait()
        if self.fail:
            raise web.HTTPInternalServerError(text='{"message": "no"}')

    async def _version(self, request: web.Request) -> web.Response:
        await self._seen("version", request)
        return web.json_response({"ApiVersion": "1.41", "MinAPIVersion": "1.24"})

    async def _ping(self, request: web.Request) -> web.Response:
        await self._seen("ping", request)
        return web.Response(text="OK", headers=self.headers)

    async def _list(self, request: web.Request) -> web.Response:
        await self._seen("list", request)
        return web.json_response(self.containers)

    async def _inspect(self, request: web.Request) -> web.Response:
        identifier = request.match_info["identifier"]
        await self._seen(identifier, request)
        found = self.inspected.get(identifier)
        return web.json_response({"message": "No such container"} if found is None else found, status=404 if found is None else 200)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        await self._seen("events", request)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for line in self.events:
            await response.write(json.dumps(line).encode() + b"\n")
        await self.end_stream.wait()
        return response

    def queries(self, path: str) -> list[str]:
        """The `since` of every request whose path ends so."""
        return [request.query.get("since", "") for request in self.requests if request.path.endswith(path)]


def filters(daemon: Daemon) -> dict[str, list[str]]:
    """Which events were asked for first."""
    found: dict[str, list[str]] = json.loads(next(each.query["filters"] for each in daemon.requests if each.path.endswith("/events")))
    return found


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """A daemon that listens."""
    daemon = Daemon(tmp_path / "docker.sock")
    await daemon.start()
    yield daemon
    await daemon.stop()


class Following:
    """A source that follows a daemon."""

    def __init__(self, url: str, window: float = 60) -> None:
        self.desk = Desk()
        self.identities = self.desk.identities
        self.execs = Execs()
        self.source = DockerSource(url=url, tell=self.desk.tell, identities=self.identities, execs=self.execs, window=window)
        self.status = self.source.status

    @asynccontextmanager
    async def run(self) -> AsyncIterator[asyncio.Task[None]]:
        """Follow until the block is left."""
        task = asyncio.create_task(self.source.follow())
        yield task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, with a deadline."""
        async with asyncio.timeout(120):
            while not condition():
                await asyncio.sleep(0.01)

    def of(self, kind: type[F]) -> list[F]:
        """Return the facts of a kind that were told."""
        return [fact for fact in self.desk.facts if isinstance(fact, kind)]

    def name(self, identifier: ContainerKey) -> str:
        """What a container is called."""
        identity = self.identities.known.get(identifier)
        return identity.name[2] if identity and identity.name else ""


async def test_what_is_listed_is_named_and_the_source_is_up(daemon: Daemon) -> None:
    """Name and image reach the identities; labels and environment do not."""
    daemon.containers = [listed(WEB, "web"), listed(DB, "db", "exited")]
    following = Following(daemon.url)
    async with following.run():
        await following.until(lambda: following.status.is_up)

    identity = following.identities.known[WEB]
    assert (identity.name, identity.image, identity.state, identity.seen_alive) == (("", "", "web"), "img:1", "running", True)
    assert not following.identities.known[DB].seen_alive, "it had ended before the agent came"


async def test_a_container_that_was_never_listed_is_named_by_its_events(daemon: Daemon) -> None:
    """A container that lives 200 ms is over before any list; its events come all the same, and its name stays."""
    daemon.events = [event(action, WEB, "short") for action in ("create", "start", "die", "destroy")]
    following = Following(daemon.url)
    async with following.run():
        await following.until(lambda: WEB in following.identities.known and following.identities.known[WEB].state == "removed")

    identity = following.identities.known[WEB]
    assert identity.name == ("", "", "short")
    assert identity.seen_alive
    assert identity.ended is not None


async def test_what_happens_to_a_container_is_told_in_order(daemon: Daemon) -> None:
    """Here `docker stop`, of one that would not. Each fact has the time of its event: this may be read long after."""
    daemon.events = [event("start", WEB, "web", 10**18), *(event("kill", WEB, "web", 10**18 + each * 10**9) for each in (1, 11))]
    daemon.events += [event("die", WEB, "web", 10**18 + 12 * 10**9), event("stop", WEB, "web", 10**18 + 13 * 10**9)]
    for line, more in zip(daemon.events[1:], ({"signal": "15"}, {"signal": "9"}, {"exitCode": "137"}, {}), strict=True):
        line["Actor"]["Attributes"] |= more
    following = Following(daemon.url)
    async with following.run():
        await following.until(lambda: len(following.desk.facts) == len(daemon.events) + 1)

    assert [(type(fact).__name__, fact.time - 1e9) for fact in following.desk.facts] == [
        ("Started", 0.0),
        ("Watched", 0.0),
        ("Signalled", 1.0),
        ("Signalled", 11.0),
        ("Exited", 12.0),
        ("StopReturned", 13.0),
    ]
    assert following.identities.known[WEB].state == "exited"
    assert {"kill", "stop"} < set(filters(daemon)["event"])


async def test_compose_projects_are_told_and_no_other_label(daemon: Daemon) -> None:
    """By a list and by an event alike."""
    compose = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web", "secret": "x"}
    daemon.containers = [{**listed(WEB, "web"), "Labels": compose}]
    started = event("start", DB, "db")
    started["Actor"]["Attributes"] |= compose
    daemon.events = [started]
    following = Following(daemon.url)
    async with following.run():
        await following.until(lambda: {WEB, DB} <= following.identities.known.keys())

    for identity in following.identities.known.values():
        assert (identity.project, identity.service) == ("shop", "web")
        assert "secret" not in str(identity)


async def test_a_container_that_is_only_created_has_not_been_alive(daemon: Daemon) -> None:
    """By a list and by an event alike. Compose creates it under a name for the moment, and a renamed one is told by its new name."""
    daemon.containers = [listed(DB, f"{WEB[:12]}_db", "created")]
    daemon.events = [
        event("create", WEB, "aaaaaaaaaaaa_web"),
        event("rename", WEB, "web"),
        event("rename", DB, "db"),
        event("rename", C, "c"),
    ]
    following = Following(daemon.url)
    async with following.run():
        await following.until(lambda: following.name(DB) == "db")
        assert following.name(WEB) == "web"
        for identifier in (WEB, DB):
            identity = following.identities.known[identifier]
            assert (identity.state, identity.seen_alive, identity.ended, identity.image) == ("created", False, None, "img:1")
        assert "rename" in filters(daemon)["event"]
    assert C not in following.identities.known, "of which nothing but its name was told"


async def test_one_that_waits_to_be_started_again_is_restarting(daemon: Daemon) -> None:
    """Its end is an event, and only asking tells that Docker will start it again; its next start is an event."""
    daemon.events = [event(action, identifier, "web") for identifier in (WEB, DB, C) for action in ("start", "die")]
    daemon.inspected = {
        WEB: {"Id": WEB, "State": {"Status": "restarting"}, "Config": {"Image": "img:1"}},
        DB: {"Id": DB, "State": {"Status": "exited"}, "Config": None},
    }
    following = Following(daemon.url)
    async with following.run():
        await following.until(lambda: C in following.identities.known and following.identities.known[C].state == "exited")
        await following.until(lambda: following.identities.known[WEB].state == "restarting")

    assert following.identities.known[WEB].ended is None
    assert following.identities.known[DB].state == "exited"


async def test_an_image_is_called_as_when_the_container_was_made(daemon: Daemon) -> None:
    """A list has nothing but the digest once the tag is another image's; each container is asked for it once."""
    daemon.containers = [{**listed(WEB, "web"), "Image": "sha256:12"}, listed(DB, "db"), {**listed(C, "c"), "Image": "sha256:34"}]
    daemon.inspected = {WEB: {"Id": WEB, "State": {"Status": "running"}, "Config": {"Image": "nginx:latest"}}}
    following = Following(daemon.url, window=0.05)
    daemon.end_stream.set()
    async with following.run():
        await following.until(lambda: following.identities.known.get(WEB, Identity()).image == "nginx:latest")
        lists = len(daemon.queries("/containers/json"))
        await following.until(lambda: len(daemon.queries("/containers/json")) > lists + 1)
        assert following.identities.known[WEB].image == "nginx:latest"

    assert following.identities.known[DB].image == "img:1"
    assert following.identities.known[C].image == "sha256:34", "it was removed meanwhile"
    assert len(daemon.queries(f"{WEB}/json")) == len(daemon.queries(f"{C}/json")) == 1


async def test_a_container_that_is_stuck_keeps_no_other_from_its_name(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """`docker ps` works and `docker inspect` of it hangs: no event waits for it, the others are inspected, and nothing is blind."""
    monkeypatch.setattr("agent.sources.docker.LOOK_SECONDS", 0.5)
    daemon.containers = [{**listed(WEB, "web"), "Image": "sha256:12"}]
    daemon.events = [event("start", C, "cache"), event("die", C, "cache")]
    daemon.inspected = {C: {"Id": C, "State": {"Status": "restarting"}, "Config": {}}}
    daemon.hang = {WEB}
    following = Following(daemon.url)
    async with following.run() as task:
        await following.until(lambda: following.identities.known.get(C, Identity()).state == "restarting")
        assert following.status.is_up
        daemon.end_stream.set()
        lists = len(daemon.queries("/containers/json"))
        await following.until(lambda: len(daemon.queries("/containers/json")) > lists + 1)
        assert not task.done()

    assert following.identities.known[WEB].image == "sha256:12"
    assert len(daemon.queries(f"{WEB}/json")) == 1


async def test_events_do_not_wait_for_a_container_that_is_stuck(daemon: Daemon) -> None:
    """Here they are all told before anybody has given it up."""
    daemon.containers = [listed(WEB, "web")]
    daemon.events = [event("start", C, "cache"), event("die", C, "cache")]
    daemon.hang = {WEB}
    following = Following(daemon.url)
    async with following.run():
        await following.until(lambda: C in following.identities.known and following.identities.known[C].state == "exited")
        assert not daemon.queries(f"{C}/json")


async def test_what_a_container_was_told_to_do_about_stops_is_asked_once(daemon: Daemon) -> None:
    """Of each that is listed alive and of each that starts; a 404, a 500 and an answer that is none tell nothing, and stop no other."""
    daemon.containers = [listed(WEB, "web"), listed(C, "c")]
    daemon.events = [event("start", DB, "db", 10**18), event("start", DB, "db", 2 * 10**18)]
    config = {"StopSignal": "SIGQUIT", "StopTimeout": 30, "Image": "img:1"}
    daemon.inspected = {WEB: ["garbage"], C: {"Id": C, "Config": {}}, DB: {"Id": DB, "Config": config, "Created": "2020-01-01T00:00:00Z"}}
    following = Following(daemon.url)
    async with following.run():
        await following.until(lambda: len(following.of(Configured)) == 2)
        await following.until(lambda: len(following.of(Started)) == 2)

    (default, own) = following.of(Configured)
    assert (default.container, default.stop_signal, default.stop_seconds) == (C, 15, 10.0)
    assert own == Configured(container=DB, source="docker", time=1_577_836_800.0, stop_signal=3, stop_seconds=30.0)
    assert len(daemon.queries(f"{DB}/json")) == 1
    assert not any(isinstance(fact, Amended) for fact in following.desk.told), "the image is what the event said"


async def test_stops_are_watched_from_the_subscription_on_until_there_is_a_gap(daemon: Daemon) -> None:
    """What lives is told of once per connection, what begins with its first event; a window that follows another is no gap."""
    daemon.containers = [listed(WEB, "web"), listed(DB, "db", "exited")]
    daemon.events = [event("create", C, "c", 10**18), event("start", C, "c", 10**18 + 10**9)]
    before = time.time()
    following = Following(daemon.url, window=0.05)
    async with following.run() as task:
        await following.until(lambda: len(following.of(Watched)) >= 3)
        daemon.containers.append(listed(C, "c"))
        daemon.end_stream.set()
        await following.until(lambda: len(daemon.queries("/containers/json")) >= 4)
        since = {fact.container: fact.time for fact in following.of(Watched)}
        assert before < since[WEB] < time.time()
        assert {(fact.container, fact.time) for fact in following.of(Watched)} == {(WEB, since[WEB]), (C, 1e9)}, "and no other time"
        await daemon.stop()
        with pytest.raises(Blind):
            await task
    daemon.events = []
    await daemon.start()
    async with following.run():
        await following.until(lambda: following.of(Watched)[-1].container == C and following.of(Watched)[-1].time > since[WEB])

    assert DB not in {fact.container for fact in following.of(Watched)}


async def test_nobody_counts_exec_sessions_where_they_are_not_told(daemon: Daemon) -> None:
    """Podman is not asked for them: a container of its has no count, and not one of 0."""
    daemon.headers = {"Libpod-API-Version": "4.3.1"}
    daemon.containers = [listed(WEB, "web")]
    daemon.inspected = {WEB: {"Id": WEB, "State": {}, "Config": {"Healthcheck": {"Test": ["CMD", "probe", "-v"]}}}}
    following = Following(daemon.url)
    async with following.run():
        await following.until(lambda: bool(following.of(Configured)))

    assert following.execs.has_probe(WEB) is None


async def test_podman_never_says_that_a_container_was_asked_to_stop(daemon: Daemon) -> None:
    """So its silence means nothing; it is known by a header."""
    daemon.headers = {"Libpod-API-Version": "4.3.1"}
    daemon.containers = [listed(WEB, "web")]
    daemon.events = [event("create", C, "c"), event("start", C, "c"), event("kill", C, "c"), event("stop", C, "c")]
    following = Following(daemon.url)
    async with following.run():
        await following.until(lambda: bool(following.of(StopReturned)))

    assert not following.of(Watched)
    assert not following.of(Signalled)
    assert not {"oom", "health_status", "exec_start"} & set(filters(daemon)["event"]), "it would tell of each run of a health check"


async def test_a_death_that_no_event_tells_of_is_found_by_the_next_list(daemon: Daemon) -> None:
    """It happened before the agent came, or while the daemon was down: inspect has the times and the code. Each is asked for once."""
    ended = {"Status": "exited", "StartedAt": "2026-01-01T00:00:00.5Z", "FinishedAt": "2026-01-01T00:01:00.25Z", "ExitCode": 3}
    daemon.inspected = {each: {"Id": each, "State": ended, "Config": {}} for each in (WEB, DB)}
    daemon.containers = [listed(WEB, "web"), {**listed(DB, "db", "exited"), "Status": "Exited (3) 2 weeks ago"}]
    following = Following(daemon.url)
    async with following.run() as task:
        await following.until(lambda: [fact.container for fact in following.of(Exited)] == [DB])
        await daemon.stop()
        with pytest.raises(Blind):
            await task
    daemon.containers[0] = {**listed(WEB, "web", "exited"), "Status": "Exited (3) 1 second ago"}
    await daemon.start()
    async with following.run():
        await following.until(lambda: len(following.of(Exited)) == 2)

    begin = 1_767_225_600.0
    assert following.of(Exited) == [
        Exited(container=each, source="docker", time=begin + 60.25, how="inspect", code=3) for each in (DB, WEB)
    ]
    assert {(fact.container, fact.time) for fact in following.of(Started)} == {(DB, begin + 0.5), (WEB, begin + 0.5)}


async def test_a_thousand_deaths_are_all_told_while_no_inspection_is_answered(daemon: Daemon) -> None:
    """They are removed at once; the code is in the event. Who waits to be inspected are no more than the bound."""
    ids = [ContainerKey(f"{number:064x}") for number in range(1000)]
    daemon.events = [event(action, each, "job", 10**18) for each in ids for action in ("create", "start", "die", "destroy")]
    for line in daemon.events:
        if line["Action"] == "die":
            line["Actor"]["Attributes"]["exitCode"] = "1"
    daemon.hang = set(ids)
    following = Following(daemon.url)
    async with following.run():
        await following.until(lambda: len(following.of(Removed)) == len(ids))
        assert following.source._looks is not None
        assert len(following.source._looks._waiting) <= MOST_WAITING

    assert [fact.container for fact in following.of(Exited) if fact.code == 1] == ids


async def test_an_end_without_a_code_is_asked_for(daemon: Daemon) -> None:
    """Where the event has one nothing more is told of it."""
    daemon.events = [event("die", WEB, "web"), event("die", DB, "db", 10**18)]
    daemon.events[1]["Actor"]["Attributes"]["exitCode"] = "4"
    ended = {"Status": "exited", "StartedAt": "2026-01-01T00:00:00Z", "FinishedAt": "2026-01-01T00:00:01Z", "ExitCode": 7}
    daemon.inspected = {each: {"Id": each, "State": ended, "Config": {}} for each in (WEB, DB)}
    following = Following(daemon.url)
    async with following.run():
        await following.until(lambda: len(following.of(Configured)) == 2)

    assert [(fact.container, fact.how, fact.code) for fact in following.of(Exited)] == [(DB, "runtime", 4), (WEB, "inspect", 7)]


async def test_pause_and_unpause_are_states(daemon: Daemon) -> None:
    """The state is the runtime's word."""
    daemon.events = [event("start", WEB, "web"), event("pause", WEB, "web"), event("start", DB, "db"), event("unpause", DB, "db")]
    following = Following(daemon.url)
    async with following.run():
        await following.until(lambda: DB in following.identities.known)

    assert following.identities.known[WEB].state == "paused"
    assert following.identities.known[DB].state == "running"


async def test_the_stream_is_opened_before_the_list_is_asked_for(daemon: Daemon) -> None:
    """What happens between the two is then an event and not a gap."""
    following = Following(daemon.url)
    async with following.run():
        await following.until(lambda: following.status.is_up)

    paths = [request.path.rsplit("/", 1)[-1] for request in daemon.requests]
    assert paths.index("events") < paths.index("json")
    assert filters(daemon)["type"] == ["container"]
    assert [each for each in filters(daemon)["event"] if each.startswith("exec")] == ["exec_start"], "a probe makes three events each time"


async def test_exec_sessions_are_counted_apart_from_health_checks(daemon: Daemon) -> None:
    """When the inspection has told which is which; an event that is told again counts once, and none is a fact."""
    daemon.containers = [listed(WEB, "web")]
    daemon.inspected = {WEB: {"Id": WEB, "State": {}, "Config": {"Healthcheck": {"Test": ["CMD", "probe", "-v"]}}}}
    commands = ["exec_start: probe -v", "exec_start: sh ", "exec_start: probe -v"]
    daemon.events = [event(each, WEB, "web", 10**18 + number // 2) for number, each in enumerate([*commands, commands[-1]])]
    following = Following(daemon.url)
    async with following.run():
        await following.until(lambda: following.execs.started(WEB) != (0, 0))

    assert following.execs.started(WEB) == (0, 2), "two at one nanosecond are one"
    assert following.source._since == f"{10**9}.000000001"


async def test_after_a_restart_the_events_are_asked_for_since_the_last_one(daemon: Daemon) -> None:
    """And the full list that follows finds what the daemon no longer remembers."""
    daemon.containers = [listed(WEB, "web"), listed(DB, "db")]
    daemon.events = [event("start", WEB, "web", nanoseconds=1_700_000_000_000_000_001)]
    following = Following(daemon.url)
    async with following.run() as task:
        await following.until(lambda: following.status.is_up and len(daemon.queries("/events")) == 1)
        await following.until(lambda: following.source._since == "1700000000.000000001")
        await daemon.stop()
        with pytest.raises(Blind, match="is the daemon running"):
            await task
    daemon.containers = [listed(WEB, "web")]
    daemon.events = []
    await daemon.start()
    async with following.run():
        await following.until(lambda: following.identities.known[DB].state == "removed")

    assert daemon.queries("/events")[-1] == "1700000000.000000001"
    assert following.name(DB) == "db", "the dead keep their name"


async def test_the_first_events_are_asked_for_since_the_agent_before_was_there(daemon: Daemon) -> None:
    """A stop that was asked for while no agent was there is still told of; never for a time that is to come."""
    for since, expected in ((1_700_000_000.5, "1700000000.500000000"), (99_999_999_999.0, "2000000000.000000000")):
        source = DockerSource(
            url=daemon.url, tell=(desk := Desk()).tell, identities=desk.identities, since=since, wall=lambda: 2_000_000_000.0
        )
        assert source._since == expected


async def test_a_clock_that_was_set_back_does_not_ask_for_the_future(daemon: Daemon) -> None:
    """Docker refuses a window that ends before it begins, and would go on doing so until the clock has caught up."""
    following = Following(daemon.url)
    following.source._since = "99999999999.000000000"
    async with following.run():
        await following.until(lambda: following.status.is_up)

    (request,) = [request for request in daemon.requests if request.path.endswith("/events")]
    assert float(request.query["since"]) < float(request.query["until"])


async def test_a_window_that_ends_is_followed_by_a_full_list(daemon: Daemon) -> None:
    """What events missed is found within a minute."""
    following = Following(daemon.url, window=0.1)
    daemon.end_stream.set()
    async with following.run():
        await following.until(lambda: following.status.is_up)
        daemon.containers = [listed(WEB, "web")]
        await following.until(lambda: following.name(WEB) == "web")


async def test_a_socket_that_is_not_there_says_so_with_the_remedy(tmp_path: Path) -> None:
    """A node without Docker is not an error of the agent."""
    following = Following(f"unix://{tmp_path}/none.sock")
    async with following.run() as task:
        with pytest.raises(Blind, match=r"none\.sock.*--docker\.url= switches it off"):
            await task


async def test_a_socket_that_appears_ends_the_rest(tmp_path: Path) -> None:
    """Docker is back after half a minute, and is asked within a second or so."""
    following = Following(f"unix://{tmp_path}/docker.sock")
    async with asyncio.timeout(120):
        resting = asyncio.create_task(following.source.rest(3600))
        await asyncio.sleep(0)
        (tmp_path / "other.sock").touch()
        (tmp_path / "docker.sock").touch()
        await resting


async def test_a_container_that_nobody_has_named_ends_the_rest() -> None:
    """Where there is no directory to watch, or the socket is systemd's and was there all the time."""
    following = Following("unix:///nowhere/docker.sock")
    following.identities.put("oci", {WEB: Identity(("shop", "web-0", "app"))})
    async with asyncio.timeout(120):
        resting = asyncio.create_task(following.source.rest(3600))
        await asyncio.sleep(0)
        following.identities.ask(WEB)
        assert not following.source._wanted.is_set()
        following.identities.hear("cgroup", DB)
        await resting


async def test_a_service_may_take_long_to_say_its_version() -> None:
    """Podman's asks its package manager first. Not so long, though, that it is given up meanwhile."""
    asked: list[dict[str, Any]] = []

    def connect(**options: Any) -> Any:
        asked.append(options)
        raise OSError("no")

    desk = Desk()
    source = DockerSource(url="tcp://127.0.0.1:1", tell=desk.tell, identities=desk.identities, connect=connect)
    with pytest.raises(Blind):
        await source.follow()

    assert 30 <= asked[0]["timeout"] < docker.WINDOW_SECONDS + docker._PATIENCE_SECONDS


@pytest.mark.parametrize("what", ["version", "ping", "list", "events"])
async def test_a_daemon_that_accepts_and_never_answers_blocks_nothing_and_is_given_up(
    daemon: Daemon, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop goes on meanwhile; after the window and some patience the source is blind."""
    monkeypatch.setattr("agent.sources.docker._PATIENCE_SECONDS", 0.3)
    daemon.hang = {what}
    following = Following(daemon.url, window=0.1)
    async with following.run() as task:
        await asyncio.sleep(0)
        assert not task.done(), "the loop goes on while it waits"
        with pytest.raises(Blind, match="the daemon hangs"):
            await task


async def test_an_error_answer_is_said(daemon: Daemon) -> None:
    """500 from the daemon is blindness, not a crash."""
    daemon.fail = True
    following = Following(daemon.url)
    async with following.run() as task:
        with pytest.raises(Blind, match="answered 500"):
            await task


async def test_a_daemon_that_cannot_be_asked_is_said_in_the_systems_words(tmp_path: Path) -> None:
    """Three libraries wrap what the kernel said into one another's exceptions; nobody can read that."""
    following = Following(f"unix://{tmp_path}/docker.sock")
    async with following.run() as task:
        with pytest.raises(Blind, match=rf"^unix://{tmp_path}/docker\.sock: No such file or directory; is the daemon running"):
            await task


async def test_an_answer_that_is_not_dockers_is_called_so(tmp_path: Path) -> None:
    """Somebody else listens there."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        writer.close()

    async with await asyncio.start_unix_server(greet, tmp_path / "docker.sock"):
        following = Following(f"unix://{tmp_path}/docker.sock")
        async with following.run() as task:
            with pytest.raises(Blind, match="the answer is not one of Docker's") as caught:
                await task
    assert "Exception" not in str(caught.value)


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"Id": None},
        {"Id": "../../etc"},
        {"Id": "a" * 63},
        {"Id": WEB, "Names": None, "State": None},
        {"Id": WEB, "Names": [7]},
        {"Id": WEB, "Names": 7},
        7,
        {"Id": [], "Image": "sha256:12", "State": [], "Status": {}},
    ],
)
async def test_a_list_that_makes_no_sense_names_nobody(daemon: Daemon, row: Any) -> None:
    """An id is 64 hex digits; a container without a name has none. The address of nothing else is asked for."""
    daemon.containers = [row, listed(DB, "db")]
    following = Following(daemon.url)
    async with following.run():
        await following.until(lambda: following.name(DB) == "db")

    assert following.name(WEB) == ""
    assert {request.path.split("/")[-2] for request in daemon.requests if request.path.endswith("/json")} <= {"containers", WEB, DB}


@pytest.mark.parametrize(
    "line",
    [
        *({}, [], 7),
        *({"Action": "start"}, {"Action": "start", "Actor": {"ID": "x"}}, {"Action": "start", "Actor": None}),
        *({"Action": "die", "Actor": ["x"]}, {"timeNano": "x"}, {"timeNano": 1.5}),
    ],
)
async def test_an_event_that_makes_no_sense_is_passed_over(daemon: Daemon, line: Any) -> None:
    """The one behind it still counts."""
    daemon.events = [line, event("start", WEB, "web")]
    following = Following(daemon.url)
    async with following.run():
        await following.until(lambda: following.name(WEB) == "web")
