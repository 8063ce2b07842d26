"""Whatever is sent to any operation of the API, the daemon answers it, soon, and as one who means it.

Requests are drawn from the API's reference (tests/support/fuzzvalues.py says how they are spoilt). The run of
the suite is always the same one; the long one takes another seed each time, and PROA_FUZZ_SEED repeats one.
"""

import json
import os
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import hypothesis
import pytest

from tests.support import execs, schema
from tests.support.daemon import Daemon
from tests.support.fuzzer import Defect, Fuzzer, Operation, Request, operations, requests
from tests.support.fuzzvalues import IMAGE, LIVE, NETWORK, VOLUMES

SHORT_EXAMPLES = 8
LONG_EXAMPLES = int(os.environ.get("PROA_FUZZ_EXAMPLES") or 400)
TIDY_EVERY = 25
GROUPS = ("/containers", "/exec", "/images", "/volumes", "/networks", "/")


class World:
    """What the requests find: containers in each state, execs, an image, a volume; and a judge."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.api = daemon.api
        self.fuzzer = Fuzzer(daemon.socket, self.exec_id)
        self._log_read = 0

    def tidy(self) -> None:
        """Make everything as it shall be, whatever has been done to it."""
        wanted = {"fuzz-running", "fuzz-paused", "fuzz-terminal", "fuzz-stopped", "fuzz-created"}
        for image in self.api("GET", "/images/json", all=True).expect(200).json:
            for tag in image["RepoTags"] or ():
                if tag != IMAGE:
                    self.api("DELETE", f"/images/{tag}", force=True)
        if self.api("GET", f"/images/{IMAGE}/json").status != 200:
            self.daemon.import_busybox()
        for container in self.api("GET", "/containers/json", all=True).expect(200).json:
            name = container["Names"][0].lstrip("/")
            state = {"fuzz-stopped": "exited", "fuzz-created": "created", "fuzz-paused": "paused"}.get(
                name, "running"
            )
            if name in wanted and container["State"] == state:
                wanted.discard(name)
            else:
                self.api("DELETE", f"/containers/{container['Id']}", force=True, v=True)
        for name in sorted(wanted):
            body = {
                "Image": IMAGE,
                "Cmd": LIVE,
                "Tty": name == "fuzz-terminal",
                "OpenStdin": name == "fuzz-terminal",
            }
            self.api("POST", "/containers/create", name=name, json_body=body).expect(201)
            for verb in {
                "fuzz-stopped": ["start", "kill"],
                "fuzz-created": [],
                "fuzz-paused": ["start", "pause"],
            }.get(name, ["start"]):
                self.api("POST", f"/containers/{name}/{verb}").expect(204)
        for volume in self.api("GET", "/volumes").expect(200).json["Volumes"]:
            self.api("DELETE", f"/volumes/{volume['Name']}", force=True)
        self.api("POST", "/volumes/create", json_body={"Name": VOLUMES[0]}).expect(201)
        for network in self.api("GET", "/networks", filters={"type": ["custom"]}).expect(200).json:
            if network["Name"] != NETWORK:  # none but containers that are gone by now can be on it
                self.api("DELETE", f"/networks/{network['Id']}").expect(204)
        if self.api("GET", f"/networks/{NETWORK}").status != 200:
            self.api("POST", "/networks/create", json_body={"Name": NETWORK}).expect(201)

    def exec_id(self, word: str) -> str:
        """The id of a new exec, of one that runs, or of one that has ended."""
        command = ["sleep", "5"] if word == "@exec-live" else ["true"]
        answer = self.api(
            "POST", "/containers/fuzz-running/exec", json_body={"Cmd": command, "AttachStdout": True}
        )
        if answer.status != 201:  # an earlier request has stopped, paused or renamed the container
            self.tidy()
            return execs.create(self.api, "fuzz-running", *command)
        exec_id = str(answer.json["Id"])
        if word != "@exec-new":
            self.api("POST", f"/exec/{exec_id}/start", json_body={"Detach": True})
        return exec_id

    def check_daemon(self) -> None:
        """Raise unless it lives and has nothing to complain of since the last time."""
        assert self.daemon.is_running, f"the daemon has died:\n{self.daemon.log_tail()}"
        assert self.api("GET", "/_ping", timeout_s=10.0).status == 200
        with self.daemon.log_path.open("rb") as log:
            log.seek(self._log_read)
            lines = log.read().splitlines()
            self._log_read = log.tell()
        for line in lines:
            try:
                said = json.loads(line)
            except ValueError:
                raise Defect(f"not a log line: {line.decode(errors='replace')}") from None
            # That a container's own command or user is no good is no fault of the daemon's.
            if said["level"] in ("error", "critical") and said["event"] != "container did not start":
                raise Defect(line.decode(errors="replace"))

    def send(self, request: Request) -> None:
        """Send it; a container that it makes has its life at once."""
        status, body = self.fuzzer.send(request)
        if status == 201 and request.operation.name == "POST /containers/create":
            path = f"/containers/{json.loads(body)['Id']}"
            for method, step in (
                ("POST", "/start"), ("GET", "/json"), ("GET", "/logs"), ("POST", "/kill"), ("DELETE", ""),
            ):  # fmt: skip
                query = "stdout=1" if step == "/logs" else "force=1&v=1" if not step else ""
                follows = Operation(method, "/containers/{id}" + step, ())
                self.fuzzer.send(
                    replace(request, operation=follows, path=path + step, query=query, headers=(), body=None)
                )

    def run(self, operation: Operation, examples: int, seed: int) -> None:
        """Send requests for one operation; raises the first :class:`Defect`."""
        sent = 0

        def example(request: Request) -> None:
            nonlocal sent
            sent += 1
            if sent % TIDY_EVERY == 0:
                self.tidy()
            self.send(request)

        # No shrinking: the same request, sent again, would meet another state of things.
        settings = hypothesis.settings(
            max_examples=examples, deadline=None, database=None, phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )  # fmt: skip
        drawn = hypothesis.given(requests(operation, schema.reference()["definitions"]))(example)
        try:
            hypothesis.seed(seed)(settings(drawn))()
        finally:
            self.check_daemon()


@pytest.fixture(scope="module")
def world(daemon: Daemon) -> Iterator[World]:
    schema.reference()
    made = World(daemon)
    made.tidy()
    yield made
    with suppress(AssertionError):
        made.tidy()


def group_of(operation: Operation) -> str:
    return next(group for group in GROUPS if operation.path.startswith(group))


@pytest.mark.parametrize("group", GROUPS)
def test_every_operation(world: World, group: str) -> None:
    for operation in operations(schema.reference()):
        if group_of(operation) == group:
            world.tidy()
            world.run(operation, SHORT_EXAMPLES, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("group", GROUPS)
def test_every_operation_for_long(world: World, group: str) -> None:
    seed = int(os.environ.get("PROA_FUZZ_SEED") or random.randrange(2**32))
    print(f"PROA_FUZZ_SEED={seed}")
    defects = []
    for operation in operations(schema.reference()):
        if group_of(operation) == group:
            world.tidy()
            try:
                world.run(operation, LONG_EXAMPLES, seed)
            except Defect as defect:
                defects.append(str(defect))
    print(f"answers so far by status: {dict(sorted(world.fuzzer.statuses.items()))}")
    assert not defects, "\n\n".join(defects)
