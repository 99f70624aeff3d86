"""What the pages of models and versions say: pure functions from versions to names and texts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from quantry_core.aliases import Alias, AliasChange
from quantry_core.evidence_tables import checks
from quantry_core.measurements import newest_evidence, parts, reference_of
from quantry_core.model_views import ListedModel
from quantry_core.versions import EdgeRole, EvidenceKind, Verdict, Version, VersionDetail, VersionKind, VersionState
from quantry_dashboard import words
from quantry_dashboard.facts import Fact, flattened
from quantry_dashboard.scatter import interval_text

STATE_CLASSES: Mapping[str, str] = {
    VersionState.READY: "succeeded",
    VersionState.QUARANTINED: "failed",
    VersionState.ARCHIVED: "archived",
    "deleted": "failed",
}
VERDICT_CLASSES: Mapping[Verdict, str] = {Verdict.PASS: "succeeded", Verdict.FAIL: "failed", Verdict.INCONCLUSIVE: "waiting"}
QUALITY_HEADINGS = ("Corpus", "Against", "Measured by", "Perplexity ratio (95% interval)", "Mean KL, nats", "Top-1 agreement")
FILE_HEADINGS = ("File", "Size", "SHA-256", "")
HISTORY_HEADINGS = ("When", "Alias", "From", "To", "By")


class Action(NamedTuple):
    """A link to the form that submits a job about a version."""

    label: str
    address: str


def model_facts(model: ListedModel) -> list[str]:
    """Returns what a list says of a model: versions, the latest, aliases, size, how many are held back, when it was made."""
    return [
        str(model.num_versions),
        "" if model.latest_number is None else f"@{model.latest_number}",
        ", ".join(f"{one.alias} → @{one.number}" for one in model.aliases),
        words.bytes_text(model.size_bytes),
        str(model.num_quarantined) if model.num_quarantined else "",
        words.moment_text(model.created_at),
    ]


def state_of(version: Version) -> str:
    """Returns a version's state, or that it is deleted."""
    return "deleted" if version.deleted_at is not None else version.state


def what_text(version: Version) -> str:
    """Returns what a version is: ``quantized · W4A16 · compressed-tensors``."""
    named = [version.kind, version.scheme or version.dtype, version.format if version.kind is not VersionKind.MASTER else ""]
    return " · ".join(part for part in named if part)


def facts_of(version: VersionDetail, names: Mapping[str, str]) -> list[Fact]:
    """Returns what a version is and where it comes from. ``names``: ``name@number`` of versions by id, as far as they are known."""
    base_id = base_id_of(version)
    card = version.card
    facts = [
        Fact("kind", version.kind),
        Fact("format", version.format),
        Fact("scheme", version.scheme or ""),
        Fact("dtype", version.dtype or ""),
        Fact("weights", words.bytes_text(version.weights_bytes)),
        Fact("all files", f"{words.bytes_text(version.size_bytes)}, {len(version.files)} files"),
        Fact("bits per weight", _bits_text(version)),
        Fact("made from", "" if base_id is None else names.get(base_id, words.short_id(base_id)), f"/versions/{base_id}"),
        Fact("made by", words.short_id(version.job_id), f"/jobs/{version.job_id}"),
        Fact("attempt", str(version.attempt)),
        Fact("made", words.moment_text(version.created_at)),
        Fact("deleted", words.moment_text(version.deleted_at) if version.deleted_at else ""),
        Fact("bytes given up", words.moment_text(version.bytes_released_at) if version.bytes_released_at else ""),
        Fact("license", card.license or ""),
        Fact("base model", ", ".join(card.base_model)),
        Fact("languages", ", ".join(card.languages)),
        Fact("digest", version.manifest_digest),
    ]
    return [fact for fact in facts if fact.text]


def base_id_of(version: VersionDetail) -> str | None:
    """Returns the id of what a version was made from."""
    return next((edge.parent_version_id for edge in version.edges if edge.role is EdgeRole.BASE), None)


def recipe_facts(version: Version) -> list[Fact]:
    """Returns how a version was made."""
    return flattened(version.recipe)


def toolchain_facts(version: Version) -> list[Fact]:
    """Returns the libraries that touched the weights."""
    return [Fact(name, text) for name, text in sorted(version.toolchain.items())]


def why_held_back(version: VersionDetail) -> list[str]:
    """Returns a sentence for each thing that keeps a version in quarantine, what its checks found; none for other versions."""
    if version.state is not VersionState.QUARANTINED:
        return []
    found = [f"{check.name}: {check.found or check.verdict}" for check in checks(version) if check.verdict is not Verdict.PASS]
    return found or ["No check says why: ask the audit log, or the job that made it."]


def quality_rows(version: VersionDetail) -> list[tuple[str, ...]]:
    """Returns a row for each corpus and reference that a version was measured on and against, under QUALITY_HEADINGS."""
    rows = []
    for evidence in newest_evidence(version).values():
        reference = reference_of(evidence)
        for part, figures in parts(evidence).items():
            numbers: dict[str, Any] = {name: value for name, value in figures.items() if isinstance(value, float | int)}
            if "perplexity_ratio" not in numbers:
                continue
            ratio = interval_text(numbers["perplexity_ratio"], numbers.get("perplexity_ratio_low"), numbers.get("perplexity_ratio_high"))
            against = "the master" if evidence.kind is EvidenceKind.GATE else "" if reference is None else reference.ref
            kl, agreement = (numbers.get(name) for name in ("kl_mean_nats", "top1_agreement"))
            by = "its gate" if evidence.kind is EvidenceKind.GATE else "an evaluation"
            rows.append((part, against, by, ratio, *("–" if value is None else f"{value:.4g}" for value in (kl, agreement))))
    return sorted(rows)


def actions_of(version: Version, base_id: str | None) -> list[Action]:
    """Returns what can be begun from a version: links to the form, filled in, and to the comparison with what it was made from."""
    found: list[Action] = []
    is_ready = version.state is VersionState.READY and version.deleted_at is None
    is_16bit = version.kind in {VersionKind.MASTER, VersionKind.MERGED}
    if is_ready and is_16bit:
        found.append(Action("Quantize from here", submit_address("quantize", base=version.ref)))
    if is_ready and version.kind is VersionKind.MASTER:
        found.append(Action("Fine-tune", submit_address("finetune", model=version.ref)))
    if version.deleted_at is None:
        against = {} if base_id is None else {"against": base_id}
        found.append(Action("Evaluate", submit_address("evaluate", version=version.ref, **against)))
    if base_id is not None:
        label = "Compare with the master" if version.kind is VersionKind.QUANTIZED else "Compare with its base"
        found.append(Action(label, compare_address(base_id, version.id)))
    if is_ready and version.kind is not VersionKind.ADAPTER:
        found.append(Action("Deploy", submit_address("deploy", version=version.ref)))
    return found


def submit_address(job_type: str, **fields: str) -> str:
    """Returns the address of the form that submits a job, with what is known of its spec filled in."""
    return f"/jobs/new?{urlencode({'type': job_type, **fields})}"


def compare_address(left: str, right: str) -> str:
    """Returns the address of a comparison."""
    return f"/compare?a={quote(left, safe='@')}&b={quote(right, safe='@')}"


def file_address(version_id: str, path: str) -> str:
    """Returns the address of a version's file."""
    return f"/versions/{quote(version_id, safe='')}/files/{quote(path)}"


def labels_of(text: str) -> dict[str, str]:
    """Returns labels from how they are written, parted by white space or commas."""
    pairs = [part.partition("=") for part in text.replace(",", " ").split()]
    return {key: value for key, _, value in pairs}


def history_texts(change: AliasChange, numbers: Mapping[str, int]) -> tuple[str, ...]:
    """Returns a row of an alias's history, under HISTORY_HEADINGS. ``numbers``: of versions that are known, by id."""

    def named(version_id: str | None, nothing: str) -> str:
        if version_id is None:
            return nothing
        return f"@{numbers[version_id]}" if version_id in numbers else words.short_id(version_id)

    return (
        words.moment_text(change.created_at),
        change.alias,
        named(change.previous_version_id, "–"),
        named(change.version_id, "deleted"),
        "the platform" if change.key_id is None else words.short_id(change.key_id),
    )


def alias_text(alias: Alias, now: datetime) -> str:
    """Returns since when an alias points where it does."""
    return f"since {words.moment_text(alias.updated_at)} ({words.ago_text(alias.updated_at, now)})"


def differing(left: object, right: object) -> tuple[str, str]:
    """Returns both sides of a difference as text; a dash for what a side has not."""
    return _side(left), _side(right)


def deltas_text(left: float | None, right: float | None) -> str:
    """Returns right less left, signed; a dash where one is missing."""
    if left is None or right is None:
        return "–"
    return f"{right - left:+.4g}" if right != left else "0"


def _side(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return str(value)


def _bits_text(version: VersionDetail) -> str:
    for evidence in newest_evidence(version).values():
        bits = evidence.metrics.get("bits_per_weight")
        if evidence.kind is EvidenceKind.GATE and isinstance(bits, int | float):
            whole = evidence.metrics.get("bits_per_parameter")
            return f"{bits:.2f}" + (f" ({whole:.2f} for each parameter of the whole model)" if isinstance(whole, int | float) else "")
    return ""
