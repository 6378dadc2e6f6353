"""How the YAML file of settings (--config.file) is read."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import yaml

from agent.flags import SWITCH, Flag, hint, parse_value


def read(path: str, allowed: Mapping[str, Flag], problems: list[str]) -> dict[str, Any]:
    """Return the values of the settings in a file, whose keys are nested, dotted or both. Adds what is wrong to `problems`."""
    root = composed(path, problems)
    if root is None or is_null(root):
        return {}
    if not isinstance(root, yaml.MappingNode):
        problems.append(f"file {path}: got {shown(root)}, expected settings such as log.level: debug")
        return {}

    groups = {name[:dot] for name in allowed for dot, character in enumerate(name) if character == "."}
    values: dict[str, Any] = {}
    seen: set[str] = set()
    for name, key, value in _leaves(root, groups):
        where = f"file {path}:{key.start_mark.line + 1}"
        setting = allowed.get(name)
        if name in groups and is_null(value):
            pass  # all that was in it is commented out
        elif name in groups:
            problems.append(f"{where} {name}: got {shown(value)}, expected settings below it")
        elif setting is None:
            problems.append(f"{where}: unknown setting {name!r}; {hint(name, allowed)}")
        elif name in seen:
            problems.append(f"{where} {name}: got it twice, expected it once")
        elif setting.kind.is_list and isinstance(value, yaml.SequenceNode):
            values |= _parse_list(setting, value, path, f"{where} {name}", problems)
        elif not isinstance(value, yaml.ScalarNode) or value.tag != f"tag:yaml.org,2002:{setting.kind.tag}":
            kind = "" if setting.kind is SWITCH else "text: "
            problems.append(f"{where} {name}: got {shown(value)}, expected {kind}{setting.kind.allowed}")
        else:
            parse_value(setting, value.value, f"{where} {name}", values, problems)
        seen.add(name)
    return values


def composed(path: str, problems: list[str]) -> yaml.Node | None:
    """Return the document in a file; None if there is none, or none that can be read."""
    try:
        with open(path, "rb") as stream:
            # Nodes and not values: they know their line, their type before conversion, and which key comes twice.
            root: yaml.Node | None = yaml.compose(stream, Loader=yaml.SafeLoader)
            return root
    except OSError as error:
        problems.append(f"cannot read file {path}: {error.strerror}")
    except yaml.YAMLError as error:
        problems.append(f"cannot parse file {path} as YAML: {' '.join(str(error).split())}")
    except RecursionError:
        problems.append(f"cannot parse file {path} as YAML: it is nested too deeply")
    return None


def _parse_list(setting: Flag, node: yaml.SequenceNode, path: str, where: str, problems: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    before = len(problems)
    for item in node.value:
        place = f"file {path}:{item.start_mark.line + 1} {setting.name}"
        if not isinstance(item, yaml.ScalarNode) or item.tag != "tag:yaml.org,2002:str" or not item.value or "," in item.value:
            problems.append(f"{place}: got {shown(item)} in the list, expected text without a comma: {setting.kind.allowed}")
        else:
            parse_value(setting, item.value, place, {}, problems)
    if len(problems) == before:
        parse_value(setting, ",".join(item.value for item in node.value), where, values, problems)
    return values


def _leaves(mapping: yaml.MappingNode, groups: Collection[str], above: str = "") -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """Yield the dotted name, the key and the value of each setting; mappings other than the groups are values."""
    for key, value in mapping.value:
        name = above + (key.value if isinstance(key, yaml.ScalarNode) else shown(key))
        if name in groups and isinstance(value, yaml.MappingNode):
            yield from _leaves(value, groups, f"{name}.")
        else:
            yield name, key, value


def is_null(node: yaml.Node) -> bool:
    """Tell whether a key has no value, as one below which all is commented out."""
    return node.tag == "tag:yaml.org,2002:null"


def shown(node: yaml.Node) -> str:
    """Return how a message shows a value that is wrong."""
    if isinstance(node, yaml.ScalarNode):
        return f"{node.tag.rpartition(':')[2]} {node.value!r}"
    return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"
