"""What the casebook holds, in memory: ahead of the file, and without it. What the file does not hold yet is written in one transaction."""

from collections import deque
from collections.abc import Collection
from dataclasses import asdict, replace
from typing import Any

from agent.casebook import kills, rows, schema, verdicts, victims
from agent.casebook.aside import Aside
from agent.casebook.cases import Cases
from agent.casebook.rows import Rows
from agent.casebook.schema import Execute
from collectors.inquest.kill_state import Labels, State, Victim


class Contents:
    """The kill ledger's state, the cases, and the victims and verdicts that the file does not hold yet."""

    def __init__(self) -> None:
        self.aside = Aside()
        self.cases = Cases()
        self.victims: deque[Victim] = deque(maxlen=1000)
        self._state = Rows(*kills.TABLES)
        self._changing = (self._state, self.cases.deaths, self.cases.open)

    def load(self, execute: Execute) -> tuple[State | None, str]:
        """Take over what a file holds; return the kill ledger's state, None if it has none, and the boot that it is of."""
        state, boot_id = kills.read(execute)
        if state is not None:
            self._state.load(kills.rows(state, boot_id))
        self.cases.load(execute)
        return state, boot_id

    def save(self, state: State, boot_id: str, victim: Victim | None) -> None:
        """Take the kill ledger's state, and the victim it now counts."""
        if victim is not None and self.aside.lets_pass(victim):
            if self.victims and victims.is_same(self.victims[-1], victim):
                self.victims.pop()  # more is known of it by now
            self.victims.append(victim)
        self._state.replace(kills.rows(state, boot_id))

    def write(self, execute: Execute, boot_id: str) -> bool:
        """Make the file hold all this; return whether there was anything to write. Raises sqlite3.Error, ValueError."""
        changes = [change for each in self._changing for change in each.changes(self.aside.lets_row_pass)]
        if not changes and not self.victims and not self.cases.closed and all(each.is_known for each in self._changing):
            return False
        with schema.transaction(execute):
            for each in self._changing:
                each.begin(execute)
            for key, values in changes:
                rows.write(execute, key, values)
            names = [(key, labels) for (table, [key, *_]), labels in changes if table == "names" and labels]
            if self.victims or names:
                victims.add(execute, self.victims, boot_id)
            verdicts.add(execute, (self._named(closed) for closed in self.cases.closed))
            for identifier, labels in names:
                verdicts.rename(execute, identifier, labels)
        for each in self._changing:
            each.kept()
        self.victims.clear()
        self.cases.closed.clear()
        return True

    def lost(self) -> None:
        """Take note that nobody knows what the file holds, or will hold when it can be written again."""
        for each in self._changing:
            each.lost()

    def shown(self) -> set[Labels]:
        """Return the labels of the containers that are on the page."""
        return {labels for (table, _), labels in self._state.items() if table == "names"}

    def latest_victims(self, most: int, of: Collection[str] | None = None) -> list[dict[str, Any]]:
        """Return what victims.latest would, of those that the file does not hold: they have no number."""
        found = [victim for victim in self.victims if of is None or victim.identifier in of]
        return [{**self._labels(victim.identifier), **asdict(victim)} for victim in found[: -most - 1 : -1]]

    def _labels(self, identifier: str) -> dict[str, str]:
        return dict(zip(schema.NAME, self._state.get(("names", (identifier,))) or ("", "", ""), strict=True))

    def _named(self, closed: verdicts.Closed) -> verdicts.Closed:
        """Return a verdict under the name that its container has by now, if that is known."""
        name = self._state.get(("names", (closed.verdict.container,)))
        return closed if name is None else replace(closed, labels=name)
