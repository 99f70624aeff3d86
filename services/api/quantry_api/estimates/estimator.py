"""Estimates a job before it is submitted, and finds its queue."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from quantry_api.estimates.checkpoints import CheckpointLibrary, FactsUnknown
from quantry_api.estimates.fitting import check_fits
from quantry_api.estimates.lineage import repeated
from quantry_api.estimates.origins import (
    OfImport,
    OfVersion,
    Origin,
    Output,
    find_merge_base,
    find_origin,
    find_trained,
    read_facts,
    recipe_of,
    stored_as,
)
from quantry_api.estimates.refusals import check_context, check_quantizable, devices_of
from quantry_api.estimates.sharing import check_shared
from quantry_core.engines import engine_of
from quantry_core.errors import FieldProblem, InvalidInput, NotServable
from quantry_core.estimates import (
    CheckpointFacts,
    EarlierJob,
    Given,
    corrected,
    corrections,
    estimate_figures,
    estimate_key,
    quantized_facts,
)
from quantry_core.estimates.training import merged_spec
from quantry_core.estimates.training_minutes import tokens_text
from quantry_core.jobs import (
    DeploySpec,
    Estimate,
    EstimateFigures,
    EvaluateSpec,
    FinetuneSpec,
    ImportSpec,
    JobSpec,
    JobSubmission,
    MergeSpec,
    QuantizationRecipe,
    QuantizeSpec,
    Queue,
    QueueClass,
    RecalibrateSpec,
    Resource,
    resource_of,
    route,
)
from quantry_core.methods import DeviceKind, Format
from quantry_core.servability import not_served
from quantry_core.training.bases import SIXTEEN_BIT_KINDS
from quantry_core.training.strategies import num_gpus_of
from quantry_core.versions import VersionKind
from quantry_store.database import Database
from quantry_store.transactions.inputs import SERVABLE_KINDS
from quantry_store.transactions.serving_recipe import with_recipe
from quantry_store.transactions.submit import Placement
from quantry_store.unit_of_work import UnitOfWork

CORRECTIONS_KEPT_S = 5.0
"""Earlier jobs are asked for anew after so long: they change slowly, and a submission should cost little."""

NO_OUTPUTS: Mapping[str, Output] = {}


class Preflight(NamedTuple):
    """What is told of a job beforehand."""

    placement: Placement
    output: Output
    """What is known of the version that the job will make, for the jobs that use it."""


class _Findings(NamedTuple):
    """What the database says."""

    spec: JobSpec
    """A recalibration's with its recipe."""
    main: Origin
    reference: Origin | None
    text_bytes: Sequence[int]
    """Of what versions are scored on."""
    training_bytes: int | None = None
    """Of what is learned from."""
    validation_bytes: int | None = None
    """Of the file that is named for validation."""


class _Weighed(NamedTuple):
    """What is told of a job before its queue is."""

    estimate: Estimate
    resource: Resource
    main: CheckpointFacts | None
    output: Output


class _Kept(NamedTuple):
    jobs: Sequence[EarlierJob]
    until: float


class Estimator:
    """Preflight of jobs. Lives in one event loop."""

    def __init__(
        self,
        database: Database,
        library: CheckpointLibrary,
        *,
        queues: Sequence[QueueClass],
        default_resource: Resource,
        engine_device: DeviceKind | None = None,
        has_deepspeed: bool = False,
    ) -> None:
        self._database = database
        self._library = library
        self._queues = queues
        self._default_resource = default_resource
        self._engine_device = engine_device
        self._has_deepspeed = has_deepspeed
        self._earlier: dict[str, _Kept] = {}

    async def preflight(self, project_id: str, submission: JobSubmission, *, outputs: Mapping[str, Output] = NO_OUTPUTS) -> Preflight:
        """Returns where a job goes, its estimate, and what is known of the version that it will make.

        ``outputs`` are what other jobs of the same submission will make, by step or job id. An object store that is away leaves
        figures unknown, and refuses nothing that only headers tell.

        Raises UnknownModel, UnknownVersion, UnknownDataset, UnknownJob, UnknownDeployment, InvalidName, UnknownMethod,
        UnknownScheme, or InvalidInput for a version of a wrong kind, what a method cannot do to its base, one that does not run on
        the job's resource, an unknown queue, or a job that is too large for every queue; NotServable for a version that no engine
        here can load.
        """
        weighed = await self._weigh(project_id, submission, outputs)
        queue = self._queue(submission, weighed)
        return Preflight(Placement(queue, weighed.estimate.model_copy(update={"queue": queue})), weighed.output)

    async def estimate(self, project_id: str, submission: JobSubmission) -> Estimate:
        """Returns a job's estimate; raises as ``preflight``, but for a job too large for every queue: a note says so."""
        weighed = await self._weigh(project_id, submission, NO_OUTPUTS)
        estimate = weighed.estimate
        try:
            queue = self._queue(submission, weighed)
        except InvalidInput as error:
            if any(problem.field == "queue" for problem in error.errors):
                raise
            return estimate.model_copy(update={"notes": [*estimate.notes, error.detail]})
        return estimate.model_copy(update={"queue": queue})

    async def _weigh(self, project_id: str, submission: JobSubmission, outputs: Mapping[str, Output]) -> _Weighed:
        spec = submission.spec
        earlier = self._kept(estimate_key(spec, Resource.CPU)) if isinstance(spec, ImportSpec) else None
        if isinstance(spec, ImportSpec) and earlier is not None:
            # Nothing in the database to ask for: the commonest job of a load test, and the first of every pipeline.
            findings = _Findings(spec, OfImport(spec.source), None, ())
            resource, key = Resource.CPU, estimate_key(spec, Resource.CPU)
        else:
            async with self._database.begin() as uow:
                findings = await self._find(uow, project_id, spec, outputs)
                resource = self._resource(submission, findings.spec)
                key = estimate_key(findings.spec, resource)
                earlier = self._kept(key)
                if earlier is None:
                    earlier = self._keep(key, await uow.estimates.earlier(key))
        stored = stored_as(findings.main)
        is_packed = stored is not None and stored.format is Format.BITSANDBYTES
        check_shared(submission, resource, self._queues, is_packed=is_packed, has_deepspeed=self._has_deepspeed)
        notes: list[str] = []
        if isinstance(findings.spec, FinetuneSpec) and findings.training_bytes is not None:
            notes.append(tokens_text(findings.spec, findings.training_bytes))
        main = await self._read(findings.main, notes)
        reference = None if findings.reference is None else await self._read(findings.reference, notes)
        given = Given(main, reference, findings.text_bytes, findings.training_bytes, findings.validation_bytes)
        weigh = partial(_figures, findings.spec, given, resource)
        # In a thread: tens of thousands of modules, and patterns that a caller chose, take a while, and others are served meanwhile.
        is_planned = (recipe_of(findings.spec) or _follow_up(findings.spec)) is not None
        uncorrected, facts = await asyncio.to_thread(weigh) if is_planned else weigh()
        factors = corrections(earlier)
        estimate = Estimate(
            **corrected(uncorrected, factors).model_dump(),
            key=key,
            uncorrected=uncorrected,
            corrections={name: factors.get(name, 1.0) for name in EstimateFigures.model_fields},
            num_earlier_jobs=len(earlier),
            notes=notes,
        )
        return _Weighed(estimate, resource, main, Output(findings.spec, facts))

    async def _find(self, uow: UnitOfWork, project_id: str, spec: JobSpec, outputs: Mapping[str, Output]) -> _Findings:
        async def origin(ref: str, kinds: frozenset[VersionKind] | None, first: VersionKind | None = None) -> Origin:
            return await find_origin(uow, self._library, project_id, ref, kinds=kinds, first=first, outputs=outputs)

        async def text_bytes(refs: Iterable[str]) -> list[int]:
            """Raises UnknownDataset, too."""
            return [(await uow.datasets.resolve(project_id, ref)).size_bytes for ref in refs]

        match spec:
            case ImportSpec():
                findings = _Findings(spec, OfImport(spec.source), None, ())
            case QuantizeSpec():
                main = await origin(spec.base, SIXTEEN_BIT_KINDS, VersionKind.MASTER)
                await text_bytes([] if spec.calibration is None else spec.calibration.datasets)
                findings = _Findings(spec, main, None, ())
            case FinetuneSpec():
                main = await find_trained(uow, self._library, project_id, spec, outputs=outputs)
                [learned] = await text_bytes([spec.training_file])
                measured = await text_bytes([] if spec.validation_file is None else [spec.validation_file])
                findings = _Findings(spec, main, None, await text_bytes(spec.corpora), learned, next(iter(measured), None))
            case MergeSpec():
                main = await find_merge_base(uow, self._library, project_id, spec.adapters[0].adapter, outputs=outputs)
                await text_bytes([] if spec.validation_file is None else [spec.validation_file])
                findings = _Findings(await repeated(uow, project_id, spec), main, None, await text_bytes(spec.corpora))
            case RecalibrateSpec():
                # The recipe is found at submission once more, in the transaction that writes the job.
                found = await with_recipe(uow, project_id, spec)
                if not isinstance(found, RecalibrateSpec) or found.recipe is None:
                    raise TypeError(f"a recalibration was given no recipe, but became a {found.type} job")
                await text_bytes(found.datasets)
                main = await origin(found.recipe.base, SIXTEEN_BIT_KINDS)
                findings = _Findings(found, main, None, await text_bytes(found.corpora))
            case EvaluateSpec():
                main = await origin(spec.version, None)
                reference = None if spec.against is None else await origin(spec.against, None)
                findings = _Findings(spec, main, reference, await text_bytes(spec.corpora))
            case DeploySpec():
                main = await origin(spec.version, SERVABLE_KINDS)
                self._check_servable(main, spec)
                findings = _Findings(spec, main, None, ())
        return findings

    def _check_servable(self, origin: Origin, spec: DeploySpec) -> None:
        stored = stored_as(origin)
        if stored is None:
            return
        # Where servers run that someone else started is not known here.
        device = None if spec.servers else self._engine_device
        sentence = not_served(stored.format, stored.schemes, engine_of(spec.engine.engine), device)
        if sentence is not None:
            ref = origin.version.ref if isinstance(origin, OfVersion) else spec.version
            raise NotServable(f"{ref}: {sentence}", errors=[FieldProblem(field="spec.version", message=sentence)])

    async def _read(self, origin: Origin, notes: list[str]) -> CheckpointFacts | None:
        try:
            return await read_facts(self._library, origin)
        except FactsUnknown as unknown:
            notes.append(str(unknown))
            return None

    def _resource(self, submission: JobSubmission, spec: JobSpec) -> Resource:
        if isinstance(spec, ImportSpec):
            return Resource.CPU
        if submission.queue is not None:
            return resource_of(submission.queue)
        if submission.resource is not None:
            return submission.resource
        # No GPU is held for what leaves it idle. What wants one says so itself: it may be a scarce one.
        recipe = recipe_of(spec)
        return Resource.CPU if recipe is not None and devices_of(recipe) == (DeviceKind.CPU,) else self._default_resource

    def _queue(self, submission: JobSubmission, weighed: _Weighed) -> Queue | None:
        """Returns a job's queue, None for a deploy job; raises InvalidInput if there is none for it."""
        if isinstance(submission.spec, DeploySpec):
            if submission.queue is not None:
                raise _refusal("queue", "a deploy job goes to no queue: the rollout controller runs it")
            return None
        if weighed.main is not None:
            check_fits(submission, weighed.main, weighed.estimate, weighed.resource, self._queues)
        if submission.queue is not None and submission.resource not in {None, resource_of(submission.queue)}:
            raise _refusal("queue", f"the queue {submission.queue} has no {submission.resource}; name one of the two")
        return route(
            self._queues,
            weighed.resource,
            ram_bytes=weighed.estimate.peak_ram_bytes,
            vram_bytes=weighed.estimate.peak_vram_bytes,
            num_gpus=num_gpus_of(submission.spec),
            queue=submission.queue,
        )

    def _kept(self, key: str) -> Sequence[EarlierJob] | None:
        kept = self._earlier.get(key)
        return kept.jobs if kept is not None and asyncio.get_running_loop().time() < kept.until else None

    def _keep(self, key: str, jobs: Sequence[EarlierJob]) -> Sequence[EarlierJob]:
        # Keys are few: types by methods by resources.
        self._earlier[key] = _Kept(jobs, asyncio.get_running_loop().time() + CORRECTIONS_KEPT_S)
        return jobs


def _figures(spec: JobSpec, given: Given, resource: Resource) -> tuple[EstimateFigures, CheckpointFacts | None]:
    """Returns a job's figures, uncorrected, and the facts of what it will make; raises what speaks against it."""
    recipe = recipe_of(spec)
    if recipe is not None:
        try:
            check_quantizable(recipe, given.main, resource)
        except InvalidInput as error:
            if isinstance(spec, RecalibrateSpec):
                # The fields that are named are the recipe's, which nobody gave.
                field = "spec.serving" if spec.deployment is None else "spec.deployment"
                raise _refusal(field, f"the recipe of what serves cannot be repeated: {error.detail}") from error
            raise
    follow_up = _follow_up(spec)
    if follow_up is not None:
        # It follows to the merge's queue, and what no GPU works on runs there too.
        runs_on = Resource.CPU if devices_of(follow_up) == (DeviceKind.CPU,) else resource
        try:
            check_quantizable(follow_up, given.main, runs_on)
        except InvalidInput as error:
            raise _refusal("spec.quantize", f"what is merged could not be quantized so: {error.detail}") from error
    if isinstance(spec, FinetuneSpec) and given.main is not None:
        check_context(spec, given.main)
    figures = estimate_figures(spec, given, resource)
    if given.main is None:
        return figures, None
    if recipe is not None:
        return figures, quantized_facts(given.main, recipe)
    return figures, given.main if isinstance(spec, ImportSpec | FinetuneSpec | MergeSpec) else None


def _follow_up(spec: JobSpec) -> QuantizeSpec | None:
    """Returns the job that a merge leads to; None for others, and where the recipe is not known yet."""
    return merged_spec(spec.quantize) if isinstance(spec, MergeSpec) and isinstance(spec.quantize, QuantizationRecipe) else None


def _refusal(field: str, sentence: str) -> InvalidInput:
    return InvalidInput(sentence, errors=[FieldProblem(field=field, message=sentence)])
