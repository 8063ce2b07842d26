"""Trio-flavoured. The verb build: a Dockerfile and its context made into an image, as by Docker's classic
builder.

    context into a workspace -> Dockerfile parsed -> stage by stage (``buildstages``), step by step
    (``buildsteps``)
        -> names for the last stage's image

Whatever the build acquires goes with it, however it ends: the workspace and its processes, the containers of
its steps. A client that hangs up cancels it. Of a daemon that is killed, the next one finds containers that
are marked as a build's, and removes them.
"""

import io
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import structlog
import trio

from proad.engine.buildbases import BaseRules
from proad.engine.buildcontext import DEFAULT_DOCKERFILE, Contexts
from proad.engine.buildoutput import BuildOutput
from proad.engine.buildprune import BuildPruned, prune_built
from proad.engine.buildsources import Downloads, Fetch
from proad.engine.buildstages import CacheRules, Parts, StageRules, Stages
from proad.engine.buildsteps import StepRules
from proad.host.blobs import BlobStore
from proad.host.buildtrees import BuildTrees
from proad.model import dockerfile, errors
from proad.model.credentials import Credentials
from proad.model.dockerfile import Dockerfile
from proad.model.filters import Filters
from proad.model.hostconfig import HostConfig
from proad.model.image import Image
from proad.model.imagearchive import Platform
from proad.model.instructions import Label
from proad.model.reference import Reference

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class BuildRequest:
    """What is to be built, and how. ``host_config`` are the limits of the steps' containers."""

    names: Sequence[Reference] = ()
    dockerfile: str = DEFAULT_DOCKERFILE
    remote: str = ""
    target: str = ""
    arguments: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    host_config: HostConfig = field(default_factory=HostConfig)
    use_cache: bool = True
    cache_from: Sequence[str] = ()
    pull: bool = False
    platform: Platform | None = None
    credentials: Mapping[str, Credentials] = field(default_factory=dict)
    remove: bool = True
    force_remove: bool = False
    id: str = ""
    """By which the request can be cancelled; empty if it cannot."""


class Builder:
    """Builds images."""

    def __init__(self, blobs: BlobStore, trees: BuildTrees, parts: Parts, fetch: Fetch) -> None:
        self._blobs = blobs
        self._trees = trees
        self._parts = parts
        self._fetch = fetch
        self._contexts = Contexts(trees)
        self._under_way: dict[str, trio.CancelScope] = {}

    async def build(self, request: BuildRequest, source: io.FileIO, output: BuildOutput) -> str:
        """Build, and return the image's id. ``source`` gives the context, unless a URL does; it is closed.

        Raises:
            errors.InvalidParameter: the context or the Dockerfile cannot be taken.
            StepFailed: a command ended with another code than 0.
            errors.ProaError: a step fails; what came before is in ``output``.
        """
        scope = trio.CancelScope()
        if request.id:
            self._under_way[request.id] = scope
        try:
            with scope, source:
                return await self._build(request, source, output)
        finally:
            if self._under_way.get(request.id) is scope:
                del self._under_way[request.id]
        raise errors.Conflict("build cancelled")

    def cancel(self, build_id: str) -> None:
        """Cancel the build of that id; without effect if there is none."""
        if (scope := self._under_way.get(build_id)) is not None:
            scope.cancel()

    async def prune(self, filters: Filters, *, kept_bytes: int) -> BuildPruned:
        """See :func:`proad.engine.buildprune.prune_built`."""
        return await prune_built(self._parts.store, self._parts.images, filters, kept_bytes=kept_bytes)

    async def _build(self, request: BuildRequest, source: io.FileIO, output: BuildOutput) -> str:
        self._trees.warm()
        images = self._parts.images
        try:
            began_s = trio.current_time()
            with ExitStack() as held:
                image = await self._make(request, source, output, held)
                log.info("image built", image=image.id, seconds=round(trio.current_time() - began_s, 3))
                output.say(f"Successfully built {image.short_id}\n")
                for name in request.names:
                    await images.tag(image.id, name)
                    output.say(f"Successfully tagged {name.familiar}\n")
        finally:
            images.write_index()  # of all that there is, the images of steps too, however far it came
        return image.id

    async def _make(
        self, request: BuildRequest, source: io.FileIO, output: BuildOutput, held: ExitStack
    ) -> Image:
        async with self._blobs.workspace() as work:
            downloads = Downloads(work, self._fetch, output)
            if request.remote:
                context = await self._contexts.remote(request.remote, request.dockerfile, work, downloads)
            else:
                context = await self._contexts.sent(source.fileno(), request.dockerfile, work)
            source.close()
            plan = _plan(context.dockerfile, request)
            for warning in plan.warnings:
                output.warn(f"{warning}\n")
            stages = Stages(self._parts, _rules(request, plan), plan, context.files, downloads, output, held)
            return await stages.build()


def _plan(plan: Dockerfile, request: BuildRequest) -> Dockerfile:
    """The stages that are asked for, the request's labels on the last one.

    Raises:
        errors.InvalidParameter: there is no such stage, or none at all.
    """
    if not plan.stages:
        raise errors.InvalidParameter("dockerfile contains no stages to build")
    if request.target:
        plan = plan.until(request.target)
    labels = tuple(
        Label(pairs=((name, value),), is_literal=True, original=f"LABEL {name}={value}")
        for name, value in sorted(request.labels.items())
    )
    last = plan.stages[-1]
    stages = (*plan.stages[:-1], dockerfile.Stage(last.base, (*last.instructions, *labels)))
    return Dockerfile(plan.arguments, stages, plan.escape, plan.warnings)


def _rules(request: BuildRequest, plan: Dockerfile) -> StageRules:
    return StageRules(
        arguments=request.arguments,
        bases=BaseRules(request.pull, request.platform, request.credentials),
        cache=CacheRules(request.use_cache, request.cache_from, request.platform),
        steps=StepRules(request.host_config, request.remove, request.force_remove, plan.escape),
    )
