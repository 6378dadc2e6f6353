"""What containers are called: when they run, late, after a rename, beside another of the same name, and by whom a pod's sandbox is told."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.identities import KEEP_DEAD_SECONDS, Identity, Pods
from agent.naming import LISTED_WITHIN_SECONDS, NAME_WITHIN_SECONDS, SETTLED_SECONDS, Naming
from collectors.base import Instance
from collectors.inquest.kill_state import Labels
from collectors.kernel import container_id
from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.container_id import ContainerKey

A, B, C = ContainerKey("a" * 64), ContainerKey("b" * 64), ContainerKey("c" * 64)
UID = "12345678-1234-1234-1234-123456789abc"
IN_POD = f"/kubepods/burstable/pod{UID}"
SHOP = Pods({UID: ("shop", "web-0")}, math.inf)


class Page:
    """A node's containers and what is told of them; each `show` is a page that somebody gets."""

    def __init__(self, kept: dict[ContainerKey, Labels] | None = None) -> None:
        self.now = 1000.0
        self.killed: set[ContainerKey] = set()
        self.naming = Naming(kept or {}, self.now, lambda: self.killed)
        self.living: dict[str, Instance] = {}
        self.entries: dict[ContainerKey, Identity] = {}
        self.pods = Pods()
        self._inode = 0

    def start(self, key: ContainerKey, name: str = "", *, parent: str = "/docker") -> None:
        """Make the cgroup of a container, which Docker calls so."""
        self._inode += 1
        path = f"{parent}/{key}"
        identifier = container_id.parse(path)
        assert identifier is not None
        self.living[path] = Instance(identifier, Cgroup(path, path, self._inode, has_children=False))
        if name:
            self.tell(identifier.key, name)

    def stop(self, key: ContainerKey, *, parent: str = "/docker") -> None:
        """Remove the cgroup."""
        del self.living[f"{parent}/{key}"]

    def tell(self, key: ContainerKey, name: str) -> None:
        """Say what Docker calls it now."""
        self.entries[key] = Identity(("", "", name))

    def take(self) -> dict[str, str]:
        """Make a pass; return what each container is called, without the empty parts."""
        self.naming.take(list(self.living.values()), self.entries, self.pods, self.now)
        names, _ = self.naming.labels(self.entries)
        return {key: "/".join(filter(None, labels)) for key, labels in names.items()}

    def show(self) -> dict[str, str]:
        """Make a pass and show it."""
        names = self.take()
        self.naming.served(self.now)
        return names


# When they run.


def test_a_container_that_is_only_created_is_not_called_anything() -> None:
    """Compose creates the next one under a name for the moment; it has no series before it runs, and then by the name it has then."""
    page = Page()
    page.start(A, "shop-web-1")
    page.entries[B] = Identity(("", "", "aaaaaaaaaaaa_shop-web-1"), state="created", seen_alive=False)
    assert page.show() == {A: "shop-web-1"}

    page.stop(A)
    page.entries[A] = Identity(("", "", "shop-web-1"), state="removed", ended=page.now)
    page.entries[B] = Identity(("", "", "shop-web-1"), state="created", seen_alive=False)
    assert page.show() == {A: "shop-web-1"}

    page.start(B, "shop-web-1")
    assert page.show() == {A: "shop-web-1", B: "shop-web-1"}, "its counts go on where those of the one before ended"


def test_a_name_that_nobody_was_shown_is_no_name_for_life() -> None:
    """However long ago it was told."""
    page = Page()
    page.start(A, "aaaaaaaaaaaa_web")
    page.take()
    page.now += 2 * SETTLED_SECONDS
    page.tell(A, "web")

    assert page.show() == {A: "web"}


# A name that comes late, and a rename.


def test_a_late_name_takes_the_place_of_the_id_unless_that_was_served_for_long() -> None:
    """A daemon that comes back in minutes names what was born meanwhile; later the series has its labels for life."""
    page = Page()
    page.start(A)
    page.start(B)
    page.show()
    page.now += NAME_WITHIN_SECONDS
    assert page.show() == {A: A[:12], B: B[:12]}

    page.now += SETTLED_SECONDS - 1
    page.tell(A, "web")
    assert page.show() == {A: "web", B: B[:12]}
    page.now += 1
    page.tell(B, "db")
    assert page.show() == {A: "web", B: B[:12]}


def test_the_minutes_run_from_the_first_page_that_anybody_gets() -> None:
    """An agent that nobody scrapes has promised nothing."""
    page = Page()
    page.start(A)
    page.take()
    page.now += NAME_WITHIN_SECONDS
    assert page.take() == {A: A[:12]}
    page.now += 10 * SETTLED_SECONDS
    page.tell(A, "web")

    assert page.show() == {A: "web"}


def test_a_rename_is_followed_for_the_first_minutes_and_no_longer() -> None:
    """Dokku renames app.web.1.upcoming-12111 when it is healthy. Renames do not begin the minutes anew."""
    page = Page()
    page.start(A, "app.web.1.upcoming-12111")
    page.show()
    page.now += SETTLED_SECONDS - 1
    page.tell(A, "app.web.1")
    assert page.show() == {A: "app.web.1"}
    page.now += 1
    page.tell(A, "app.web.1.1795308861")

    assert page.show() == {A: "app.web.1"}


def test_one_that_is_started_again_has_the_name_it_has_then() -> None:
    """A rename of a stopped container, however old, counts from its next start."""
    page = Page()
    page.start(A, "web")
    page.show()
    page.now += SETTLED_SECONDS
    page.stop(A)
    page.tell(A, "shop")
    assert page.show() == {A: "web"}
    page.start(A, "shop")

    assert page.show() == {A: "shop"}
    assert page.naming.moved == [(("", "", "web"), ("", "", "shop"))], "its kills are no news"


def test_it_says_which_served_labels_gave_way() -> None:
    """The count goes on under others: who shows it to Prometheus must not show it as newborn."""
    page = Page()
    page.start(A, "for-the-moment")
    page.take()
    page.tell(A, "one")
    page.show()
    page.tell(A, "two")
    page.show()

    assert page.naming.moved == [(("", "", "one"), ("", "", "two"))]


# Two of one name.


def test_blue_and_green_have_series_of_their_own() -> None:
    """The old one is renamed away and keeps its labels; the new one gets them when it has ended, if that is soon."""
    page = Page()
    page.start(A, "web")
    page.show()
    page.now += SETTLED_SECONDS
    page.tell(A, "web-old")
    page.start(B, "web")
    assert page.show() == {A: "web", B: f"web_{B[:12]}"}
    page.stop(A)
    page.entries[A] = Identity(("", "", "web-old"), state="removed", ended=page.now)
    page.now += 1

    assert page.show() == {A: "web", B: "web"}


def test_counts_are_not_added_to_those_of_another_container() -> None:
    """Green had a kill under its own labels: if it took over blue's, their count would rise by it a second time."""
    page = Page()
    page.start(A, "web")
    page.start(C, "db")
    page.show()
    page.now += SETTLED_SECONDS
    page.tell(A, "web-old")
    page.start(B, "web")
    page.show()
    page.killed |= {B, C}
    page.stop(A)
    assert page.show() == {A: "web", B: f"web_{B[:12]}", C: "db"}

    page.now += KEEP_DEAD_SECONDS / 2
    page.tell(B, "app")
    assert page.show()[B] == f"web_{B[:12]}", "that was too late"


def test_a_container_that_had_kills_takes_a_name_that_nobody_has() -> None:
    """Its count goes on there."""
    page = Page()
    page.start(A)
    page.show()
    page.now += NAME_WITHIN_SECONDS
    page.show()
    page.killed.add(A)
    page.tell(A, "web")

    assert page.show() == {A: "web"}


def test_a_container_that_had_kills_does_not_go_back_to_labels_that_had_fewer() -> None:
    """Prometheus has them at 0, from before the rename, and would see the kill a second time; long after that it would not."""
    page = Page()
    page.start(A, "web")
    page.show()
    page.tell(A, "web-2")
    page.show()
    page.killed.add(A)
    page.tell(A, "web")
    assert page.show() == {A: "web-2"}
    page.stop(A)
    page.now += KEEP_DEAD_SECONDS
    page.start(A)
    page.show()
    page.now += 1

    assert page.show() == {A: "web"}


def test_a_container_that_had_kills_stays_where_they_are_added_to_those_of_a_life_before() -> None:
    """Or the count of the labels it leaves would fall, and Prometheus would take what is left of it for new kills."""
    page = Page()
    page.start(A, "web")
    page.show()
    page.killed |= {A, B}
    page.stop(A)
    page.start(B, "web")
    page.show()
    page.tell(B, "web-2")

    assert page.show() == {A: "web", B: "web"}


def test_who_loses_its_labels_takes_its_counts_along() -> None:
    """They are no news under the others."""
    page = Page()
    page.start(A, "web")
    page.show()
    page.stop(A)
    page.start(B, "web")
    page.show()
    page.start(A)
    page.show()

    assert page.naming.moved == [(("", "", "web"), ("", "", f"web_{A[:12]}"))]


def test_green_keeps_its_own_labels_when_blue_lives_on() -> None:
    """Series do not change their labels after minutes."""
    page = Page()
    page.start(A, "web")
    page.show()
    page.now += SETTLED_SECONDS
    page.tell(A, "web-old")
    page.start(B, "web")
    page.show()
    page.now += SETTLED_SECONDS
    page.show()
    page.stop(A)

    assert page.show()[B] == f"web_{B[:12]}"


def test_blue_that_is_young_itself_gives_its_name_away() -> None:
    """It follows its rename, in one pass with the other."""
    page = Page()
    page.start(A, "web")
    page.show()
    page.tell(A, "web-old")
    page.start(B, "web")

    assert page.show() == {A: "web-old", B: "web"}


def test_one_that_came_back_does_not_share_the_labels_of_who_has_them_now() -> None:
    """The old container is started again under its new name, or the agent does not know yet that it has one."""
    page = Page()
    page.start(A, "web")
    page.show()
    page.now += SETTLED_SECONDS
    page.stop(A)
    page.start(B, "web")
    assert page.show() == {A: "web", B: "web"}
    page.start(A)
    assert page.show() == {A: f"web_{A[:12]}", B: "web"}
    page.tell(A, "web-old")

    assert page.show() == {A: "web-old", B: "web"}


def test_green_that_died_before_any_pass_does_not_count_for_blue() -> None:
    """It lived for 200 ms, was killed, and blue has the labels of its name; one of the same name before it is another life of it."""
    page = Page()
    page.start(A, "web")
    page.show()
    page.now += SETTLED_SECONDS
    page.entries[C] = Identity(("", "", "web"), state="removed", ended=page.now)
    assert page.show() == {A: "web", C: "web"}
    page.tell(A, "web-old")
    page.entries[B] = Identity(("", "", "web"), state="removed", ended=page.now)

    assert page.show()[B] == f"web_{B[:12]}"


def test_what_a_container_makes_inside_of_itself_is_never_called_like_another() -> None:
    """It may name a cgroup after one whose name is not known; a kill in there would count for that one."""
    page = Page()
    page.start(B, "db")
    page.start(A, parent=f"/docker/{B}/docker")
    page.start(A)
    page.show()
    page.now += NAME_WITHIN_SECONDS

    assert page.show() == {A: A[:12], B: "db"}
    assert page.show() == {A: A[:12], B: "db", ContainerKey.of(B, A): f"{A[:12]}_{B[:12]}"}


def test_two_lives_of_one_container_of_a_pod_share_its_name() -> None:
    """While it restarts both are there, and Kubernetes knows one container."""
    page = Page()
    for key in (A, B):
        page.start(key, parent=IN_POD)
        page.entries[key] = Identity(("shop", "web-0", "app"))

    assert page.show() == {A: "shop/web-0/app", B: "shop/web-0/app"}


steps = st.lists(
    st.tuples(st.sampled_from(["start", "stop", "name", "wait"]), st.sampled_from([A, B, C]), st.sampled_from("xy")), max_size=30
)


@given(steps)
def test_two_that_live_never_have_the_same_labels(found: list[tuple[str, ContainerKey, str]]) -> None:
    """Whatever they are called by whoever may name them, whenever they start and stop; and after the last step they stay as they are."""
    page = Page()
    for what, key, name in found:
        if what == "start" and f"/docker/{key}" not in page.living:
            page.start(key)
        elif what == "stop" and f"/docker/{key}" in page.living:
            page.stop(key)
        elif what == "name":
            page.tell(key, name)
        elif what == "wait":
            page.now += SETTLED_SECONDS / 2
        names = page.show()
        called = [names[one.id.key] for one in page.living.values() if one.id.key in names]
        assert len(set(called)) == len(called)


# Over a restart of the agent.


def test_names_are_kept_over_a_restart_and_ids_may_still_become_names() -> None:
    """Whoever gives the agent Docker's socket and starts it again wants to see names."""
    page = Page({A: ("", "", "web"), B: ("", "", B[:12]), C: ()})
    page.start(A, "web-old")
    page.start(B, "db")
    page.start(C, "cache")
    assert page.show() == {A: "web", B: "db", C: "cache"}
    page.now += 1
    page.tell(C, "redis")

    assert page.show()[C] == "redis", "it had no labels yet"


def test_the_dead_are_forgotten() -> None:
    """After a quarter of an hour."""
    page = Page({A: ("", "", "web")})
    page.now += KEEP_DEAD_SECONDS
    assert page.show() == {A: "web"}
    page.now += 1

    assert page.show() == {}


# Sandboxes that nobody tells of.


def sandboxes(page: Page) -> dict[ContainerKey, Labels]:
    """Return who is taken for a sandbox."""
    return page.naming.labels(page.entries)[1]


def pod(*, told: float = math.inf) -> Page:
    """Start a pod whose containers Kubernetes lists, and not its sandbox."""
    page = Page()
    page.pods = Pods(SHOP.names, told)
    page.start(A, parent=IN_POD)
    page.start(B, parent=IN_POD)
    page.entries[B] = Identity(("shop", "web-0", "app"))
    return page


def test_the_first_container_of_a_pod_that_is_never_listed_is_its_sandbox() -> None:
    """With the kubelet alone nobody tells of it: it has no series, neither by its name nor by its id."""
    page = pod()
    assert page.show() == {B: "shop/web-0/app"}
    page.now += NAME_WITHIN_SECONDS

    assert page.show() == {B: "shop/web-0/app"}
    assert sandboxes(page) == {A: ("shop", "web-0", "")}
    assert not page.naming.is_unnamed(A, None)


def test_a_container_that_the_kubelet_is_late_with_is_no_sandbox() -> None:
    """The sandbox was there before it."""
    page = pod()
    page.start(C, parent=IN_POD)
    page.show()
    page.now += LISTED_WITHIN_SECONDS

    assert page.show() == {B: "shop/web-0/app", C: C[:12]}
    page.entries[C] = Identity(("shop", "web-0", "proxy"))
    assert page.show() == {B: "shop/web-0/app", C: "shop/web-0/proxy"}


def test_nobody_is_a_sandbox_before_the_pods_were_listed_again() -> None:
    """A list from before its birth tells nothing. One in a pod that is listed waits longer for its name."""
    page = pod(told=1000.0)
    page.show()
    page.now += LISTED_WITHIN_SECONDS - 1
    assert page.show() == {B: "shop/web-0/app"}
    page.now += 1
    assert page.show() == {A: A[:12], B: "shop/web-0/app"}

    page.pods = SHOP
    assert page.show() == {B: "shop/web-0/app"}
    assert sandboxes(page) == {A: ("shop", "web-0", "")}
    assert page.naming.moved == [(("", "", A[:12]), ("shop", "web-0", ""))], "what it counted under its id is not newborn"


def test_what_was_taken_for_a_sandbox_and_is_listed_after_all_is_a_container() -> None:
    """However late."""
    page = pod()
    page.now += 2 * LISTED_WITHIN_SECONDS
    page.show()
    page.now += 2 * SETTLED_SECONDS
    page.show()
    page.entries[A] = Identity(("shop", "web-0", "proxy"))

    assert page.show()[A] == "shop/web-0/proxy"
    assert sandboxes(page) == {}


def test_what_was_taken_for_a_sandbox_that_its_pod_runs_in_is_none_when_it_is_listed() -> None:
    """It has memory, which told so; one that an agent before this one took for it too."""
    for page in (pod(), Page({A: ("shop", "web-0", "")})):
        page.pods = SHOP
        if not page.living:
            page.start(A, parent=IN_POD)
        page.show()
        page.now += LISTED_WITHIN_SECONDS
        page.show()
        for key in page.naming.pauses(page.entries):
            page.naming.hold_pod(key)
        assert page.show()[A] == "shop/web-0"
        assert page.naming.held_pods() == {("shop", "web-0")}
        page.entries[A] = Identity(("shop", "web-0", "proxy"))

        assert page.show()[A] == "shop/web-0/proxy"
        assert page.naming.held_pods() == set()
        assert sandboxes(page) == {}


def test_a_container_that_is_called_by_its_id_and_told_to_be_a_sandbox_is_none_any_more() -> None:
    """However late: it should never have been one."""
    page = Page()
    page.start(A, parent=IN_POD)
    page.show()
    page.now += NAME_WITHIN_SECONDS
    assert page.show() == {A: A[:12]}
    page.now += SETTLED_SECONDS
    page.entries[A] = Identity(("shop", "web-0", ""), is_sandbox=True)

    assert page.show() == {}
    assert sandboxes(page) == {A: ("shop", "web-0", "")}


@pytest.mark.parametrize("path", [f"{IN_POD}/crio-{A}.scope", f"/docker/{C}{IN_POD}/{A}", f"/kubepods/pod{UID[:-1]}d/{A}"])
def test_what_cannot_be_told_from_a_container_is_no_sandbox(path: str) -> None:
    """CRI-O may have none and gives only containers scopes; a node inside of a container has its own kubelet; the pod may be unknown."""
    page = Page()
    page.pods = SHOP
    parent, _, name = path.rpartition("/")
    page.start(ContainerKey(name), parent=parent)
    page.show()
    page.now += LISTED_WITHIN_SECONDS

    assert set(page.show().values()) == {A[:12]}


def test_a_name_that_is_kept_is_not_taken_for_a_sandboxs() -> None:
    """The agent was started again, and the kubelet lists an old state for a while."""
    page = Page({A: ("shop", "web-0", "app")})
    page.pods = SHOP
    page.start(A, parent=IN_POD)
    page.show()
    page.now += LISTED_WITHIN_SECONDS

    assert page.show() == {A: "shop/web-0/app"}


# Image and runtime.


def told(page: Page, **facts: str) -> tuple[str, str]:
    """Have these told of a container that lives, and return what it is said to have."""
    page.entries[A] = Identity(("", "", "web"), **facts)  # type: ignore[arg-type] # image and runtime are texts
    page.show()
    return page.naming.image_and_runtime(A, page.entries[A])


def test_the_image_has_one_value_per_life() -> None:
    """A list says sha256: as soon as the tag is another one's, and an event the tag."""
    page = Page()
    page.start(A)

    assert told(page, image="sha256:1234") == ("sha256:1234", "")
    assert told(page, image="nginx:1") == ("nginx:1", "")
    assert told(page, image="sha256:1234") == ("nginx:1", "")
    assert told(page, image="nginx:2") == ("nginx:1", "")
    assert told(page) == ("nginx:1", "")


def test_the_runtime_is_the_one_that_was_told_first() -> None:
    """It is part of the container's id on the page."""
    page = Page()
    page.start(A)

    assert told(page) == ("", "")
    assert told(page, runtime="docker") == ("", "docker")
    assert told(page, runtime="containerd") == ("", "docker")
