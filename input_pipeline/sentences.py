"""Splitting text into sentences by a simple rule."""

import re

# A sentence ends at a line break, or after . ! ? … (with closing quotation marks or brackets) where
# white space follows and the next word does not begin with a lower-case letter. Titles and single
# initials ("Mr. Darcy", "J. Smith") do not end one.
_END = re.compile(
    r"\n+"
    r"|(?:[!?…]|(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bSt)(?<!\bvs)(?<!\be\.g)(?<!\bi\.e)(?<!\b[A-Z])\.)"
    r"[\"'”’)\]]*(?:\n+|(?=\s+[^\sa-z]))"
)


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences; joined, they are the text again.

    A line break ends the sentence before it; a blank between sentences leads the second, as
    byte-level tokenizers expect.
    """
    sentences, start = [], 0
    for match in _END.finditer(text):
        sentences.append(text[start : match.end()])
        start = match.end()
    if start < len(text):
        sentences.append(text[start:])
    return sentences
