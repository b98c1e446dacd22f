"""Awkward texts: what encoders disagree about first: spaces, bytes, and what spells a token."""

from __future__ import annotations

UNKNOWN, END_OF_TEXT = "<unk>", "<|endoftext|>"
SPACE_MARK = "\N{LOWER ONE EIGHTH BLOCK}"
AWKWARD = (
    "", " ", "  ", " a", "a ", "  two  spaces  ", "\n", "\n\n\tx\r\n", "a\nb", "\x00\x01\x7f",
    "caf\u00e9 cafe\u0301", "\u4f60\u597d \U0001f600\U0001f468\u200d\U0001f469", "\ufeffBOM",
    "\u202eoverride\u2028", f"{SPACE_MARK}block{SPACE_MARK}", "<0x41><0xFF>", "0123456789",
    UNKNOWN, END_OF_TEXT,
    f"text {END_OF_TEXT} more {UNKNOWN}text{END_OF_TEXT}", "<s></s><pad>", f" {END_OF_TEXT}",
    f" = 1 {UNKNOWN} / s", f"\0{UNKNOWN}\0", "\r", "word" * 5000,
)  # fmt: skip
