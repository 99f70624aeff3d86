"""YAML files of pipelines (and whatever else a model of core describes): what is wrong is told with its line and field."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from quantry.errors import FileProblem, FileRefused
from quantry_core.errors import InvalidInput
from quantry_core.jobs import (
    AdapterShare,
    AdapterSpec,
    CalibrationSpec,
    DistributedSpec,
    EngineConfig,
    GrpoMethod,
    Hyperparameters,
    ImportSpec,
    JobLimits,
    JobType,
    KtoMethod,
    RewardSpec,
    Scaling,
    SupervisedMethod,
    ValidationSpec,
)
from quantry_core.jobs.specs import SPECS
from quantry_core.pipelines import PipelineStep, PipelineSubmission, step_order
from quantry_core.rules import (
    AnalysisSpec,
    ErrorRateCompared,
    ErrorRateLimit,
    FeedbackCompared,
    LatencyCompared,
    LatencyLimit,
    PrometheusLimit,
    RuleName,
)
from quantry_core.sources import is_local
from quantry_core.strategies import (
    AbStrategy,
    BlueGreenStrategy,
    CanaryStep,
    CanaryStrategy,
    ImmediateStrategy,
    ShadowStrategy,
    StrategyName,
)
from quantry_core.training import TrainingMethod

MAX_FILE_BYTES = 1024**2
MAX_NODES = 100_000
"""Values of a file in all: aliases of aliases could make a small file endless."""

ModelT = TypeVar("ModelT", bound=BaseModel)
Location = Sequence[str | int]

_TRAINING = (
    AdapterSpec,
    AdapterShare,
    DistributedSpec,
    Hyperparameters,
    ValidationSpec,
    RewardSpec,
    SupervisedMethod,
    KtoMethod,
    GrpoMethod,
)
_RULES = (ErrorRateLimit, LatencyLimit, ErrorRateCompared, LatencyCompared, FeedbackCompared, PrometheusLimit)
_ROLLOUTS = (ImmediateStrategy, BlueGreenStrategy, CanaryStrategy, CanaryStep, AbStrategy, ShadowStrategy, AnalysisSpec, *_RULES, Scaling)
_KNOWN_FIELDS = sorted(
    {
        name
        for model in (PipelineSubmission, PipelineStep, JobLimits, CalibrationSpec, EngineConfig, *_TRAINING, *_ROLLOUTS, *SPECS.values())
        for name in model.model_fields
    }
)
_METHOD = "method"
"""The field of a fine-tune job whose own ``type`` says how it learns."""
_TAGS: dict[str, tuple[str, ...]] = {
    "type": tuple(JobType),
    "kind": ("job", "pipeline"),
    _METHOD: tuple(TrainingMethod),
    "name": tuple(StrategyName),
    "rule": tuple(rule for rule in RuleName if rule is not RuleName.SHADOW),
}
"""What may stand in the fields that tell members of a union apart. Pydantic puts it into locations; the file does not have it there."""


def read_pipeline(path: Path) -> PipelineSubmission:
    """Returns the pipeline that a YAML file describes. A relative ``source`` of an import is taken from the file's folder.

    Raises FileRefused with every problem that was found, and OSError if the file cannot be read.
    """
    node = _compose(path)
    submission = _validated(PipelineSubmission, path, node)
    try:
        step_order(submission)
    except InvalidInput as error:
        field = error.errors[0].field if error.errors else "steps"
        raise FileRefused(path, [_problem(node, field.split("."), error.detail)]) from None
    for step in submission.steps.values():
        if isinstance(step.spec, ImportSpec) and is_local(step.spec.source):
            step.spec = step.spec.model_copy(update={"source": str((path.parent / step.spec.source).resolve())})
    return submission


def read_yaml(model: type[ModelT], path: Path) -> ModelT:
    """Returns the thing that a YAML file describes. Raises FileRefused with every problem, and OSError if the file cannot be read."""
    return _validated(model, path, _compose(path))


def _compose(path: Path) -> yaml.Node:
    """Returns the file as a tree that knows its lines."""
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise FileRefused(path, [FileProblem(1, "", f"the file has more than {MAX_FILE_BYTES} bytes")])
    try:
        node = yaml.compose(content, Loader=yaml.SafeLoader)
        num_nodes = 0 if node is None else _num_nodes(node, {})
    except RecursionError:
        raise FileRefused(path, [FileProblem(1, "", "the file is nested too deeply, or an alias contains itself")]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = ", ".join(part for part in (error.context, error.problem) if part)
        raise FileRefused(path, [FileProblem(mark.line + 1 if mark else 1, "", f"this is no YAML: {words}")]) from None
    except yaml.YAMLError as error:
        raise FileRefused(path, [FileProblem(1, "", f"this is no YAML: {error}")]) from None
    if node is None:
        raise FileRefused(path, [FileProblem(1, "", "the file is empty")])
    if num_nodes > MAX_NODES:
        raise FileRefused(path, [FileProblem(1, "", f"with its aliases written out the file has more than {MAX_NODES} values")])
    if repeated := list(_repeated_keys(node, ())):
        raise FileRefused(path, repeated)
    return node


def _validated(model: type[ModelT], path: Path, node: yaml.Node) -> ModelT:
    loader = yaml.SafeLoader("")
    try:
        document = loader.construct_document(node)
    except (yaml.MarkedYAMLError, ValueError) as error:
        # ValueError: a timestamp that is none, such as the 31st of February.
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        words = (error.problem or "") if isinstance(error, yaml.MarkedYAMLError) else str(error)
        raise FileRefused(path, [FileProblem(mark.line + 1 if mark else 1, "", words)]) from None
    finally:
        loader.dispose()
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise FileRefused(path, [_problem(node, item["loc"], _words(item)) for item in error.errors()]) from None


def _num_nodes(node: yaml.Node, known: dict[int, int]) -> int:
    """Returns how many values a node has with its aliases written out; raises RecursionError if it contains itself."""
    if id(node) not in known:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_num_nodes(child, known) for child in children)
    return known[id(node)]


def _repeated_keys(node: yaml.Node, path: tuple[str, ...]) -> Iterator[FileProblem]:
    """Yields keys that stand twice in one mapping: YAML would silently take the last."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _repeated_keys(item, (*path, str(index)))
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                yield FileProblem(key.start_mark.line + 1, ".".join((*path, name)), "stands here for the second time")
            seen.add(name)
            yield from _repeated_keys(value, (*path, name))


def _problem(node: yaml.Node, location: Location, message: str) -> FileProblem:
    """Returns a problem with the line and dotted path of its place.

    Parts of a location that the file does not have are names of union members (``spec.quantize.base``) and are left out, but
    for the last one: a field that is missing.
    """
    line, fields = node.start_mark.line, []
    for number, part in enumerate(location, start=1):
        child = _child(node, part)
        if child is not None:
            line, node = child
            fields.append(str(part))
        elif number == len(location) and part != "[key]" and all(part not in tags for tags in _TAGS.values()):
            fields.append(str(part))
    return FileProblem(line + 1, ".".join(fields), message)


def _child(node: yaml.Node, part: str | int) -> tuple[int, yaml.Node] | None:
    """Returns the line and node of a key or index, or None if it is not there."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if str(key.value) == str(part):
                return key.start_mark.line, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line, node.value[part]
    return None


def _words(item: ErrorDetails) -> str:
    match item["type"]:
        case "extra_forbidden":
            close = difflib.get_close_matches(str(item["loc"][-1]), _KNOWN_FIELDS, n=1)
            return "there is no such field" + (f"; did you mean {close[0]}?" if close else "")
        case "missing":
            return "is missing"
        case "union_tag_not_found":
            return f"a {_discriminator(item)} is missing: one of {', '.join(_tags(item))}"
        case "union_tag_invalid":
            return f"the {_discriminator(item)} is none of {', '.join(_tags(item))}"
        case "model_type" | "dict_type" | "model_attributes_type":
            return "should be fields with values (key: value)"
        case _:
            return item["msg"].removeprefix("Value error, ")


def _discriminator(item: ErrorDetails) -> str:
    return str(item.get("ctx", {}).get("discriminator", "")).strip("'")


def _tags(item: ErrorDetails) -> tuple[str, ...]:
    return _TAGS[_METHOD if item["loc"][-1:] == (_METHOD,) else _discriminator(item)]
