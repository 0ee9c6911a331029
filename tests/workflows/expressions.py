"""Evaluate those of GitHub's expressions that the workflows use; refuse all others."""

import re
from collections.abc import Callable, Mapping
from typing import Any

_TOKEN = re.compile(r"\s*('(?:[^']|'')*'|[A-Za-z_][\w-]*|[0-9]+|&&|\|\||==|!=|[!().])")
_TEMPLATE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)

Functions = Mapping[str, Callable[..., Any]]


class ExpressionError(Exception):
    """The expression uses what this reader does not know."""


def evaluate(text: str, contexts: Mapping[str, Any], functions: Functions) -> Any:
    """Return the value of an expression without its braces."""
    reader = _Reader(_split(text), contexts, functions)
    value = reader.read_or()
    if reader.tokens:
        raise ExpressionError(f"'{reader.tokens[0]}' is one too many in: {text}")
    return value


def fill_in(text: str, contexts: Mapping[str, Any], functions: Functions) -> str:
    """Return a text with its `${{ }}` replaced, once: what a value holds is not looked at."""
    return _TEMPLATE.sub(lambda found: write(evaluate(found[1], contexts, functions)), text)


def strip_braces(text: str) -> str:
    """Return what is inside `${{ }}`, where a key may leave them out."""
    whole = _TEMPLATE.fullmatch(text.strip())
    return whole[1] if whole else text


def write(value: Any) -> str:
    """Return a value as it is inserted into a text."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def is_true(value: Any) -> bool:
    """Return whether a value counts as true: all but false, 0, null and the empty string."""
    return value not in (None, False, 0, "")


def _split(text: str) -> list[str]:
    tokens, at, text = [], 0, text.strip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ExpressionError(f"not known: {text[at:]}")
        tokens.append(found[1])
        at = found.end()
    return tokens


class _Reader:
    """Reads by descent; each method takes what binds more tightly than its own operator."""

    def __init__(self, tokens: list[str], contexts: Mapping[str, Any], functions: Functions):
        self.tokens = tokens
        self._contexts = contexts
        self._functions = functions

    def read_or(self) -> Any:
        value = self._read_and()
        while self._take("||"):
            other = self._read_and()
            value = value if is_true(value) else other
        return value

    def _read_and(self) -> Any:
        value = self._read_equal()
        while self._take("&&"):
            other = self._read_equal()
            value = other if is_true(value) else value
        return value

    def _read_equal(self) -> Any:
        value = self._read_one()
        while (operator := self._take("==", "!=")) is not None:
            other = self._read_one()
            if not (isinstance(value, str) and isinstance(other, str)):
                raise ExpressionError(f"only texts are compared here, not {value!r} and {other!r}")
            value = (value.lower() == other.lower()) is (operator == "==")
        return value

    def _read_one(self) -> Any:
        if self._take("!"):
            return not is_true(self._read_one())
        if self._take("("):
            value = self.read_or()
            self._expect(")")
            return value
        token = self.tokens.pop(0) if self.tokens else "nothing"
        if token.startswith("'"):
            return token[1:-1].replace("''", "'")
        if token.isdigit():
            return int(token)
        return self._call(token) if self._take("(") else self._look_up(token)

    def _call(self, name: str) -> Any:
        arguments = []
        while not self._take(")"):
            arguments.append(self.read_or())
        if name not in self._functions:
            raise ExpressionError(f"no function '{name}' here")
        return self._functions[name](*arguments)

    def _look_up(self, name: str) -> Any:
        path, value = name, self._contexts
        while True:
            key = path.rpartition(".")[2]
            if not isinstance(value, Mapping) or key not in value:
                raise ExpressionError(f"'{path}' is not there")
            value = value[key]
            if not self._take("."):
                return value
            path += f".{self.tokens.pop(0)}"

    def _take(self, *tokens: str) -> str | None:
        return self.tokens.pop(0) if self.tokens and self.tokens[0] in tokens else None

    def _expect(self, token: str) -> None:
        if self._take(token) is None:
            raise ExpressionError(f"'{token}' is missing before {self.tokens or 'the end'}")
