"""JSON reader: the objects of a JSON text that is larger than memory, one after another.

The standard library decodes each object; what is ours is where they begin and end. It takes what
the reader of JSON Lines takes, NaN and integers of any size among it.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from mlxprune.data.formats import ROWS_INSIDE

LEAST = 1 << 16  # characters that are read at a time, and more for an object that is longer
CUT = 64  # characters before the end in which what is only cut short looks wrong
NO_SPACE = re.compile(r"[^ \t\n\r]")


class JsonReader:
    """``text`` is what has been read and not used, from ``at`` on."""

    def __init__(self, chunks: Iterator[bytes], most: int = 1 << 30) -> None:
        """``most`` characters of one object are read."""
        self.most = most
        self.chunks, self.decoder = chunks, codecs.getincrementaldecoder("utf-8-sig")()
        self.decode = json.JSONDecoder().raw_decode
        self.text, self.at, self.ended = "", 0, False

    def rows(self, inside: str) -> Iterator[Any]:
        """The rows of an ``array``, of the ``lists`` of one object, or one after another. Raises
        ValueError where the text is no JSON."""
        if inside == "array":
            yield from self._elements()
        elif inside == "lists":
            yield from self._lists()
        else:
            while self._next():
                yield self._value()
            return
        if self._next():
            raise ValueError("more text follows its end")

    def _more(self, least: int = LEAST) -> None:
        parts, size = [self.text[self.at :]], 0
        while size < least and not self.ended:
            chunk = next(self.chunks, None)
            self.ended = chunk is None
            parts.append(self.decoder.decode(chunk or b"", self.ended))
            size += len(parts[-1])
        self.text, self.at = "".join(parts), 0

    def _next(self) -> str:
        """The next character that is no space, which stays; empty at the end."""
        while True:
            found = NO_SPACE.search(self.text, self.at)
            if found is not None:
                self.at = found.start()
                return found.group()
            self.at = len(self.text)
            if self.ended:
                return ""
            self._more()

    def _take(self, wanted: str) -> str:
        found = self._next()
        if not found or found not in wanted:
            what = repr(found) if found else "the end of the file"
            raise ValueError(f"{' or '.join(wanted)} expected, not {what}")
        self.at += 1
        return found

    def _value(self) -> Any:
        """The next value."""
        self._next()
        least = LEAST
        while True:
            try:
                value, end = self.decode(self.text, self.at)
            except json.JSONDecodeError as error:
                near_end = error.pos >= len(self.text) - CUT
                if self.ended or not (near_end or error.msg.startswith("Unterminated")):
                    raise  # no more text would mend it
            else:
                if end < len(self.text) or self.ended:  # a number may go on
                    self.at = end
                    return value
            if len(self.text) - self.at > self.most:
                raise ValueError(f"an object is longer than {self.most:,} characters")
            self._more(least)
            least = max(least, len(self.text))  # so that a long object is read over few times

    def _members(self, opening: str, closing: str) -> Iterator[None]:
        """Stops before each member of an array or object, which whoever asks reads."""
        self._take(opening)
        if self._next() == closing:
            self._take(closing)
            return
        while True:
            yield
            if self._take("," + closing) == closing:
                return

    def _elements(self) -> Iterator[Any]:
        return (self._value() for _ in self._members("[", "]"))

    def _lists(self) -> Iterator[Any]:
        """The elements of every list of one object that is known to hold rows."""
        for _ in self._members("{", "}"):
            key = self._value()
            self._take(":")
            if key in ROWS_INSIDE and self._next() == "[":
                yield from self._elements()
            else:
                self._value()
