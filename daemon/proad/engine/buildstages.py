"""Trio-flavoured. The stages of one build: each begins with an image, or with an earlier stage, and goes on
step by step; later ones copy from those that are done.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import structlog
import trio

from proad.engine.buildbases import BaseRules, Bases
from proad.engine.buildcache import BuildCache, LocalCache, NoCache, SourcesCache
from proad.engine.buildcopy import BuildCopies
from proad.engine.buildoutput import BuildOutput
from proad.engine.buildrun import BuildRuns
from proad.engine.buildsources import Downloads
from proad.engine.buildsteps import Stage, StepRules, Steps, begin_stage
from proad.engine.images import Images
from proad.engine.pull import Puller
from proad.engine.stepimages import StepImages
from proad.host.buildtrees import Tree
from proad.model import dockerfile, errors, imagearchive
from proad.model.buildargs import BuildArgs
from proad.model.dockerfile import Dockerfile, parse_trigger
from proad.model.expansion import expand
from proad.model.image import Image
from proad.model.imagearchive import Platform, parse_platform
from proad.model.instructions import From
from proad.store.db import Store

SCRATCH = "scratch"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Parts:
    """What all builds share."""

    store: Store
    images: Images
    steps: StepImages
    copies: BuildCopies
    runs: BuildRuns
    puller: Puller


@dataclass(frozen=True)
class CacheRules:
    """Whether there is a cache, and whether it is bound to certain images."""

    is_used: bool
    sources: Sequence[str]
    platform: Platform | None


@dataclass(frozen=True)
class StageRules:
    """What the request says."""

    arguments: Mapping[str, str | None]
    bases: BaseRules
    cache: CacheRules
    steps: StepRules


class Stages:
    """One build under way: its stages so far, and the number of the step."""

    def __init__(
        self,
        parts: Parts,
        rules: StageRules,
        plan: Dockerfile,
        context: Tree | None,
        downloads: Downloads,
        output: BuildOutput,
        held: ExitStack,
    ) -> None:
        """``held`` keeps the images from being removed, and is the caller's to close."""
        self._parts = parts
        self._rules = rules
        self._plan = plan
        self._context = context
        self._downloads = downloads
        self._output = output
        self._arguments = BuildArgs(given=rules.arguments)
        self._stages: list[Stage] = []
        self._bases = Bases(parts.images, parts.puller, rules.bases, output)
        self._held = held
        self._step = 0

    async def build(self) -> Image:
        """Do all steps; returns the image of the last stage.

        Raises:
            errors.ProaError: a step fails, or nothing came of them.
        """
        failure: errors.ProaError | None = None
        async with trio.open_nursery() as nursery:
            steps = self._make_steps(nursery)
            try:
                await self._build(steps)
            except errors.ProaError as error:  # caught here, for a nursery would put it into a group
                failure = error
            except BaseException:
                with trio.CancelScope(shield=True):
                    await steps.remove_containers()
                raise
        for container_id in steps.containers:  # left to the user
            self._parts.runs.release(container_id)
        if failure is not None:
            raise failure
        image = self._stages[-1].image
        if image is None:
            raise errors.InvalidParameter("No image was generated. Is your Dockerfile empty?")
        return image

    def _make_steps(self, nursery: trio.Nursery) -> Steps:
        parts = self._parts
        return Steps(
            parts.runs,
            parts.copies,
            parts.steps,
            self._output,
            self._rules.steps,
            self._context,
            self._downloads,
            self,
            self._held,
            nursery,
        )

    async def _build(self, steps: Steps) -> None:
        for argument in self._plan.arguments:
            self._begin_step(argument.original)
            expanded = expand(argument, self._arguments.in_from(), self._plan.escape)
            self._arguments = self._arguments.with_argument(expanded, before_from=True)
        for planned in self._plan.stages:
            await self._build_stage(steps, planned)
        if unused := self._arguments.unused():
            self._output.say(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed\n")

    async def _build_stage(self, steps: Steps, planned: dockerfile.Stage) -> None:
        if self._named(planned.base.name) is not None:
            raise errors.InvalidParameter(f"{planned.base.name} stage name already used")
        cache = self._make_cache()
        self._begin_step(planned.base.original)
        stage = await self._begin_stage(planned.base)
        await self._run_triggers(steps, stage, cache)
        self._tell_image(stage)
        for instruction in planned.instructions:
            self._begin_step(instruction.original)
            await steps.do(stage, cache, instruction)
            self._hold(stage.image)
            self._tell_image(stage)
            await self._output.room()
        if stage.image is not None:
            self._output.aux({"ID": stage.image.id})
        self._arguments = stage.arguments
        self._stages.append(stage)

    async def _begin_stage(self, base: From) -> Stage:
        expanded = expand(base, self._arguments.in_from(), self._plan.escape)
        if (stage := self._named(expanded.image)) is not None:
            image = stage.image
        elif expanded.image == SCRATCH:
            image = None
        else:
            image = await self._bases.get(expanded.image, parse_platform(expanded.platform))
        self._hold(image)
        return begin_stage(base.name, image, self._arguments)

    async def _run_triggers(self, steps: Steps, stage: Stage, cache: BuildCache) -> None:
        """Do what the base image asks of builds on top of it."""
        triggers = stage.config.on_build or ()
        stage.forget_triggers()
        if not triggers:
            return
        plural = "s" if len(triggers) > 1 else ""
        self._output.say(f"# Executing {len(triggers)} build trigger{plural}\n")
        for trigger in triggers:
            await steps.do(stage, cache, parse_trigger(trigger))
            self._hold(stage.image)

    def _hold(self, image: Image | None) -> None:
        """Keep an image until the build is over: nobody else knows yet that it is needed."""
        if image is not None:
            self._held.enter_context(self._parts.steps.holding(image))

    def _make_cache(self) -> BuildCache:
        """The cache as a stage finds it when it begins."""
        rules, store = self._rules.cache, self._parts.store
        if not rules.is_used:
            return NoCache()
        architecture = (rules.platform or imagearchive.host_platform()).architecture
        if not rules.sources:
            return LocalCache(store, architecture)
        sources = []
        for name in rules.sources:
            try:
                sources.append(self._parts.images.resolve(name))
            except errors.ProaError as error:
                log.warning("no such image for the build cache", error=error.message)
        return SourcesCache(store, self._parts.steps, sources, architecture, self._held)

    # --- earlier stages -----------------------------------------------------------------------------------

    def _named(self, name: str) -> Stage | None:
        return next((stage for stage in self._stages if name and stage.name == name.lower()), None)

    async def files_from(self, name: str) -> Tree:
        """See :class:`proad.engine.buildsteps.Sources`."""
        stage = self._named(name)
        if stage is None and name.isascii() and name.isdigit():
            stage = self._numbered(int(name))
        image = stage.image if stage is not None else await self._bases.get(name)
        self._hold(image)
        return self._parts.copies.files_of(image)

    def _numbered(self, number: int) -> Stage:
        if number == len(self._stages):
            raise errors.InvalidParameter("refers to current build stage")
        if number > len(self._stages):
            raise errors.InvalidParameter("index out of bounds")
        return self._stages[number]

    # --- what is said -------------------------------------------------------------------------------------

    def _begin_step(self, text: str) -> None:
        self._step += 1
        self._output.say(f"Step {self._step}/{self._plan.steps} : {text}")
        self._output.say("\n")

    def _tell_image(self, stage: Stage) -> None:
        self._output.say(f" ---> {stage.image.short_id if stage.image is not None else ''}\n")
