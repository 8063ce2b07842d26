"""Sync, pure. Names of containers: Docker's pattern, readable ones for those who give none, and those that
others know them by.
"""

import re
from collections import abc
from collections.abc import Callable
from random import Random

from proad.model import errors
from proad.model.container import Container
from proad.model.network import EndpointSettings

NAME_CHARACTERS = "[a-zA-Z0-9][a-zA-Z0-9_.-]"
_NAME = re.compile(rf"/?{NAME_CHARACTERS}+")

_MOODS = """
able airy amber ample apt arctic autumn azure balmy bold brave breezy bright brisk calm candid cheerful
clear clever coral cosy crisp daring deep eager early easy fair fearless fleet fluent fond free fresh
gallant gentle glad golden graceful grand happy hardy hearty honest humble jolly keen kind lively loyal
lucid lucky mellow merry mighty mild modest nimble noble novel patient placid plucky proud quick quiet
rapid ready salty serene sharp shiny silent silver sleek smooth snug sober solar sound spry stable steady
stout sunny sure swift tidal tidy true upbeat vivid warm wary willing windy wise witty zesty
""".split()  # noqa: SIM905  # prose wraps, a list of a hundred strings does not
_SAILORS = """
amundsen aotea baffin barents baret bering bonny bougainville cabot caboto cartier cavendish chichester
columbus cook coronelli dampier davis dias diaz drake dumont earhart erikson fitzroy flinders franklin
frobisher gama grace halley hanno harrison hawkins heyerdahl hudson humboldt joshua joyon kaiulani kupe
laperouse magellan malaspina marin markham maury mercator moitessier nainoa nansen naomi piailug polo
pytheas raleigh ross sacagawea scott shackleton slocum tabarly tasman tereshkova tupaia vancouver verne
vespucci weddell wilkes zheng
""".split()  # noqa: SIM905  # prose wraps, a list of a hundred strings does not


def check_name(name: str) -> str:
    """The container name that ``name`` asks for, without the slash that old clients put before it.

    Raises:
        errors.InvalidParameter: the name does not fit Docker's pattern.
    """
    if not _NAME.fullmatch(name):
        raise errors.InvalidParameter(f"Invalid container name ({name}), only {NAME_CHARACTERS} are allowed")
    return name.removeprefix("/")


def generate_name(taken: abc.Container[str] | Callable[[str], bool], random: Random) -> str:
    """A readable name that is not in ``taken``; a number follows it once the plain ones become scarce."""
    is_taken = taken if callable(taken) else taken.__contains__
    for attempt in range(1000):
        name = f"{random.choice(_MOODS)}_{random.choice(_SAILORS)}"
        if attempt >= 5:
            name += str(random.randrange(10 ** (1 + attempt // 100)))
        if not is_taken(name):
            return name
    raise errors.System("no container name is left to generate")


def dns_names(container: Container, wish: EndpointSettings) -> list[str]:
    """What a container is called on a network where names are for it, in Docker's order, each once."""
    names = [container.name, *(wish.aliases or ()), container.short_id, container.config.hostname]
    return [name for name in dict.fromkeys(names) if name]
