"""What a command is. Those there are stand in cli.py."""

from collections.abc import Callable
from dataclasses import dataclass

from agent.config import Config
from agent.flags import Flag, Values


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the command line."""

    name: str
    """Empty: what runs without a command."""
    help: str
    """One line."""
    run: Callable[[Config, Values], int] | None
    """From the settings and the values of its own flags to its exit code. None: help itself, which needs no settings."""
    words: str = ""
    """What words behind it are, in capitals; `run` gets them as the value of that name. Empty: it takes none."""
    flags: tuple[Flag, ...] = ()
    """Its own. Two commands may have a flag of one name with different choices, if both or neither is a switch."""
    details: str = ""
    """What its own help says beside the line, such as the meaning of its exit codes."""
    is_daemon: bool = False
    """It keeps the casebook, and runs until SIGTERM or Ctrl-C, which end it with 0. Any other only reads; Ctrl-C ends it with 130."""
    needs_endpoint: bool = False
    """The web configuration and the certificates that it names are settings that it needs: they must be readable, and right."""
    failure: int = 1
    """Exit code where it could not do what it is for; one that `run` does not return for anything else."""

    @property
    def title(self) -> str:
        """How an error names it."""
        return f"coroner {self.name}" if self.name else "coroner without a command"
