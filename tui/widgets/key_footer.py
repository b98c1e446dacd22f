"""Key footer: Textual's Footer that is made anew only where a key is other than before."""

from __future__ import annotations

from textual.screen import Screen
from textual.widgets import Footer

Signature = tuple[tuple[str, str, bool], ...]


class KeyFooter(Footer):
    """Making all its keys anew takes as long as drawing the screen, and Textual does so at every
    change of the focus."""

    def __init__(self) -> None:
        super().__init__(show_command_palette=False, compact=True)
        self.made: Signature = ()

    def bindings_changed(self, screen: Screen[object]) -> None:
        shown = tuple(
            (key, binding.description, enabled)
            for key, (_, binding, enabled, _) in screen.active_bindings.items()
            if binding.show
        )
        if screen is not self.screen or shown == self.made:
            return
        self.made = shown
        super().bindings_changed(screen)
