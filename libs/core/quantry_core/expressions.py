"""Regular expressions that anybody may send: matched in time proportional to the name, whatever they say.

``re`` tries one way after another, and there may be more of these than anybody can wait for: ``(a+)+!`` on thirty letters takes
hours, and holds the interpreter meanwhile. Here all ways are followed side by side, as a set of places in the expression, one
step for each character (Thompson 1968, doi:10.1145/363347.363387); sets that were seen are kept. Python's own parser reads the
expression, so what is taken means the same as in ``re``. Refused is what no such set can follow: references to groups, looking
ahead and behind, atomic groups, flags, and counts that make an expression too long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

MAX_PLACES = 500
"""Of one expression, its counts written out: each character costs at most so many steps."""
MAX_MOVES = 1024
"""Steps of one expression that are remembered at a time."""
MAX_EXPRESSIONS = 256
"""That are remembered at a time, with their steps."""
END = ""
"""Stands where a name is over."""

Test = Callable[[str], bool]


class ExpressionError(ValueError):
    """This is no expression that can be taken; the text is a sentence that goes on from "it"."""


class _Char(NamedTuple):
    """A character that passes the test leads on."""

    test: Test
    then: int


@dataclass
class _Fork:
    """Leads on to several places at once, without a character."""

    then: list[int]


class _At(NamedTuple):
    """Leads on, without a character, where the characters before and after are right."""

    code: Any
    then: int


@dataclass(eq=False)
class _State:
    """Where an expression can be after some characters."""

    places: int
    """A set: bit i is place i."""
    before: str
    """The last character, as far as it matters: a, a dot, or END at the beginning."""
    moves: dict[str, _State] = field(default_factory=dict)


_MATCHED, _FAILED = _State(0, END), _State(0, END)


class Expression:
    """Tells whether names match, as ``re.match`` does: from their start, and not necessarily to their end."""

    def __init__(self, text: str) -> None:
        """Raises ExpressionError for what is no regular expression, and for one that is not taken."""
        try:
            tree = parser.parse(text)
        except (re.error, OverflowError, RecursionError) as error:
            raise ExpressionError(f"is not a regular expression: {error}") from error
        if tree.state.flags != re.UNICODE:
            raise ExpressionError("has flags, which are not taken")
        self._places: list[_Char | _Fork | _At | None] = [None]
        """None is the end of the expression."""
        self._num_counted = 0
        self._first = self._sequence(tree, 0)
        self._forget()

    def matches(self, name: str) -> bool:
        """Tells whether ``name`` begins with what the expression describes. A line feed at its end is a character like others."""
        state = self._start
        for character in (*name, END):
            state = state.moves.get(character) or self._move(state, character)
            if state is _MATCHED or state is _FAILED:
                break
        return state is _MATCHED

    def _forget(self) -> None:
        self._num_moves = 0
        self._states: dict[tuple[int, str], _State] = {}
        self._start = _State(1 << self._first, END)

    def _move(self, state: _State, character: str) -> _State:
        if self._num_moves >= MAX_MOVES:
            self._forget()
        places = self._reached(state, character)
        if places & 1:
            after = _MATCHED
        else:
            onward = 0
            for place in self._at(places):
                if character and isinstance(place, _Char) and place.test(character):
                    onward |= 1 << place.then
            key = (onward, "a" if _is_word(character) else ".")
            after = self._states.setdefault(key, _State(*key)) if onward else _FAILED
        self._num_moves += 1
        state.moves[character] = after
        return after

    def _reached(self, state: _State, after: str) -> int:
        """Returns all places that a state stands for where ``after`` comes next."""
        reached = waiting = state.places
        while waiting:
            found = 0
            for place in self._at(waiting):
                if isinstance(place, _Fork):
                    for then in place.then:
                        found |= 1 << then
                elif isinstance(place, _At) and _ANCHORS[place.code](state.before, after):
                    found |= 1 << place.then
            waiting = found & ~reached
            reached |= found
        return reached

    def _at(self, places: int) -> Iterator[_Char | _Fork | _At | None]:
        while places:
            lowest = places & -places
            yield self._places[lowest.bit_length() - 1]
            places ^= lowest

    def _add(self, place: _Char | _Fork | _At) -> int:
        self._places.append(place)
        return len(self._places) - 1

    def _sequence(self, tokens: Iterable[tuple[Any, Any]], then: int) -> int:
        """Returns the place where a sequence begins that goes on at ``then``: it is built from its end."""
        for code, argument in reversed(list(tokens)):
            then = self._token(code, argument, then)
        return then

    def _token(self, code: Any, argument: Any, then: int) -> int:
        self._count()
        if code in _TESTS:
            return self._add(_Char(_TESTS[code](argument), then))
        if code is codes.AT and argument in _ANCHORS:
            return self._add(_At(argument, then))
        if code is codes.BRANCH:
            return self._add(_Fork([self._sequence(branch, then) for branch in argument[1]]))
        if code is codes.SUBPATTERN and not argument[1] and not argument[2]:
            return self._sequence(argument[3], then)
        if code in {codes.MAX_REPEAT, codes.MIN_REPEAT}:
            low, high, repeated = argument
            return self._repeat(low, high, repeated, then)
        raise ExpressionError(f"has {_WORDS.get(code, 'a part')}, which cannot be matched in bounded time")

    def _repeat(self, low: int, high: Any, tokens: Iterable[tuple[Any, Any]], then: int) -> int:
        first = then
        if high is codes.MAXREPEAT:
            loop = _Fork([then])
            first = self._add(loop)
            loop.then.append(self._sequence(tokens, first))
        else:
            for _ in range(high - low):
                self._count()
                first = self._add(_Fork([then, self._sequence(tokens, first)]))
        for _ in range(low):
            self._count()
            first = self._sequence(tokens, first)
        return first

    def _count(self) -> None:
        self._num_counted += 1
        if self._num_counted > MAX_PLACES:
            raise ExpressionError(f"is too long: with its counts written out it has more than {MAX_PLACES} parts")


@lru_cache(maxsize=MAX_EXPRESSIONS)
def expression(text: str) -> Expression:
    """Returns an expression, made once for its text; raises ExpressionError for what is none, or not taken."""
    return Expression(text)


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _is_in(items: list[tuple[Any, Any]]) -> Test:
    is_negated = items[0][0] is codes.NEGATE
    tests = [_ITEMS[code](argument) for code, argument in items if code is not codes.NEGATE]
    return lambda character: any(test(character) for test in tests) is not is_negated


def _is_category(code: Any) -> Test:
    return _CATEGORIES[code]


def _is_literal(code: int) -> Test:
    return chr(code).__eq__


def _is_between(bounds: tuple[int, int]) -> Test:
    low, high = bounds
    return lambda character: low <= ord(character) <= high


def _is_boundary(before: str, after: str) -> bool:
    return _is_word(before) is not _is_word(after)


_CATEGORIES: dict[Any, Test] = {
    codes.CATEGORY_DIGIT: str.isdecimal,
    codes.CATEGORY_NOT_DIGIT: lambda character: not character.isdecimal(),
    codes.CATEGORY_SPACE: str.isspace,
    codes.CATEGORY_NOT_SPACE: lambda character: not character.isspace(),
    codes.CATEGORY_WORD: _is_word,
    codes.CATEGORY_NOT_WORD: lambda character: not _is_word(character),
}
_ITEMS: dict[Any, Callable[[Any], Test]] = {codes.LITERAL: _is_literal, codes.RANGE: _is_between, codes.CATEGORY: _is_category}
_TESTS: dict[Any, Callable[[Any], Test]] = {
    codes.LITERAL: _is_literal,
    codes.NOT_LITERAL: lambda code: chr(code).__ne__,
    codes.ANY: lambda _: "\n".__ne__,
    codes.IN: _is_in,
}
_ANCHORS: dict[Any, Callable[[str, str], bool]] = {
    codes.AT_BEGINNING: lambda before, _: before == END,
    codes.AT_BEGINNING_STRING: lambda before, _: before == END,
    codes.AT_END: lambda _, after: after == END,
    codes.AT_END_STRING: lambda _, after: after == END,
    codes.AT_BOUNDARY: _is_boundary,
    codes.AT_NON_BOUNDARY: lambda before, after: not _is_boundary(before, after),
}
_WORDS: dict[Any, str] = {
    codes.GROUPREF: "a reference to a group",
    codes.GROUPREF_EXISTS: "a condition on a group",
    codes.ASSERT: "a look ahead or behind",
    codes.ASSERT_NOT: "a look ahead or behind",
    codes.ATOMIC_GROUP: "an atomic group",
    codes.POSSESSIVE_REPEAT: "a possessive repeat",
    codes.SUBPATTERN: "flags",
}
