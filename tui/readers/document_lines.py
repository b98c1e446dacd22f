"""The lines of a document for a width: all of it, broken between words, read as far as is
looked."""

from __future__ import annotations

from bisect import bisect_right

from mlxprune_tui.drawing.cells import Line
from mlxprune_tui.drawing.text import cut, made_visible, visible, width
from mlxprune_tui.readers.document_text import Texts

CHUNK_TOKENS = 50_000
TAB = "    "
HEAT_STEPS = (1.0, 2.5, 4.5, 7.0, 10.0)  # nats a token from which the next shade begins


def broken(text: str, cells: int) -> list[tuple[int, int]]:
    """Where lines of at most so many cells begin and end in a text: between words where that leaves
    more than half a line, else inside one. A blank at a break is in no line."""
    spans: list[tuple[int, int]] = []
    first = 0
    for paragraph in text.split("\n"):
        at, stop = first, first + len(paragraph)
        while True:
            head = len(cut(text[at : min(stop, at + cells)], cells))
            if at + head >= stop:
                spans.append((at, stop))
                break
            space = text.rfind(" ", at, at + head + 1)
            if space > at + cells // 2:
                spans.append((at, space))
                at = space + 1
            else:
                head = head or 1
                spans.append((at, at + head))
                at += head
        first = stop + 1
    return spans


class DocumentLines:
    """``text`` is what is read so far, made visible; ``spans`` of its lines for ``cells``."""

    def __init__(self, texts: Texts, document: int, cells: int) -> None:
        self.texts, self.document, self.cells = texts, document, max(1, cells)
        self.text = ""
        self.spans: list[tuple[int, int]] = []
        self._read = 0  # tokens
        self.matches: list[tuple[int, int]] = []
        self.words = ""

    @property
    def tokens(self) -> int:
        return len(self.texts.tokens.document(self.document))

    @property
    def is_whole(self) -> bool:
        return self._read >= self.tokens

    def read_to(self, lines: int) -> None:
        """At least so many lines, where there are as many."""
        while len(self.spans) < lines and not self.is_whole:
            self._more()

    def read_all(self) -> None:
        while not self.is_whole:
            self._more()

    def _more(self) -> None:
        told, stop = self.texts.stretch(self.document, self._read, CHUNK_TOKENS)
        self._read = stop
        shown = visible(told).replace("\t", TAB)
        # The last line may go on: it is broken again with what follows.
        begin = self.spans.pop()[0] if self.spans else 0
        self.text += shown
        self.spans += [(a + begin, b + begin) for a, b in broken(self.text[begin:], self.cells)]
        if self.words:
            self._find()

    def rewrap(self, cells: int) -> None:
        self.cells = max(1, cells)
        self.spans = broken(self.text, self.cells) if self.text else []

    def search(self, words: str) -> int:
        """Find words, without regard to case, in all of it; how often they stand there."""
        self.words = " ".join(visible(words).split())
        self.read_all()
        self._find()
        return len(self.matches)

    def _find(self) -> None:
        self.matches = []
        plain, wanted = self.text.lower(), self.words.lower()
        if len(plain) != len(self.text):  # a letter whose small form is longer: places would move
            plain, wanted = self.text, self.words
        plain = plain.replace("\n", " ")
        at = plain.find(wanted) if wanted else -1
        while at >= 0:
            self.matches.append((at, at + len(wanted)))
            at = plain.find(wanted, at + len(wanted))

    def line_of_match(self, number: int) -> int:
        """The line that a match begins in."""
        return self.line_of_place(self.matches[number][0])

    def line_of_place(self, place: int) -> int:
        return max(0, bisect_right([first for first, _ in self.spans], place) - 1)

    def line(self, row: int, here: int | None = None) -> Line:
        """A line with its matches lit, the one in hand more than the others."""
        if row >= len(self.spans):
            return []
        first, stop = self.spans[row]
        line: Line = []
        at = first
        for number, (begin, end) in enumerate(self.matches):
            if end <= first or begin >= stop:
                continue
            a, b = max(first, begin), min(stop, end)
            line += [
                (self.text[at:a], ""),
                (self.text[a:b], "match_here" if number == here else "match"),
            ]
            at = b
        return [*line, (self.text[at:stop], "")]


def shaded(
    pieces: list[str], losses: list[float | None], cells: int
) -> tuple[list[Line], list[int]]:
    """Lines of text in which the style of a token is its loss, and the line that each token begins
    in."""
    lines: list[Line] = [[]]
    begins = []
    used = marks = 0
    for piece, loss in zip(pieces, losses, strict=False):
        step = sum((loss or 0.0) >= limit for limit in HEAT_STEPS)
        style = f"heat{step}" if loss is not None else "dim"
        text, marks = made_visible(piece, marks)
        begins.append(len(lines) - 1)
        for number, part in enumerate(text.replace("\t", TAB).split("\n")):
            if number:
                lines.append([])
                used = 0
            while part:
                if used and used + width(part) > cells and width(part) <= cells // 2:
                    lines.append([])  # a token is not cut where it fits into the next line
                    used = 0
                head = cut(part, cells - used)
                if not head:
                    lines.append([])
                    used = 0
                    head = cut(part, cells) or part[:1]
                lines[-1].append((head, style))
                used += width(head)
                part = part[len(head) :]
    return lines, begins
