"""The text of tokens that are still coming."""

from collections.abc import Callable, Sequence

# What decoders put for bytes that are no character, or not yet: the rest may come.
INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """The text of one prompt's new tokens, as far as it cannot change any more.

    Prompt and new tokens are decoded together: a token's text depends on what it follows (a blank
    between words, none within one; one character of several tokens).

    Attributes:
      prompt: the prompt as its tokens read.
      text: what follows it; it only ever grows.
      finished: whether it is the whole text.
    """

    def __init__(
        self, decode: Callable[[Sequence[int]], str], prompt: Sequence[int], stops: Sequence[str]
    ) -> None:
        """Begins with no text.

        Args:
          decode: ids to text.
          prompt: ids in front of the text.
          stops: the first of these strings to be complete ends the text and is left out.
        """
        self._decode, self._ids, self._stops = decode, list(prompt), list(stops)
        self.prompt, self.text, self.finished = decode(self._ids), "", False

    def update(self, new: Sequence[int], last: bool) -> None:
        """Takes all new ids so far; `last`: no more will come."""
        if self.finished:
            return
        whole = self._decode([*self._ids, *new])[len(self.prompt) :]
        # By their ends, so that it does not matter how many tokens come at a time.
        ends = [(at + len(stop), at) for stop in self._stops if (at := whole.find(stop)) >= 0]
        if ends:
            self.text, self.finished = whole[: min(ends)[1]], True
        elif last:
            self.text, self.finished = whole, True
        else:
            self.text = whole[: self._stable(whole)]

    def _stable(self, whole: str) -> int:
        """How much of a text stays: not half a character, nor what may become a stop string."""
        size = len(whole.rstrip(INCOMPLETE))
        begun = (
            n
            for stop in self._stops
            for n in range(1, min(len(stop) - 1, size) + 1)
            if whole[size - n : size] == stop[:n]
        )
        return size - max(begun, default=0)
