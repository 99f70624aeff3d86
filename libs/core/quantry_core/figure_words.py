"""Figures in words, and their order in tables: everything that evidence holds beside the metrics of metrics.py. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from quantry_core.metrics import METRICS

SETTINGS: dict[str, str] = {
    "num_tokens": "Tokens that were scored, or seen.",
    "num_characters": "Length of the text.",
    "num_windows": "Windows of the text.",
    "window_tokens": "Tokens of one window.",
    "stride_tokens": "Tokens from one window's beginning to the next one's; a window's length where none is stated.",
    "max_windows": "At most so many windows were asked for.",
    "seed": "Of everything that is drawn.",
    "confidence": "Share of all intervals that hold the true value.",
    "bootstrap_blocks": "Blocks of windows that the bootstrap draws from.",
    "bootstrap_resamples": "How often it draws.",
    "judged_by": "The change that decides: of the divergence from the master, or of the log-loss.",
    "margin_nats": "A recalibrated version may be worse by so much.",
    "num_documents": "Documents of the task.",
    "num_fewshot": "Examples in each prompt.",
    "task_version": "Of the task's definition.",
    "num_requests": "Requests that were counted.",
    "num_output_tokens": "Tokens that they were answered with.",
    "prompt_tokens": "Tokens of one prompt.",
    "output_tokens": "Tokens of one answer.",
    "engine": "What served it.",
    "engine_version": "",
    "engine_device": "",
}
"""What figures rest on; tables show it below them."""
FACTS: dict[str, str] = {
    "runs": "It ran to the end.",
    "is_finite": "No logit is infinite or NaN.",
    "num_failed": "Cases that raised, or whose logits are not finite.",
    "same_tokens": "Share of the tokens that both go on with before they part.",
    "num_same_tokens": "Tokens that both go on with before they part.",
    "num_continuation_tokens": "Tokens that each went on with.",
    "ttft_ms_p50": "Median time to the first token, ms.",
    "ttft_ms_p95": "95th percentile of that time.",
    "tpot_ms_p50": "Median over requests of the mean time between tokens, ms.",
    "tpot_ms_p95": "95th percentile of that time.",
    "latency_ms_p50": "Median time to the last token, ms.",
    "latency_ms_p95": "95th percentile of that time.",
    "output_tokens_per_s": "Tokens of all answers over the wall time.",
    "requests_per_s": "Requests over the wall time.",
    "wall_s": "Wall time, s.",
    "engine_start_s": "Until the engine answered, s.",
    "memory_peak_bytes": "Most that the engine and its processes held.",
    "weights_bytes": "Bytes of the files with weights.",
    "weights_ratio": "Bytes of the weights over the reference's.",
    "bits_per_parameter": "Bits of the files with weights for each parameter of the reference.",
    "win_rate": "Share of held-out pairs whose chosen answer is likelier than the rejected one.",
    "reward_win_rate": "Share of held-out pairs of which the chosen answer gained more than the rejected one.",
    "reward_margin": "Mean advantage of chosen answers over rejected ones in implicit reward: beta times the gain in log-probability.",
    "log_prob_margin_nats": "Mean log-probability of chosen answers less that of rejected ones.",
    "signed_log_prob_nats": "Mean log-probability of answers, of bad ones with its sign turned.",
    "answer_tokens": "Mean length of an answer, in tokens.",
    "reward_mean": "Mean reward of answers to held-out prompts.",
    "num_steps": "Optimizer steps.",
    "best_step": "The step whose weights were kept.",
    "num_epochs": "Passes over the training file.",
    "num_rows": "Rows that were trained on.",
    "num_samples": "Samples, after what was dropped.",
    "num_truncated": "Samples that were cut to a sequence's length.",
    "num_dropped": "Samples that were too long and left out.",
    "num_learned_tokens": "Tokens of one pass that the loss is of.",
    "num_validation_rows": "Rows that were measured on.",
    "num_validation_samples": "Samples that were measured on, after what was dropped.",
    "num_validation_tokens": "Their tokens.",
    "num_validation_learned_tokens": "Those of them that the log-loss is of.",
    "num_validation_truncated": "Of them, cut to a sequence's length.",
    "num_validation_dropped": "Samples to measure on that were too long and left out.",
    "num_trained_tokens": "Tokens that were seen in all.",
    "num_trained_parameters": "Numbers that were trained.",
    "tokens_per_s": "Of training, those seen.",
    "train_s": "Time in optimizer steps, s.",
    "held_out_share": "Of the training file, held out; nothing where there was a file of its own.",
    "stopped_early": "It became no better and was stopped.",
    "way": "What was merged into.",
    "choice": "The way that was taken: the lowest log-loss on what was held out.",
    "is_beyond_noise": "It is better than each other way by more than chance.",
    "kl_from_master_nats": "Mean KL divergence of the next-token distribution from the master's.",
    "kl_increase_nats": "Mean change in that divergence per token against the reference.",
    "kl_increase_low_nats": "Lower end of that change's 95% interval, by paired bootstrap.",
    "kl_increase_high_nats": "Upper end of that change's 95% interval, by paired bootstrap.",
}
"""What else is measured: on odd inputs, of speed, of size, at a recalibration."""

_REFERENCE = "reference_"
"""Begins the name of a figure that is the reference's own."""
_OF_A_COMPARISON = frozenset(
    {
        "bits_per_parameter",
        "bootstrap_blocks",
        "bootstrap_resamples",
        "confidence",
        "judged_by",
        "kl_increase_high_nats",
        "kl_increase_low_nats",
        "kl_increase_nats",
        "margin_nats",
        "num_continuation_tokens",
        "num_same_tokens",
        "same_tokens",
        "weights_ratio",
    }
)
_CHANGES = ("_change", "_increase", "_increase_low", "_increase_high")
"""End the names of figures less the reference's."""
_ORDER = {name: place for place, name in enumerate([*METRICS, *FACTS])}


def needs_reference(name: str) -> bool:
    """Tells whether a figure says something of two versions, not of one alone."""
    if name in METRICS:
        return METRICS[name].needs_reference
    return name.startswith(_REFERENCE) or name.endswith(_CHANGES) or name in _OF_A_COMPARISON


def in_order(names: Iterable[str]) -> list[str]:
    """Returns the names of figures as tables show them: by the tables here, then what only a task knows, then settings.

    A figure of the reference comes behind the version's own.
    """
    places = list(SETTINGS)

    def place(name: str) -> tuple[int, int, str, bool]:
        own = name.removeprefix(_REFERENCE)
        if own in SETTINGS:
            return 2, places.index(own), own, False
        return int(own not in _ORDER), _ORDER.get(own, 0), own, own != name

    return sorted(set(names), key=place)


def words_of(name: str) -> str:
    """Returns what a figure is, in one sentence; nothing where only a task knows."""
    own = name.removeprefix(_REFERENCE)
    words = METRICS[own].words if own in METRICS else FACTS.get(own) or SETTINGS.get(own, "")
    return f"The reference's own: {words[0].lower()}{words[1:]}" if own != name and words else words
