"""Sync, pure. Which command lives in which module: all the top level needs to know before one is chosen.

Importing only the chosen command's module is what keeps `proa ps` quick.
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A command: its module under `proa.cli.commands`, the name it has there, and its line of help."""

    module: str
    attribute: str
    help: str


COMMANDS: dict[str, Entry] = {
    "run": Entry("run", "run", "Create and run a new container from an image"),
    "ps": Entry("ps", "ps", "List containers"),
    "build": Entry("build", "build", "Build an image from a Dockerfile"),
    "pull": Entry("transfers", "pull", "Download an image from a registry"),
    "push": Entry("transfers", "push", "Upload an image to a registry"),
    "images": Entry("images", "images", "List images"),
    "login": Entry("login", "login", "Authenticate to a registry"),
    "logout": Entry("login", "logout", "Log out from a registry"),
    "search": Entry("search", "search", "Search Docker Hub for images"),
    "version": Entry("daemon", "version", "Show version information"),
    "info": Entry("daemon", "info", "Display system-wide information"),
    "attach": Entry("attach", "attach", "Attach standard input, output and error to a running container"),
    "commit": Entry("exports", "commit", "Create a new image from a container's changes"),
    "completion": Entry("completion", "completion", "Print the completion script for a shell"),
    "cp": Entry("cp", "cp", "Copy files/folders between a container and the local filesystem"),
    "create": Entry("run", "create", "Create a new container"),
    "diff": Entry("exports", "diff", "Inspect changes to files or directories on a container's filesystem"),
    "events": Entry("events", "events", "Get real time events from the daemon"),
    "exec": Entry("exec", "exec_", "Execute a command in a running container"),
    "export": Entry("exports", "export", "Export a container's filesystem as a tar archive"),
    "history": Entry("images", "history", "Show the history of an image"),
    "import": Entry("archives", "import_", "Import the contents from a tarball to create an image"),
    "inspect": Entry("inspect", "inspect", "Return low-level information on objects"),
    "kill": Entry("lifecycle", "kill", "Kill one or more running containers"),
    "load": Entry("archives", "load", "Load an image from a tar archive or standard input"),
    "logs": Entry("logs", "logs", "Fetch the logs of a container"),
    "pause": Entry("lifecycle", "pause", "Pause all processes within one or more containers"),
    "port": Entry("details", "port", "List port mappings or a specific mapping for the container"),
    "rename": Entry("lifecycle", "rename", "Rename a container"),
    "restart": Entry("lifecycle", "restart", "Restart one or more containers"),
    "rm": Entry("lifecycle", "rm", "Remove one or more containers"),
    "rmi": Entry("images", "rmi", "Remove one or more images"),
    "save": Entry("archives", "save", "Save one or more images to a tar archive"),
    "start": Entry("start", "start", "Start one or more stopped containers"),
    "stats": Entry("stats", "stats", "Display a live stream of what containers use"),
    "stop": Entry("lifecycle", "stop", "Stop one or more running containers"),
    "tag": Entry("images", "tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
    "top": Entry("details", "top", "Display the running processes of a container"),
    "unpause": Entry("lifecycle", "unpause", "Unpause all processes within one or more containers"),
    "update": Entry("update", "update", "Update configuration of one or more containers"),
    "wait": Entry("lifecycle", "wait", "Block until containers stop, then print their exit codes"),
}

_OF_CONTAINERS = (
    *("attach", "commit", "cp", "create", "diff", "exec", "export", "kill", "logs", "pause", "port"),
    "rename",
    *("restart", "rm", "run", "start", "stats", "stop", "top", "unpause", "update", "wait"),
)

_OF_IMAGES = ("build", "history", "import", "load", "pull", "push", "save", "tag")

GROUPS: dict[str, tuple[str, dict[str, Entry]]] = {
    "builder": (
        "Manage builds",
        {
            "build": COMMANDS["build"],
            "prune": Entry("prune", "prune_builds", "Remove build cache"),
        },
    ),
    "container": (
        "Manage containers",
        {
            **{name: COMMANDS[name] for name in _OF_CONTAINERS},
            "inspect": Entry("inspect", "inspect_container", "Display detailed information on containers"),
            "ls": COMMANDS["ps"],
            "prune": Entry("prune", "prune_containers", "Remove all stopped containers"),
        },
    ),
    "image": (
        "Manage images",
        {
            **{name: COMMANDS[name] for name in _OF_IMAGES},
            "inspect": Entry("inspect", "inspect_image", "Display detailed information on images"),
            "ls": COMMANDS["images"],
            "prune": Entry("prune", "prune_images", "Remove unused images"),
            "rm": COMMANDS["rmi"],
        },
    ),
    "network": (
        "Manage networks",
        {
            "connect": Entry("networks", "connect", "Connect a container to a network"),
            "create": Entry("networks", "create", "Create a network"),
            "disconnect": Entry("networks", "disconnect", "Disconnect a container from a network"),
            "inspect": Entry("inspect", "inspect_network", "Display detailed information on networks"),
            "ls": Entry("networks", "ls", "List networks"),
            "prune": Entry("prune", "prune_networks", "Remove all unused networks"),
            "rm": Entry("networks", "rm", "Remove one or more networks"),
        },
    ),
    "system": (
        "Manage the daemon",
        {
            "df": Entry("diskusage", "df", "Show disk usage"),
            "events": COMMANDS["events"],
            "info": COMMANDS["info"],
            "prune": Entry("prune", "prune_system", "Remove unused data"),
        },
    ),
    "volume": (
        "Manage volumes",
        {
            "create": Entry("volumes", "create", "Create a volume"),
            "inspect": Entry("inspect", "inspect_volume", "Display detailed information on volumes"),
            "ls": Entry("volumes", "ls", "List volumes"),
            "prune": Entry("prune", "prune_volumes", "Remove unused local volumes"),
            "rm": Entry("volumes", "rm", "Remove one or more volumes"),
        },
    ),
}

# Other names that docker takes inside its groups.
ALIASES = {"list": "ls", "ps": "ls", "remove": "rm"}
