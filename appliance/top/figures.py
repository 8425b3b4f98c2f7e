"""Lines of text that are drawn anew only where they have changed."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static


class Figures(Static):
    """A text; the screen is laid out anew only where it has more or fewer lines than before."""

    _text = Text()
    _laid_out: tuple[int, int] = (0, 0)

    def show(self, text: Text) -> None:
        """Shows it, if it is not what is shown already."""
        if text == self._text:
            return
        self._text = text
        measure = (self.app.size.width, len(text.wrap(self.app.console, max(self.size.width, 1))))
        self.update(text, layout=measure != self._laid_out)
        self._laid_out = measure
