"""Find secrets, and pieces of them, in text."""

from collections.abc import Iterator
from dataclasses import dataclass, field

# A piece is redacted from this length on: half of a short secret, 12 characters of a long one.
LEAST_PIECE = 8
MOST_PIECE = 12
LONGEST_WORD = 15
# Pieces are found by their grams. A piece of LEAST_PIECE characters contains a whole gram that
# starts at a multiple of STRIDE, so only these offsets are checked.
GRAM = 5
STRIDE = LEAST_PIECE - GRAM + 1
Span = tuple[int, int]


@dataclass
class SecretIndex:
    """An index of secrets: `places` maps a gram, in squeezed lower case, to secrets and offsets."""

    values: set[str] = field(default_factory=set)
    forms: list[tuple[str, str]] = field(default_factory=list)
    places: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    codes: set[str] = field(default_factory=set)

    def add(self, form: str) -> None:
        """Add one form of a secret to the index."""
        folded, number = fold(form), len(self.forms)
        self.forms.append((form, folded))
        for offset in range(len(folded) - GRAM + 1):
            self.places.setdefault(folded[offset : offset + GRAM], []).append((number, offset))

    def find(self, text: str) -> Iterator[Span]:
        """Yield the spans of secrets and their pieces in folded text."""
        places, done = self.places, 0
        offsets = range(0, len(text) - GRAM + 1, STRIDE)
        for at in [at for at in offsets if text[at : at + GRAM] in places]:
            if at >= done:
                spans = [self._extend(text, at, *place) for place in places[text[at : at + GRAM]]]
                begin, end = max(spans, key=lambda span: span[1] - span[0])
                if end > begin:
                    yield begin, end
                    done = end

    def _extend(self, text: str, at: int, number: int, offset: int) -> Span:
        """Return the span around a gram where text and secret agree; empty if it is too short."""
        form, folded = self.forms[number]
        begin, first = at, offset
        while begin > 0 and first > 0 and text[begin - 1] == folded[first - 1]:
            begin, first = begin - 1, first - 1
        end, last = at + GRAM, offset + GRAM
        while end < len(text) and last < len(folded) and text[end] == folded[last]:
            end, last = end + 1, last + 1
        least = min(MOST_PIECE, max(LEAST_PIECE, (len(form) + 1) // 2))
        is_whole = last - first == len(form)
        is_piece = last - first >= least and not is_word(form[first:last])
        return (begin, end) if is_whole or is_piece else (at, at)


def is_word(text: str) -> bool:
    """Return whether a text looks like an ordinary word."""
    is_one = text.islower() or text.isupper() or text.istitle()
    return text.isalpha() and is_one and len(text) <= LONGEST_WORD


def squeeze(text: str) -> str:
    """Return the text without white space."""
    return "".join(text.split())


def fold(text: str) -> str:
    """Return lower case of the same length: only U+0130 would become two characters."""
    return text.replace("\u0130", "I").lower()
