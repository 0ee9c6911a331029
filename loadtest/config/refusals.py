"""An environment's own patterns of refusals and of lost sessions, beside k6/lib/refusals.js."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

# A pattern that matches one of the first, or all of the others, matches every failure.
_EMPTY = ("", " ")
_ORDINARY = (
    "Internal error",
    "502 Bad Gateway",
    "Unknown tool: look",
    '{"code":"validation_failed","message":"limit must be a number"}',
)
# Every answer has these headers, whatever it says.
_EVERYWHERE = frozenset({"content-type", "content-length", "date"})
# What Python's expressions have and JavaScript's lack: k6 compares the answers.
_ONLY_PYTHON = re.compile(r"\\[AZ]|\(\?(?:P|#|>|\(|[aiLmsux]+[-:)])|[*+?}]\+")


def _check_expression(text: str) -> str:
    """Return a regular expression of both languages."""
    try:
        re.compile(text)
    except (re.error, OverflowError) as failure:
        raise ValueError(f"{text!r} is not a regular expression: {failure}") from None
    if found := _ONLY_PYTHON.search(text):
        raise ValueError(f"{text!r} is not a regular expression of JavaScript: {found[0]}")
    return text


def _as_tuple(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


Expression = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_check_expression)]
Status = Annotated[int, Field(ge=200, le=599)]
# One value, or a list of values of which one must fit.
Statuses = Annotated[tuple[Status, ...], BeforeValidator(_as_tuple)]
Codes = Annotated[tuple[int, ...], BeforeValidator(_as_tuple)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
HeaderName = Annotated[str, Field(pattern=r"^[\w!#$%&'*+.^`|~-]+$"), AfterValidator(str.lower)]


class RefusalPattern(BaseModel):
    """An answer that means `reason`; all conditions that are given must hold.

    `code` is of a JSON-RPC error, `tool_error` the code in a tool error's text. `headers` and
    `text` are regular expressions without regard to case. Only answers that are not ok are
    compared.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: Literal["capacity", "rate_limited", "session_lost"]
    status: Statuses = ()
    headers: Mapping[HeaderName, Expression] = {}
    code: Codes = ()
    tool_error: Names = ()
    text: Expression | None = None

    @model_validator(mode="after")
    def _check_selective(self) -> Self:
        narrow = bool(self.code or self.tool_error or self.headers.keys() - _EVERYWHERE)
        if self.text is not None:
            found = re.compile(self.text, re.IGNORECASE).search
            if any(map(found, _EMPTY)) or all(map(found, _ORDINARY)):
                raise ValueError(f"text = {self.text!r} matches every answer")
            narrow = True
        if not narrow and not self.status:
            raise ValueError(
                "the pattern matches every answer: it needs status, headers, code, tool_error or "
                "text"
            )
        if not narrow and 200 in self.status:
            raise ValueError("status 200 alone matches every tool error: add code or text")
        return self

    def describe(self) -> str:
        """Return the pattern as text."""
        parts = [f"{name} {value}" for name, value in self.export().items() if name != "reason"]
        return f"{self.reason}: {', '.join(parts)}"

    def export(self) -> dict[str, Any]:
        """Return the pattern for k6, without what is not given."""
        return self.model_dump(mode="json", exclude_defaults=True)


def describe_patterns(patterns: Sequence[RefusalPattern]) -> str | None:
    """Return the patterns as text, None if there are none."""
    return "; ".join(pattern.describe() for pattern in patterns) or None
