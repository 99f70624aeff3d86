"""Pipelines from YAML: what is right is read, and what is wrong is told with its line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantry import FileProblem, FileRefused, read_pipeline
from quantry.yaml_files import read_yaml
from quantry_core.jobs import EvaluateSpec, ImportSpec, QuantizeSpec
from quantry_core.pipelines import step_order
from quantry_core.schedules import ScheduleSubmission

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "pipelines"

GOOD = """
name: compare
labels: {team: search}
steps:
  take:
    spec: {type: import, model: bard, source: ../models/bard}
  small:
    priority: 2
    limits: {time_s: 3600}
    not_before: 2026-12-24T17:00:00Z
    spec:
      type: quantize
      base: output:take
      group_size: 32
      calibration: &texts
        datasets: [plays]
  large:
    spec:
      type: quantize
      base: output:take
      calibration:
        <<: *texts
        seed: 3
  measure:
    needs: [large]
    spec: {type: evaluate, version: output:small, against: output:take, corpora: [plays]}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "pipeline.yaml"
    path.write_text(text)
    return path


def problems(folder: Path, text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(FileRefused) as refused:
        read_pipeline(write(folder, text))
    return [(problem.line, problem.field, problem.message) for problem in refused.value.problems]


def test_a_good_file(tmp_path: Path) -> None:
    pipeline = read_pipeline(write(tmp_path, GOOD))
    assert step_order(pipeline)[0] == "take"
    assert set(step_order(pipeline)[-1:]) == {"measure"}
    small, large = pipeline.steps["small"], pipeline.steps["large"]
    assert isinstance(small.spec, QuantizeSpec)
    assert isinstance(large.spec, QuantizeSpec)
    assert (small.priority, small.limits.time_s, small.spec.group_size) == (2, 3600, 32)
    assert small.not_before is not None and small.not_before.isoformat() == "2026-12-24T17:00:00+00:00"
    assert large.spec.calibration is not None
    assert (large.spec.calibration.datasets, large.spec.calibration.seed) == (["plays"], 3)


def test_a_relative_source_is_taken_from_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "pipelines").mkdir()
    pipeline = read_pipeline(write(tmp_path / "pipelines", GOOD))
    spec = pipeline.steps["take"].spec
    assert isinstance(spec, ImportSpec)
    assert spec.source == str(tmp_path / "models" / "bard")


@pytest.mark.parametrize("source", ["/abs/bard", "hf:owner/name@main"])
def test_other_sources_are_left_alone(tmp_path: Path, source: str) -> None:
    spec = read_pipeline(write(tmp_path, GOOD.replace("../models/bard", source))).steps["take"].spec
    assert isinstance(spec, ImportSpec)
    assert spec.source == source


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_are_good(path: Path) -> None:
    pipeline = read_pipeline(path)
    for step in pipeline.steps.values():
        if isinstance(step.spec, ImportSpec):
            assert (Path(step.spec.source) / "config.json").is_file()
        if isinstance(step.spec, EvaluateSpec):
            assert step.spec.corpora


def test_there_are_examples() -> None:
    assert list(EXAMPLES.glob("*.yaml"))


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("priority: 2", "prority: 2", (8, "steps.small.prority"), "there is no such field; did you mean priority?"),
        ("      group_size: 32", "      groupsize: 32", (14, "steps.small.spec.groupsize"), "did you mean group_size?"),
        ("priority: 2", "priority: 12", (8, "steps.small.priority"), "less than or equal to 9"),
        ("time_s: 3600", "time_s: 0", (9, "steps.small.limits.time_s"), "greater than or equal to 1"),
        ("corpora: [plays]", "corpora: []", (26, "steps.measure.spec"), "nothing is asked for"),
        (
            "type: evaluate",
            "type: bake",
            (26, "steps.measure.spec"),
            "the type is none of import, quantize, finetune, merge, evaluate,",
        ),
        ("type: evaluate, ", "", (26, "steps.measure.spec"), "a type is missing"),
        ("version: output:small, ", "", (26, "steps.measure.spec.version"), "is missing"),
        ("  measure:", "  Measure It:", (24, "steps.Measure It"), "lower-case"),
        ("needs: [large]", "needs: [huge]", (24, "steps.measure"), "needs 'huge', which is no step"),
        ("base: output:take\n      group", "base: output:nothing\n      group", (7, "steps.small"), "'nothing', which is no step"),
        ("{team: search}", "{team: 7}", (3, "labels.team"), "string"),
        ("{team: search}", "{team: two words}", (3, "labels"), "'two words' cannot be the value"),
        ("name: compare", "steps: {}", (4, "steps"), "second time"),
        ("seed: 3", "seed: 3\n        seed: 4", (24, "steps.large.spec.calibration.seed"), "second time"),
        ("name: compare", "name: [compare", (3, ""), "this is no YAML"),
        ("name: compare", "name: !!python/object/apply:os.system [ls]", (2, ""), "could not determine a constructor"),
        ("2026-12-24T17:00:00Z", "2026-02-31", (1, ""), "day is out of range"),
        ("2026-12-24T17:00:00Z", "2026-12-24T17:00:00", (10, "steps.small.not_before"), "timezone"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, old: str, new: str, place: tuple[int, str], words: str) -> None:
    assert old in GOOD
    found = problems(tmp_path, GOOD.replace(old, new, 1))
    assert len(found) == 1
    assert found[0][:2] == place
    assert words in found[0][2]


def test_a_loop_is_named(tmp_path: Path) -> None:
    [(_, _, message)] = problems(tmp_path, GOOD.replace("    priority: 2", "    needs: [measure]"))
    assert "loop" in message
    assert "small -> measure -> small" in message or "measure -> small -> measure" in message


def test_every_problem_is_told_at_once_with_the_files_name(tmp_path: Path) -> None:
    text = GOOD.replace("priority: 2", "priority: 12").replace("seed: 3", "seed: -1")
    path = write(tmp_path, text)
    with pytest.raises(FileRefused) as refused:
        read_pipeline(path)
    lines = str(refused.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{path}:8", f"{path}:23"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("# nothing\n", "empty"),
        ("just words", "key: value"),
        ("- a\n- b\n", "key: value"),
        ("a: &a [*a]\n", "contains itself"),
        ("\0", "no YAML"),
        ("a: b\n---\nc: d\n", "single document"),
        ("[" * 3000, "nested too deeply"),
        ("metadata:\n" + "".join(f"  k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 10) if n else '1'}]\n" for n in range(7)), "values"),
    ],
)
def test_what_is_no_pipeline_at_all(tmp_path: Path, text: str, words: str) -> None:
    assert any(words in message for _, _, message in problems(tmp_path, text))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(FileRefused, match="no YAML"):
        read_pipeline(path)


def test_what_tells_a_union_apart_is_told_by_its_name(tmp_path: Path) -> None:
    head = 'name: nightly\ncron: "0 3 * * *"\n'
    for template, words in (("{}", "a kind is missing: one of job, pipeline"), ("{kind: x}", "the kind is none of job, pipeline")):
        with pytest.raises(FileRefused) as refused:
            read_yaml(ScheduleSubmission, write(tmp_path, f"{head}template: {template}\n"))
        assert refused.value.problems == [FileProblem(3, "template", words)]
    missing = "template: {kind: job, submission: {spec: {type: import, model: bard}}}\n"
    with pytest.raises(FileRefused, match=r":3: template\.submission\.spec\.source: is missing"):
        read_yaml(ScheduleSubmission, write(tmp_path, head + missing))


TRAINING = """\
name: train
steps:
  train:
    spec:
      type: finetune
      model: bard@1
      training_file: lessons
      method: {type: dpo, beta: 0.2}
      adapter: {kind: lora, rank: 8}
      hyperparameters: {learning_rate: 1.0e-4}
  merge:
    spec:
      type: merge
      adapters: [{adapter: "output:train"}]
      quantize: null
  small:
    spec: {type: quantize, base: "output:merge", method: rtn}
"""


def test_a_pipeline_trains_merges_and_quantizes(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(TRAINING)
    submission = read_pipeline(path)
    assert step_order(submission) == ["train", "merge", "small"]


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("type: dpo, beta: 0.2", "type: ppo", (8, "steps.train.spec.method"), "none of supervised, dpo, kto, orpo, grpo, rloo"),
        ("type: dpo, beta: 0.2", "beta: 0.2", (8, "steps.train.spec.method"), "one of supervised, dpo"),
        ("beta: 0.2", "betas: 0.2", (8, "steps.train.spec.method.betas"), "did you mean beta?"),
        ("type: dpo, beta: 0.2", "type: grpo", (8, "steps.train.spec.method.rewards"), "is missing"),
        ("learning_rate", "learning-rate", (10, "steps.train.spec.hyperparameters.learning-rate"), "did you mean learning_rate?"),
        ("rank: 8", "rank: 0", (9, "steps.train.spec.adapter.rank"), "greater than or equal to 1"),
        ("output:train", "output:training", (11, "steps.merge"), "'training', which is no step"),
    ],
)
def test_what_is_wrong_with_a_training_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, place: tuple[int, str], words: str
) -> None:
    assert old in TRAINING
    ((line, field, told),) = problems(tmp_path, TRAINING.replace(old, new, 1))
    assert (line, field) == place
    assert words in told
