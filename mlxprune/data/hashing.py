"""Hashing: what documents are known by, and how copies get ids of their own."""

from __future__ import annotations

import hashlib
import re
import unicodedata

import numpy as np

PIECE_CHARACTERS = 1 << 20  # of a long text that are worked on at a time
SPACE = re.compile(r"\s")


def hash_bytes(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def hash_text(text: str) -> int:
    return hash_bytes(text.encode("utf-8"))


def hash_document(text: str) -> tuple[int, int, int]:
    """(hash of the text, hash of it ``normalised``, its bytes in UTF-8). A long text is hashed in
    pieces, which are cut where whitespace ends: what normalising does to one piece it does there
    in the whole, too, since no letter composes with a space."""
    if len(text) <= PIECE_CHARACTERS:
        encoded, plain = text.encode("utf-8"), normalised(text)
        own = hash_bytes(encoded)
        return own, own if plain == text else hash_text(plain), len(encoded)
    whole, words = hashlib.blake2b(digest_size=8), hashlib.blake2b(digest_size=8)
    size, between, at = 0, "", 0
    while at < len(text):
        stop = _word_end(text, at + PIECE_CHARACTERS)
        piece = text[at:stop]
        encoded = piece.encode("utf-8")
        whole.update(encoded)
        size += len(encoded)
        if plain := normalised(piece):
            words.update(f"{between}{plain}".encode())
            between = " "
        at = stop
    own, other = (int.from_bytes(one.digest(), "little") for one in (whole, words))
    return own, other, size


def _word_end(text: str, at: int) -> int:
    """The first place from ``at`` on where a word ends; the end where none does."""
    while at < len(text) and not text[at].isspace():
        found = SPACE.search(text, at, at + PIECE_CHARACTERS)
        at = found.start() if found else at + PIECE_CHARACTERS
    return min(at, len(text))


def normalised(text: str) -> str:
    """What the split compares: NFC, runs of whitespace as one space."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def mix(hashes: np.ndarray, seed: int | str) -> np.ndarray:
    """A seeded pseudo-random uint64 per hash (splitmix64's finaliser, Steele et al. 2014)."""
    salt = np.uint64(hash_bytes(str(seed).encode()))
    z = np.asarray(hashes, np.uint64) ^ salt
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def later_copies(texts: np.ndarray) -> np.ndarray:
    """Which documents repeat the text of an earlier one."""
    result = np.zeros(len(texts), bool)
    order = np.argsort(texts, kind="stable")
    ordered = texts[order]
    result[order[1:][ordered[1:] == ordered[:-1]]] = True
    return result


def number_copies(ids: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Per document: which copy of its (id, text) it is (0 is the first), and whether its id was
    first given to another text. Only documents that share an id cost more than memory for both.
    """
    ordinal, variant = np.zeros(len(ids), np.uint32), np.zeros(len(ids), bool)
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    same = ordered[1:] == ordered[:-1]
    del ordered
    shared = np.zeros(len(ids), bool)
    shared[order[1:][same]] = True
    shared[order[:-1][same]] = True
    del order
    members = np.flatnonzero(shared)
    if len(members):
        i, t = ids[members], texts[members]
        first = np.ones(len(members), bool)
        by_id = np.lexsort((members, i))
        first[by_id[1:]] = i[by_id[1:]] != i[by_id[:-1]]
        starts = np.flatnonzero(first[by_id])
        owner = np.repeat(t[by_id][starts], np.diff(np.append(starts, len(members))))
        variant[members[by_id]] = t[by_id] != owner
        by_text = np.lexsort((members, t, i))
        new = np.ones(len(members), bool)
        new[1:] = (i[by_text][1:] != i[by_text][:-1]) | (t[by_text][1:] != t[by_text][:-1])
        starts = np.flatnonzero(new)
        run = np.repeat(starts, np.diff(np.append(starts, len(members))))
        ordinal[members[by_text]] = np.arange(len(members)) - run
        given = [hash_text(f"{text:016x}") for text in t.tolist()]
        users = i != np.array(given, np.uint64)  # an id made from the text is nobody's duplicate
        repeats = (~first) & users
        return ordinal, variant, int(repeats.sum())
    return ordinal, variant, 0


def final_id(
    plain: str, text: int, copy: int, variant: bool, taken: np.ndarray, given: set[int]
) -> str:
    """``plain``, or with ``#`` and the text's hash, and ``-2``, ``-3`` for copies; unique."""
    if copy == 0 and not variant:
        return plain
    stem = f"{plain}#{text & 0xFFFFFFFF:08x}" if variant else plain
    number = copy + 1
    while True:
        result = stem if number == 1 else f"{stem}-{number}"
        hashed = hash_text(result)
        at = int(np.searchsorted(taken, np.uint64(hashed)))
        if (at == len(taken) or int(taken[at]) != hashed) and hashed not in given:
            given.add(hashed)
            return result
        number += 1
