"""Trio-flavoured. The steps of one stage of a build: each instruction looked up in the cache, else done, and
the image that comes of it.

    expand the variables -> what would the step be known by -> in the cache? -> do it -> image

Steps and their words are those of Docker's classic builder (moby: builder/dockerfile/dispatchers.go). What
only changes the configuration makes an image at once; Docker would create a container for it that it never
starts.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

import trio
from msgspec.structs import replace

from proad.engine.buildcache import BuildCache
from proad.engine.buildcopy import BuildCopies
from proad.engine.buildoutput import BuildOutput
from proad.engine.buildrun import BuildRuns
from proad.engine.buildsources import Downloads
from proad.engine.stepimages import Step, StepImages
from proad.host.buildtrees import Tree
from proad.model import errors
from proad.model.buildargs import BuildArgs
from proad.model.configure import configure, describe, shell_of
from proad.model.container import Container
from proad.model.expansion import expand
from proad.model.hostconfig import ContainerConfig, Healthcheck, HostConfig
from proad.model.image import Image, ImageConfig
from proad.model.instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    HealthcheckInstruction,
    Instruction,
    Maintainer,
    Run,
    Workdir,
)

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NOP = "#(nop) "
_CONTAINER_FIELDS = frozenset(ContainerConfig.__struct_fields__) & frozenset(ImageConfig.__struct_fields__)


class Sources(Protocol):
    """Where COPY --from copies from."""

    async def files_from(self, name: str) -> Tree:
        """The files of an earlier stage, by name or number, or of an image.

        Raises:
            errors.ProaError: there is none.
        """


@dataclass
class Stage:
    """One stage under way. ``image`` None is ``FROM scratch`` and nothing done yet."""

    name: str
    image: Image | None
    config: ImageConfig
    arguments: BuildArgs
    author: str = ""
    has_cmd: bool = False

    def forget_triggers(self) -> None:
        """What the base asks of builds is not asked of those on top of this one."""
        self.config = replace(self.config, on_build=None)


@dataclass(frozen=True)
class StepRules:
    """What the request says of all steps."""

    host_config: HostConfig
    remove: bool
    force_remove: bool
    escape: str


class Steps:
    """Does the steps of one build."""

    def __init__(
        self,
        runs: BuildRuns,
        copies: BuildCopies,
        images: StepImages,
        output: BuildOutput,
        rules: StepRules,
        context: Tree | None,
        downloads: Downloads,
        sources: Sources,
        held: ExitStack,
        nursery: trio.Nursery,
    ) -> None:
        self._runs = runs
        self._copies = copies
        self._images = images
        self._output = output
        self._rules = rules
        self._context = context
        self._downloads = downloads
        self._sources = sources
        self._held = held
        self._nursery = nursery
        self.containers: set[str] = set()
        """Those of steps, as long as they are there."""
        self._leaving: set[str] = set()

    async def do(self, stage: Stage, cache: BuildCache, instruction: Instruction) -> None:
        """Do one instruction: the stage's image and configuration are those after it.

        Raises:
            errors.ProaError: it fails; in Docker's words.
        """
        try:
            variables = stage.arguments.variables(stage.config.env)
            expanded = expand(instruction, variables, self._rules.escape)
            match expanded:
                case Run():
                    await self._run(stage, cache, expanded)
                case Copy() | Add():
                    await self._copy(stage, cache, expanded)
                case Workdir():
                    await self._workdir(stage, cache, expanded)
                case _:
                    await self._configure(stage, cache, expanded)
        except errors.ProaError:
            if self._rules.force_remove:
                await self._remove_failed()
            raise

    # --- configuration ------------------------------------------------------------------------------------

    async def _configure(self, stage: Stage, cache: BuildCache, instruction: Instruction) -> None:
        match instruction:
            case Arg():
                stage.arguments = stage.arguments.with_argument(instruction)
            case Maintainer():
                stage.author = instruction.name
            case HealthcheckInstruction():
                self._tell_overridden(stage)
        stage.config = configure(instruction, stage.config, has_cmd=stage.has_cmd)
        stage.has_cmd |= isinstance(instruction, Cmd) and bool(instruction.command.words)
        comment = describe(instruction, stage.config)
        built_with = replace(stage.config, cmd=(*shell_of(stage.config), _NOP, comment))
        if await self._is_cached(stage, cache, built_with):
            return
        stage.image = await self._images.make(self._step(stage, built_with))

    def _tell_overridden(self, stage: Stage) -> None:
        before = stage.config.healthcheck
        if before is not None and before.test and before.test[0] != "NONE":
            self._output.say(f"Note: overriding previous HEALTHCHECK: [{' '.join(before.test)}]\n")

    async def _workdir(self, stage: Stage, cache: BuildCache, instruction: Workdir) -> None:
        stage.config = configure(instruction, stage.config)
        path = stage.config.working_dir
        built_with = replace(stage.config, cmd=(*shell_of(stage.config), f"{_NOP}WORKDIR {path}"))
        if not await self._is_cached(stage, cache, built_with):
            stage.image = await self._copies.make_directory(path, self._step(stage, built_with))

    # --- files --------------------------------------------------------------------------------------------

    async def _copy(self, stage: Stage, cache: BuildCache, instruction: Copy | Add) -> None:
        source = self._context
        if isinstance(instruction, Copy) and instruction.from_:
            try:
                source = await self._sources.files_from(instruction.from_)
            except errors.ProaError as error:
                raise type(error)(f"invalid from flag value {instruction.from_}: {error.message}") from error
        copied = await self._copies.find(instruction, source, stage.config.working_dir, self._downloads)
        built_with = replace(stage.config, cmd=(*shell_of(stage.config), f"{_NOP}{copied.comment}"))
        if not await self._is_cached(stage, cache, built_with):
            stage.image = await self._copies.copy(copied, self._step(stage, built_with))

    # --- commands -----------------------------------------------------------------------------------------

    async def _run(self, stage: Stage, cache: BuildCache, instruction: Run) -> None:
        command = instruction.command.argv(shell_of(stage.config))
        arguments = stage.arguments.for_run(stage.config.env)
        known_as = command
        if arguments:
            told = stage.arguments.for_history(stage.config.env)
            known_as = (f"|{len(told)}", *told, *command)
        built_with = replace(stage.config, cmd=known_as, entrypoint=None)
        if await self._is_cached(stage, cache, built_with):
            return
        if stage.image is None:
            raise errors.InvalidParameter(
                f'exec: "{command[0]}": stat {command[0]}: no such file or directory'
            )
        config = replace(
            stage.config,
            cmd=command,
            entrypoint=("",),
            env=(*stage.config.env, *arguments),
            healthcheck=Healthcheck(test=("NONE",)),
            on_build=None,
        )
        container = await self._create(stage.image, config)
        await self._runs.run(container, self._output)
        step = self._step(stage, built_with)
        with self._images.kept(step.parent):
            stage.image = await self._runs.image_of(
                container, step, self._images, may_take=self._rules.remove
            )
        if self._rules.remove:
            self._leaving.add(container.id)
            self._nursery.start_soon(self._remove, container.id)
            self._output.say(f"Removing intermediate container {container.short_id}\n")

    async def _create(self, image: Image, config: ImageConfig) -> Container:
        fields = {name: getattr(config, name) for name in _CONTAINER_FIELDS}
        container = await self._runs.create(
            ContainerConfig(**{**fields, "image": image.id}), self._rules.host_config, self._output
        )
        self.containers.add(container.id)
        return container

    async def _remove(self, container_id: str) -> None:
        try:
            await self._runs.remove(container_id)
        except errors.ProaError as error:
            self._output.say(f"Error removing intermediate container {container_id[:12]}: {error.message}\n")
            return
        self.containers.discard(container_id)

    async def _remove_failed(self) -> None:
        for container_id in self.containers - self._leaving:
            await self._remove(container_id)
            self._output.say(f"Removing intermediate container {container_id[:12]}\n")

    async def remove_containers(self) -> None:
        """Remove what is there of containers, whatever they do."""
        for container_id in list(self.containers):
            await self._remove(container_id)

    # --- all ----------------------------------------------------------------------------------------------

    async def _is_cached(self, stage: Stage, cache: BuildCache, built_with: ImageConfig) -> bool:
        """Take the step's image from the cache; whether it was there."""
        found = await cache.find(stage.image, built_with)
        if found is None:
            return False
        self._output.say(" ---> Using cache\n")
        stage.image = found
        return True

    def _step(self, stage: Stage, built_with: ImageConfig) -> Step:
        return Step(stage.image, stage.config, built_with, stage.author, self._held)


def begin_stage(name: str, image: Image | None, arguments: BuildArgs) -> Stage:
    """A stage that nothing is done of yet; commands find a PATH if the image has none."""
    config = image.config if image is not None else ImageConfig()
    if not any(variable.startswith("PATH=") for variable in config.env):
        config = replace(config, env=(*config.env, DEFAULT_PATH))
    return Stage(name, image, config, arguments.new_stage())
