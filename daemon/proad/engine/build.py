"""Trio-flavoured. The verb build: a Dockerfile and its context made into an image, as by Docker's classic builder.

    context into a workspace -> Dockerfile parsed -> for each stage: base image, then step by step (``buildsteps``)
        -> names for the last stage's image

Whatever the build acquires goes with it, however it ends: the workspace and its processes, the containers of its
steps. A client that hangs up cancels it. Of a daemon that is killed, the next one finds containers that are marked
as a build's, and removes them.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
import trio

from proad.engine.buildbases import BaseRules, Bases, Pull
from proad.engine.buildcache import BuildCache, LocalCache, NoCache, SourcesCache
from proad.engine.buildcontext import DEFAULT_DOCKERFILE, Context, Contexts
from proad.engine.buildcopy import BuildCopies
from proad.engine.buildoutput import BuildOutput
from proad.engine.buildrun import BuildRuns, StepFailed
from proad.engine.buildsources import Downloads, Fetch
from proad.engine.buildsteps import Stage, StepRules, Steps, begin_stage
from proad.engine.images import Images
from proad.engine.stepimages import StepImages
from proad.host.blobs import BlobStore
from proad.host.buildtrees import BuildTrees, Tree
from proad.model import dockerfile, errors, imagearchive
from proad.model.buildargs import BuildArgs
from proad.model.dockerfile import Dockerfile, parse_trigger
from proad.model.expansion import expand
from proad.model.hostconfig import HostConfig
from proad.model.image import Image
from proad.model.imagearchive import Platform, parse_platform
from proad.model.instructions import From, Label
from proad.model.reference import Reference
from proad.store.db import Store

SCRATCH = "scratch"

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
    host_config: HostConfig = HostConfig()
    use_cache: bool = True
    cache_from: Sequence[str] = ()
    pull: bool = False
    platform: Platform | None = None
    registry_config: Mapping[str, Any] = field(default_factory=dict)
    remove: bool = True
    force_remove: bool = False
    id: str = ""
    """By which the request can be cancelled; empty if it cannot."""


class Builder:
    """Builds images."""

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        images: Images,
        steps: StepImages,
        trees: BuildTrees,
        runs: BuildRuns,
        pull: Pull,
        fetch: Fetch,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._images = images
        self._steps = steps
        self._trees = trees
        self._runs = runs
        self._pull = pull
        self._fetch = fetch
        self._contexts = Contexts(trees)
        self._copies = BuildCopies(blobs, trees, steps)
        self._under_way: dict[str, trio.CancelScope] = {}

    async def build(self, request: BuildRequest, source: io.FileIO, output: BuildOutput) -> str:
        """Build, and return the image's id. ``source`` gives the context, unless a URL is asked for; it is closed.

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

    async def recover(self) -> None:
        """Take away what builds left that died with an earlier daemon."""
        await self._runs.recover()

    async def _build(self, request: BuildRequest, source: io.FileIO, output: BuildOutput) -> str:
        self._trees.warm()
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
            building = _Build(self, request, plan, context, downloads, output)
            image = await building.run()
            output.say(f"Successfully built {image.short_id}\n")
            for name in request.names:
                await self._images.tag(image.id, name)
                output.say(f"Successfully tagged {name.familiar}\n")
            return image.id

    # --- for a build --------------------------------------------------------------------------------------

    def make_cache(self, request: BuildRequest) -> BuildCache:
        """The cache as a stage finds it when it begins."""
        if not request.use_cache:
            return NoCache()
        architecture = (request.platform or imagearchive.host_platform()).architecture
        if not request.cache_from:
            return LocalCache(self._store, architecture)
        sources = []
        for name in request.cache_from:
            try:
                sources.append(self._images.resolve(name))
            except errors.ProaError as error:
                log.warning("could not look up an image for the build cache", error=error.message)
        return SourcesCache(self._store, self._steps, sources, architecture)

    def make_bases(self, request: BuildRequest, output: BuildOutput) -> Bases:
        rules = BaseRules(request.pull, request.platform, request.registry_config)
        return Bases(self._images, self._pull, rules, output)

    def make_steps(
        self,
        rules: StepRules,
        context: Tree | None,
        downloads: Downloads,
        build: "_Build",
        output: BuildOutput,
        nursery: trio.Nursery,
    ) -> Steps:
        return Steps(
            self._runs, self._copies, self._steps, output, rules, context, downloads, build, nursery
        )

    def files_of(self, image: Image | None) -> Tree:
        return self._copies.files_of(image)

    def release(self, container_ids: set[str]) -> None:
        """What is left of a build's containers is its user's now."""
        for container_id in container_ids:
            self._runs.release(container_id)


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


class _Build:
    """One build under way: its stages so far, and the number of the step."""

    def __init__(
        self,
        builder: Builder,
        request: BuildRequest,
        plan: Dockerfile,
        context: Context,
        downloads: Downloads,
        output: BuildOutput,
    ) -> None:
        self._builder = builder
        self._request = request
        self._plan = plan
        self._context = context
        self._downloads = downloads
        self._output = output
        self._arguments = BuildArgs(given=request.arguments)
        self._stages: list[Stage] = []
        self._bases = builder.make_bases(request, output)
        self._step = 0

    async def run(self) -> Image:
        """Do all steps; returns the image of the last stage.

        Raises:
            errors.ProaError: a step fails, or nothing came of them.
        """
        failure: errors.ProaError | None = None
        async with trio.open_nursery() as nursery:
            steps = self._make_steps(nursery)
            try:
                await self._run(steps)
            except errors.ProaError as error:  # caught here, for a nursery would put it into a group
                failure = error
            except BaseException:
                with trio.CancelScope(shield=True):
                    await steps.remove_containers()
                raise
        self._builder.release(steps.containers)
        if failure is not None:
            raise failure
        image = self._stages[-1].image
        if image is None:
            raise errors.InvalidParameter("No image was generated. Is your Dockerfile empty?")
        return image

    def _make_steps(self, nursery: trio.Nursery) -> Steps:
        request = self._request
        rules = StepRules(request.host_config, request.remove, request.force_remove, self._plan.escape)
        return self._builder.make_steps(
            rules, self._context.files, self._downloads, self, self._output, nursery
        )

    async def _run(self, steps: Steps) -> None:
        for argument in self._plan.arguments:
            self._begin_step(argument.original)
            expanded = expand(argument, self._arguments.in_from(), self._plan.escape)
            self._arguments = self._arguments.with_argument(expanded, before_from=True)
        for planned in self._plan.stages:
            await self._run_stage(steps, planned)
        if unused := self._arguments.unused():
            self._output.say(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed\n")

    async def _run_stage(self, steps: Steps, planned: dockerfile.Stage) -> None:
        if planned.base.name and self._named(planned.base.name) is not None:
            raise errors.InvalidParameter(f"{planned.base.name} stage name already used")
        cache = self._builder.make_cache(self._request)
        self._begin_step(planned.base.original)
        stage = await self._begin_stage(planned.base)
        await self._run_triggers(steps, stage, cache)
        self._tell_image(stage)
        for instruction in planned.instructions:
            self._begin_step(instruction.original)
            await steps.do(stage, cache, instruction)
            self._tell_image(stage)
            await self._output.room()
        if stage.image is not None:
            self._output.aux({"ID": stage.image.id})
        self._arguments = stage.arguments
        self._stages.append(stage)

    async def _begin_stage(self, base: From) -> Stage:
        expanded = expand(base, self._arguments.in_from(), self._plan.escape)
        platform = parse_platform(expanded.platform) if expanded.platform else None
        if (stage := self._named(expanded.image)) is not None:
            image = stage.image
        elif expanded.image == SCRATCH:
            image = None
        else:
            image = await self._bases.get(expanded.image, platform)
        return begin_stage(base.name, image, self._arguments)

    async def _run_triggers(self, steps: Steps, stage: Stage, cache: BuildCache) -> None:
        """Do what the base image asks of builds on top of it."""
        triggers = stage.config.on_build or ()
        stage.forget_triggers()
        if not triggers:
            return
        plural = "s" if len(triggers) > 1 else ""
        self._output.say(f"# Executing {len(triggers)} build trigger{plural}")
        self._output.say("\n")
        for trigger in triggers:
            await steps.do(stage, cache, parse_trigger(trigger))

    # --- stages -------------------------------------------------------------------------------------------

    def _named(self, name: str) -> Stage | None:
        return next((stage for stage in self._stages if stage.name == name.lower() and name), None)

    async def files_from(self, name: str) -> Tree:
        """See :class:`proad.engine.buildsteps.Sources`."""
        stage = self._named(name)
        if stage is None and name.lstrip("+-").isdecimal():
            stage = self._numbered(int(name))
        image = stage.image if stage is not None else await self._bases.get(name)
        return self._builder.files_of(image)

    def _numbered(self, number: int) -> Stage:
        if number == len(self._stages):
            raise errors.InvalidParameter("refers to current build stage")
        if not 0 <= number < len(self._stages):
            raise errors.InvalidParameter("index out of bounds")
        return self._stages[number]

    # --- what is said -------------------------------------------------------------------------------------

    def _begin_step(self, text: str) -> None:
        self._step += 1
        self._output.say(f"Step {self._step}/{self._plan.steps} : {text}")
        self._output.say("\n")

    def _tell_image(self, stage: Stage) -> None:
        self._output.say(f" ---> {stage.image.short_id if stage.image is not None else ''}\n")


__all__ = ["BuildRequest", "Builder", "StepFailed"]
