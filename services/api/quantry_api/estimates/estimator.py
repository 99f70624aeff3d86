"""Estimates a job before it is submitted, and finds its queue."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from quantry_api.estimates.checkpoints import CheckpointLibrary, FactsUnknown
from quantry_api.estimates.origins import OfImport, OfVersion, Origin, find_origin, read_facts
from quantry_api.estimates.refusals import check_quantizable
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
from quantry_core.jobs import (
    DeploySpec,
    Estimate,
    EstimateFigures,
    EvaluateSpec,
    ImportSpec,
    JobSpec,
    JobSubmission,
    QuantizeSpec,
    Queue,
    QueueClass,
    RecalibrateSpec,
    Resource,
    resource_of,
    route,
)
from quantry_core.methods import DeviceKind
from quantry_core.servability import EngineName, not_served, schemes_of
from quantry_core.versions import Version, VersionKind
from quantry_store.database import Database
from quantry_store.transactions.inputs import SERVABLE_KINDS
from quantry_store.transactions.serving_recipe import with_recipe
from quantry_store.transactions.submit import Placement
from quantry_store.unit_of_work import UnitOfWork

CORRECTIONS_KEPT_S = 5.0
"""Earlier jobs are asked for anew after so long: they change slowly, and a submission should cost little."""

NO_OUTPUTS: Mapping[str, CheckpointFacts] = {}


class Preflight(NamedTuple):
    """What is told of a job beforehand."""

    placement: Placement
    output_facts: CheckpointFacts | None
    """Of the version that the job will make, for the jobs that use it; None if it makes none, or it is not known."""


class _Findings(NamedTuple):
    """What the database says."""

    main: Origin
    reference: Origin | None
    text_bytes: Sequence[int]


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
    ) -> None:
        self._database = database
        self._library = library
        self._queues = queues
        self._default_resource = default_resource
        self._engine_device = engine_device
        self._earlier: dict[str, _Kept] = {}

    async def preflight(
        self, project_id: str, submission: JobSubmission, *, outputs: Mapping[str, CheckpointFacts] = NO_OUTPUTS
    ) -> Preflight:
        """Returns where a job goes, its estimate, and what is known of the version that it will make.

        ``outputs`` are the facts of versions that other jobs of the same submission will make, by step or job id. An object
        store that is away leaves figures unknown and refuses nothing.

        Raises UnknownModel, UnknownVersion, UnknownDataset, UnknownJob, InvalidName, UnknownMethod, UnknownScheme, or
        InvalidInput for a version of a wrong kind, a method that cannot do its base or does not run on the job's resource, an
        unknown queue, or a job that is too large for every queue; NotServable for a version that no engine here can load.
        """
        estimate, output_facts = await self._estimate(project_id, submission, outputs)
        queue = self._queue(submission, estimate)
        return Preflight(Placement(queue, estimate.model_copy(update={"queue": queue})), output_facts)

    async def estimate(self, project_id: str, submission: JobSubmission) -> Estimate:
        """Returns a job's estimate; raises as ``preflight``, but for a job too large for every queue: a note says so."""
        estimate, _ = await self._estimate(project_id, submission, NO_OUTPUTS)
        try:
            queue = self._queue(submission, estimate)
        except InvalidInput as error:
            if submission.queue is not None:
                raise
            return estimate.model_copy(update={"notes": [*estimate.notes, error.detail]})
        return estimate.model_copy(update={"queue": queue})

    async def _estimate(
        self, project_id: str, submission: JobSubmission, outputs: Mapping[str, CheckpointFacts]
    ) -> tuple[Estimate, CheckpointFacts | None]:
        spec = submission.spec
        resource = self._resource(submission)
        key = estimate_key(spec, resource)
        earlier = self._kept(key)
        if isinstance(spec, ImportSpec) and earlier is not None:
            # Nothing in the database to ask for: the commonest job of a load test, and the first of every pipeline.
            findings = _Findings(OfImport(spec.source), None, ())
        else:
            async with self._database.begin() as uow:
                findings = await self._find(uow, project_id, spec, outputs)
                if earlier is None:
                    earlier = self._keep(key, await uow.estimates.earlier(key))
        notes: list[str] = []
        main = await self._read(findings.main, notes)
        reference = None if findings.reference is None else await self._read(findings.reference, notes)
        if isinstance(spec, QuantizeSpec):
            check_quantizable(spec, main, resource)
        uncorrected = estimate_figures(spec, Given(main, reference, findings.text_bytes), resource)
        factors = corrections(earlier)
        estimate = Estimate(
            **corrected(uncorrected, factors).model_dump(),
            key=key,
            uncorrected=uncorrected,
            corrections={name: factors.get(name, 1.0) for name in EstimateFigures.model_fields},
            num_earlier_jobs=len(earlier),
            notes=notes,
        )
        return estimate, _output_facts(spec, main)

    async def _find(self, uow: UnitOfWork, project_id: str, spec: JobSpec, outputs: Mapping[str, CheckpointFacts]) -> _Findings:
        async def origin(ref: str, kinds: frozenset[VersionKind] | None) -> Origin:
            return await find_origin(uow, self._library, project_id, ref, kinds=kinds, outputs=outputs)

        match spec:
            case ImportSpec():
                return _Findings(OfImport(spec.source), None, ())
            case QuantizeSpec():
                main = await origin(spec.base, frozenset({VersionKind.MASTER}))
                refs = [] if spec.calibration is None else spec.calibration.datasets
                texts = [await uow.datasets.resolve(project_id, ref) for ref in refs]
                return _Findings(main, None, [text.size_bytes for text in texts])
            case RecalibrateSpec():
                # The recipe is found at submission; until then the version that serves stands for what is made.
                serving = await with_recipe(uow, project_id, spec)
                ref = serving.serving if isinstance(serving, RecalibrateSpec) else None
                return _Findings(await origin(ref or "", None), None, ())
            case EvaluateSpec():
                main = await origin(spec.version, None)
                reference = None if spec.against is None else await origin(spec.against, None)
                texts = [await uow.datasets.resolve(project_id, ref) for ref in spec.corpora]
                return _Findings(main, reference, [text.size_bytes for text in texts])
            case DeploySpec():
                main = await origin(spec.version, SERVABLE_KINDS)
                if isinstance(main, OfVersion):
                    self._check_servable(main.version, spec)
                return _Findings(main, None, ())

    def _check_servable(self, version: Version, spec: DeploySpec) -> None:
        engine = EngineName(spec.engine.engine)
        sentence = not_served(version.format, schemes_of(version.scheme, version.recipe), engine, self._engine_device)
        if sentence is not None:
            raise NotServable(f"{version.ref}: {sentence}", errors=[FieldProblem(field="spec.version", message=sentence)])

    async def _read(self, origin: Origin, notes: list[str]) -> CheckpointFacts | None:
        try:
            return await read_facts(self._library, origin)
        except FactsUnknown as unknown:
            notes.append(str(unknown))
            return None

    def _resource(self, submission: JobSubmission) -> Resource:
        if isinstance(submission.spec, ImportSpec):
            return Resource.CPU
        if submission.queue is not None:
            return resource_of(submission.queue)
        return submission.resource or self._default_resource

    def _queue(self, submission: JobSubmission, estimate: Estimate) -> Queue | None:
        """Returns a job's queue, None for a deploy job; raises InvalidInput if there is none for it."""
        if isinstance(submission.spec, DeploySpec):
            if submission.queue is not None:
                raise _refusal("a deploy job goes to no queue: the rollout controller runs it")
            return None
        if submission.queue is not None and submission.resource not in {None, resource_of(submission.queue)}:
            raise _refusal(f"the queue {submission.queue} has no {submission.resource}; name one of the two")
        return route(
            self._queues,
            self._resource(submission),
            ram_bytes=estimate.peak_ram_bytes,
            vram_bytes=estimate.peak_vram_bytes,
            queue=submission.queue,
        )

    def _kept(self, key: str) -> Sequence[EarlierJob] | None:
        kept = self._earlier.get(key)
        return kept.jobs if kept is not None and asyncio.get_running_loop().time() < kept.until else None

    def _keep(self, key: str, jobs: Sequence[EarlierJob]) -> Sequence[EarlierJob]:
        # Keys are few: types by methods by resources.
        self._earlier[key] = _Kept(jobs, asyncio.get_running_loop().time() + CORRECTIONS_KEPT_S)
        return jobs


def _output_facts(spec: JobSpec, main: CheckpointFacts | None) -> CheckpointFacts | None:
    if main is None:
        return None
    if isinstance(spec, QuantizeSpec):
        return quantized_facts(main, spec)
    return main if isinstance(spec, ImportSpec) else None


def _refusal(sentence: str) -> InvalidInput:
    return InvalidInput(sentence, errors=[FieldProblem(field="queue", message=sentence)])
