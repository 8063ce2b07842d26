"""Trio-flavoured. What the API is given of the engine: one object for each area, nothing that holds them
together.
"""

from dataclasses import dataclass

from proad.config import Config
from proad.engine.archives import Archives
from proad.engine.build import Builder
from proad.engine.commit import Committer
from proad.engine.connecting import Connector
from proad.engine.containers import Containers
from proad.engine.control import Control
from proad.engine.create import Creator
from proad.engine.exec import Execs
from proad.engine.exports import Exports
from proad.engine.images import Images
from proad.engine.importurl import UrlImport
from proad.engine.networkcontrol import NetworkControl
from proad.engine.networks import Networks
from proad.engine.pull import Puller
from proad.engine.push import Pusher
from proad.engine.registries import RegistryQueries
from proad.engine.remove import Remover
from proad.engine.start import Starter
from proad.engine.stats import Stats
from proad.engine.streams import Streams
from proad.engine.system import System
from proad.engine.volumes import Volumes


@dataclass(frozen=True)
class Roles:
    """The areas of the engine that routes call."""

    config: Config
    containers: Containers
    creator: Creator
    starter: Starter
    control: Control
    remover: Remover
    streams: Streams
    execs: Execs
    stats: Stats
    exports: Exports
    archives: Archives
    committer: Committer
    images: Images
    builder: Builder
    puller: Puller
    pusher: Pusher
    registry_queries: RegistryQueries
    url_import: UrlImport
    volumes: Volumes
    networks: Networks
    network_control: NetworkControl
    connector: Connector
    system: System
