"""`coroner check-config`: whether the agent would start with this configuration."""

from agent.config import Config
from agent.flags import Values
from agent.output import write


def check_config(config: Config, _flags: Values) -> int:
    """Say that all is well: a configuration that is wrong does not get here. Raises CannotWrite."""
    lines = ["the configuration is good"]
    if config.web_config:
        lines.append(f"the web configuration {config.web_config} is good")
    write("".join(f"{line}\n" for line in lines).encode())
    return 0
