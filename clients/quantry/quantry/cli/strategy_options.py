"""Options of deploy jobs that say how traffic moves: a strategy by its name with what belongs to it, or a file of all of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from quantry.cli.spec_fields import Option, OptionGroup
from quantry.cli.specs import build_named, words
from quantry.cli.values import duration_or_none_s, duration_s
from quantry.strategy_files import read_strategy
from quantry_core.rules import AnalysisSpec, RuleName
from quantry_core.strategies import (
    WHOLE_PERCENT,
    AbStrategy,
    BlueGreenStrategy,
    CanaryStrategy,
    ImmediateStrategy,
    OnInconclusive,
    OnShadowPass,
    ShadowStrategy,
    Strategy,
    StrategyName,
)

STRATEGIES: dict[StrategyName, type[BaseModel]] = {
    StrategyName.IMMEDIATE: ImmediateStrategy,
    StrategyName.BLUE_GREEN: BlueGreenStrategy,
    StrategyName.CANARY: CanaryStrategy,
    StrategyName.AB: AbStrategy,
    StrategyName.SHADOW: ShadowStrategy,
}

_NAMES = "|".join(name.replace("_", "-") for name in StrategyName)
_STEPS = (
    "Of canary: shares of the candidate with the least time at each, as in 10:60s,50:2m,100. A step is judged before the next one; "
    "':no-analysis' leaves that out, ':pause' waits for 'quantry rollouts resume'."
)
_RULE = (
    "Of canary and ab: what the candidate must pass, RULE[:FIELD=VALUE,...], as in latency_compared:metric=ttft,max_ratio=1.2. "
    "May be given again; instead of the rules that hold otherwise."
)
_STICKY = "Of ab: what keeps a client with its variant: user, hash, or header:NAME."
_DEADLINE = "Without a verdict for so long it is inconclusive: of ab and shadow in all, of canary at one step."
_SHADOWED = " Of shadow."


def strategy_name(text: str) -> StrategyName:
    """Returns a strategy by its name, in which a hyphen may stand for an underscore; a usage error for any other word."""
    try:
        return StrategyName(text.replace("-", "_"))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no strategy: one of {_NAMES.replace('|', ', ')}") from None


STRATEGY_OPTIONS = OptionGroup(
    {
        "strategy": Option(
            Annotated[
                StrategyName | None,
                typer.Option(parser=strategy_name, metavar=_NAMES, help="How traffic moves to the version; immediate where not given."),
            ]
        ),
        "strategy_file": Option(
            Annotated[
                Path | None,
                typer.Option(exists=True, dir_okay=False, readable=True, help="YAML of the whole strategy; docs/deployments.md."),
            ]
        ),
        "steps": Option(Annotated[str | None, typer.Option(metavar="PERCENT[:WAIT],...", help=_STEPS)]),
        "percent": Option(Annotated[int | None, typer.Option(help="Of ab: the candidate's share. Of shadow: share that is compared.")]),
        "sticky_by": Option(Annotated[str | None, typer.Option(metavar="user|hash|header:NAME", help=_STICKY)]),
        "rule": Option(Annotated[list[str] | None, typer.Option(metavar="RULE[:FIELD=VALUE,...]", help=_RULE)]),
        "min_requests": Option(Annotated[int | None, typer.Option(help=f"Of canary and ab: {words(AnalysisSpec, 'min_requests')}")]),
        "deadline": Option(Annotated[int | None, typer.Option(parser=duration_s, metavar="DURATION", help=_DEADLINE)]),
        "on_inconclusive": Option(Annotated[OnInconclusive | None, typer.Option(help="What follows then. Of canary, ab and shadow.")]),
        "on_pass": Option(Annotated[OnShadowPass | None, typer.Option(help="Of shadow: what follows where it passed.")]),
        "max_disagreement": Option(Annotated[float | None, typer.Option(help=words(ShadowStrategy, "max_disagreement") + _SHADOWED)]),
        "max_logprob_divergence": Option(
            Annotated[float | None, typer.Option(help=words(ShadowStrategy, "max_logprob_divergence") + _SHADOWED)]
        ),
        "max_tokens": Option(Annotated[int | None, typer.Option(help=words(ShadowStrategy, "max_tokens") + _SHADOWED)]),
        "hold": Option(
            Annotated[bool | None, typer.Option("--hold", help=f"Of blue-green: {words(BlueGreenStrategy, 'pause')}", show_default=False)]
        ),
        "max_surge": Option(Annotated[int | None, typer.Option(help=words(ImmediateStrategy, "max_surge") + " Of immediate.")]),
        "max_unavailable": Option(Annotated[int | None, typer.Option(help=words(ImmediateStrategy, "max_unavailable") + " Of immediate.")]),
    }
)

_JUDGED = frozenset({StrategyName.CANARY, StrategyName.AB})
_OF: dict[str, frozenset[StrategyName]] = {
    "steps": frozenset({StrategyName.CANARY}),
    "percent": frozenset({StrategyName.AB, StrategyName.SHADOW}),
    "sticky_by": frozenset({StrategyName.AB}),
    "rule": _JUDGED,
    "min_requests": _JUDGED,
    "deadline": _JUDGED | {StrategyName.SHADOW},
    "on_inconclusive": _JUDGED | {StrategyName.SHADOW},
    "on_pass": frozenset({StrategyName.SHADOW}),
    "max_disagreement": frozenset({StrategyName.SHADOW}),
    "max_logprob_divergence": frozenset({StrategyName.SHADOW}),
    "max_tokens": frozenset({StrategyName.SHADOW}),
    "hold": frozenset({StrategyName.BLUE_GREEN}),
    "max_surge": frozenset({StrategyName.IMMEDIATE}),
    "max_unavailable": frozenset({StrategyName.IMMEDIATE}),
}
"""Which strategies an option belongs to."""

_OPTION_NAMES = {
    "step_timeout_s": "deadline",
    "deadline_s": "deadline",
    "pause": "hold",
    "analysis": "rule",
    "rules": "rule",
    "min_requests": "min_requests",
    "header": "sticky_by",
}
"""Fields that are called otherwise than their option, or lie deeper."""


def strategy_of(values: Mapping[str, Any]) -> Strategy | None:
    """Returns the strategy that was asked for, None where nothing was; a usage error for what cannot be or does not belong together."""
    given = {name: values[name] for name in _OF if values[name] not in (None, [])}
    if values["strategy_file"] is not None:
        beside = next((name for name in ("strategy", *given) if values[name] is not None), None)
        if beside is not None:
            raise typer.BadParameter(f"--{_option(beside)} stands in the file of a whole strategy; give one or the other")
        return read_strategy(values["strategy_file"])
    if values["strategy"] is None and not given:
        return None
    name: StrategyName = values["strategy"] or StrategyName.IMMEDIATE
    for option in given:
        if name not in _OF[option]:
            wanted = " or ".join(_option(one) for one in StrategyName if one in _OF[option])
            raise typer.BadParameter(f"--{_option(option)} is of --strategy {wanted}, not of {_option(name)}")
    strategy: Any = build_named(STRATEGIES[name], _fields(name, given), _OPTION_NAMES)
    return strategy  # type: ignore[no-any-return]


def steps_of(text: str) -> list[dict[str, object]]:
    """Returns the steps of ``10:60s,50:2m:pause,100``; a usage error that names the one that is wrong.

    The whole share is not judged unless ``:analysis`` asks for it: nothing is left to compare it with.
    """
    return [_step(part.strip()) for part in text.split(",")]


def _step(text: str) -> dict[str, object]:
    percent, *rest = text.split(":")
    if not percent.isdecimal():
        raise typer.BadParameter(f"--steps {text!r}: a step is PERCENT[:WAIT][:pause][:no-analysis], as in 10:60s")
    given: dict[str, object] = {}
    for word in rest:
        field, value = _part_of_step(text, word)
        if field in given:
            raise typer.BadParameter(f"--steps {text!r}: {word!r} is one too many of its kind")
        given[field] = value
    return {"percent": int(percent), "analysis": int(percent) < WHOLE_PERCENT} | given


def _part_of_step(text: str, word: str) -> tuple[str, object]:
    """Returns the field of a step that a word sets, and its value."""
    match word:
        case "pause":
            return "pause", True
        case "analysis" | "no-analysis":
            return "analysis", word == "analysis"
    try:
        return "wait_s", duration_or_none_s(word)
    except typer.BadParameter as error:
        raise typer.BadParameter(f"--steps {text!r}: {error.message}") from None


def rule_of(text: str) -> dict[str, str]:
    """Returns a rule's fields from ``RULE[:FIELD=VALUE,...]``; a usage error for another form or an unknown rule."""
    name, _, rest = text.partition(":")
    known = [rule for rule in RuleName if rule is not RuleName.SHADOW]
    if name not in known:
        raise typer.BadParameter(f"--rule {text!r}: {name!r} is none of {', '.join(known)}")
    rule = {"rule": name}
    for part in filter(None, rest.split(",")):
        field, has_value, value = part.partition("=")
        if not has_value:
            raise typer.BadParameter(f"--rule {text!r}: RULE[:FIELD=VALUE,...], as in error_rate_limit:max_rate=0.02")
        if field.strip() in rule:
            raise typer.BadParameter(f"--rule {text!r}: {field.strip()!r} is given twice")
        rule[field.strip()] = value.strip()
    return rule


def _fields(name: StrategyName, given: Mapping[str, Any]) -> dict[str, object]:
    fields: dict[str, object] = {}
    analysis: dict[str, object] = {}
    for option, value in given.items():
        match option:
            case "steps":
                fields["steps"] = steps_of(value)
            case "rule":
                analysis["rules"] = [rule_of(item) for item in value]
            case "min_requests":
                analysis["min_requests"] = value
            case "sticky_by":
                by, _, header = value.partition(":")
                fields |= {"sticky_by": by, "header": header.lower()} if header else {"sticky_by": by}
            case "deadline":
                fields["step_timeout_s" if name is StrategyName.CANARY else "deadline_s"] = value
            case "hold":
                fields["pause"] = value
            case _:
                fields[option] = value
    return fields | ({"analysis": analysis} if analysis else {})


def _option(name: str) -> str:
    return name.replace("_", "-")
