"""Turns a docstring into paragraphs of English prose.

Doctests, literal blocks, tables, formulas, signatures, headings and reStructuredText markup go;
sentences stay, those that describe parameters and results included (Google, NumPy and Sphinx style).
"""

import re
from dataclasses import dataclass, field

MIN_WORDS = 6
_SECTIONS = (
    "args arguments parameters params returns return yields raises attributes keyword".split()
)
_DROPPED = "see also|references|reference|citations?|authors?|bibliography|doctest|licen[cs]e"
_DROPPED_SECTION = re.compile(rf"(?i)(?:{_DROPPED}):?$")
_ITEM_SECTION = re.compile(
    rf"(?i)(?:other |keyword )?(?:{'|'.join(_SECTIONS)}|other parameters|warns|receives"
    r"|methods|fields|exceptions|keyword arguments|keyword args):?$"
)
_GOOGLE_SECTION = re.compile(r"(?i)[A-Z][A-Za-z ]{2,30}:$")
_UNDERLINE = re.compile(r"^\s*([-=~^*#\"+.])\1{2,}\s*$")
_DIRECTIVE = re.compile(r"^\s*\.\.(?:\s|$)")
# Directives whose body is prose; the body of any other is code, mathematics or an index entry.
_PROSE_DIRECTIVE = re.compile(
    r"^\s*\.\.\s+(?:note|warning|tip|important|caution|admonition|hint|seealso|attention)::\s*(.*)$"
    r"|^\s*\.\.\s+(?:versionadded|versionchanged|deprecated)::\s*\S*\s*(.*)$"
)
_FIELD = re.compile(r"^\s*[:@](\w+)(?:\s[^:]*)?:\s*(.*)$")
_ITEM = re.compile(
    r"^\*{0,2}`{0,2}\*{0,2}[\w.\[\]]+(?:`{0,2}, ?\*{0,2}[\w.]+)*`{0,2}(?:\s*\([^)]*\))?\s*(?::|--?)\s+(.*)$"
)
_BULLET = re.compile(r"^\s*(?:[-*+•]|\(?\d{1,2}[.)]|\(?[a-z]\)|#\.)\s+")
_COMMON = frozenset(
    "a all an and any are as at be been but by can do does each for from given has have if in into"
    " is it its may more must no not of on only or other over same should so such than that the"
    " their them then there these they this to used using was we when where which will with you"
    " your".split()
)
_NOT_PROSE = re.compile(
    r"(?i)copyright|licensed under|all rights reserved|http://|https://|>>>|spdx|^usage:|@article|@inproc|arxiv"
)
_INLINE = (
    (re.compile(r"`([^`<]*?)\s*<[^>`]*>`_{0,2}"), r"\1"),  # `text <target>`_
    (re.compile(r":[a-z][\w:+.-]*:`~?!?(?:[\w.]*\.)?([^`]*)`"), r"\1"),  # :func:`~a.b.c`
    (re.compile(r"!?\[([^\]]+)\]\([^)]*\)"), r"\1"),  # [text](target)
    (re.compile(r"<?\bhttps?://[^\s>)]+>?"), ""),
    (re.compile(r"\s*\[#?\w*\]_"), ""),  # [1]_
    (re.compile(r"``+\s?([^`]*?)\s?``+"), r"\1"),
    (re.compile(r"`([^`]*)`_{0,2}"), r"\1"),
    (re.compile(r"\*\*([^*\s][^*]*)\*\*"), r"\1"),
    (re.compile(r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])"), r"\1"),
    (re.compile(r"(?<!\w)_([A-Za-z][^_]*)_(?!\w)"), r"\1"),
    (re.compile(r"\|([A-Za-z_]\w*)\|"), r"\1"),
    (re.compile(r"[‘’]"), "'"),
    (re.compile(r"[“”]"), '"'),
    (re.compile(r"\s+"), " "),
    (re.compile(r"\s+([.,;])(?=\s|$)"), r"\1"),
    (re.compile(r"::?$"), ":"),
)
_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")


@dataclass
class _State:
    """What the line reader knows: the open paragraph, and which kind of block it is in."""

    done: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    skip_deeper_than: int = -1  # dropping a block: lines indented deeper than this; -1: none
    dropped_section: int = -1  # dropping a section that started at this indentation
    section: int = -1  # inside a list of parameters whose heading stood at this indentation
    item: int = -1  # indentation of that list's items; -1: not seen yet
    underlined: bool = False  # NumPy style: an item's own line is a name and a type

    def flush(self) -> None:
        if self.lines:
            self.done.append(" ".join(self.lines))
            self.lines = []


def paragraphs(docstring: str) -> list[str]:
    """Paragraphs of prose in `docstring` (already dedented), each on one line, in order."""
    state = _State()
    lines = docstring.expandtabs().splitlines()
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        _read_line(state, line.rstrip(), following)
    state.flush()
    cleaned = (_inline(text) for text in state.done)
    return [text for text in cleaned if is_prose(text)]


def is_prose(text: str) -> bool:
    """Whether a one-line paragraph reads as English sentences rather than code, a table or a name."""
    words = _WORD.findall(text)
    if len(words) < MIN_WORDS or _NOT_PROSE.search(text):
        return False
    letters = sum(map(len, words))
    solid = len(text) - text.count(" ")
    common = sum(word.lower() in _COMMON for word in words)
    ascii_share = len(text.encode("ascii", "ignore")) / len(text)
    code = sum(text.count(mark) for mark in "=_{}[]<>|\\^@#$%/")
    return (
        letters >= 0.78 * solid
        and common >= max(2, 0.17 * len(words))
        and ascii_share > 0.97
        and code <= 0.04 * solid
    )


def _read_line(state: _State, line: str, following: str) -> None:
    text = line.strip()
    indent = len(line) - len(line.lstrip())
    if not text:
        if state.skip_deeper_than == _DOCTEST:
            state.skip_deeper_than = -1
        state.flush()
        return
    if state.skip_deeper_than == _DOCTEST or indent > state.skip_deeper_than >= 0:
        return
    state.skip_deeper_than = -1
    if _starts_dropped_block(state, text, indent) or _starts_section(state, line, following):
        return
    if state.dropped_section >= 0:
        return
    match = _FIELD.match(line)
    if match:
        state.flush()
        if match[1] in ("type", "rtype", "vartype"):
            return
        text = match[2]
    elif state.section >= 0:
        text = _item_text(state, text, indent)
    elif _BULLET.match(line):
        state.flush()
        text = _BULLET.sub("", line)
    elif not state.lines and following[:1] == " " and _ITEM.match(text) and " : " in text:
        return  # a NumPy style parameter outside of a headed section
    if text:
        state.lines.append(text)
    if text.endswith("::"):
        state.flush()
        state.skip_deeper_than = indent


_DOCTEST = 1 << 20  # as `skip_deeper_than`: until the next blank line, at any indentation


def _starts_dropped_block(state: _State, text: str, indent: int) -> bool:
    if text.startswith((">>>", "In [", "```", "$ ", "| ", "+-", "+=")):
        state.flush()
        state.skip_deeper_than = _DOCTEST
        return True
    if _DIRECTIVE.match(text):
        state.flush()
        match = _PROSE_DIRECTIVE.match(text)
        if match:
            state.lines.extend(part for part in match.groups() if part)
        else:
            state.skip_deeper_than = indent
        return True
    return False


def _starts_section(state: _State, line: str, following: str) -> bool:
    text, indent = line.strip(), len(line) - len(line.lstrip())
    if _UNDERLINE.match(line):
        state.lines = []  # the heading itself
        return True
    underlined = bool(_UNDERLINE.match(following)) and len(following.strip()) >= len(text) - 3
    in_item = state.section >= 0 and indent > state.section
    headed = underlined or (bool(_GOOGLE_SECTION.match(text)) and not state.lines and not in_item)
    dropped = bool(_DROPPED_SECTION.match(text))
    items = bool(_ITEM_SECTION.match(text))
    if underlined or (headed and (dropped or items)):
        state.flush()
        state.dropped_section = indent if dropped else -1
        state.section = indent if items else -1
        state.item, state.underlined = -1, underlined
        return True
    if state.dropped_section >= 0 and headed and indent <= state.dropped_section:
        state.dropped_section = -1
    if state.section >= 0 and not state.underlined and indent <= state.section:
        state.flush()
        state.section = -1
    return False


def _item_text(state: _State, text: str, indent: int) -> str:
    if state.item < 0:
        state.item = indent
    if indent > state.item:
        bullet = _BULLET.match(text)
        if bullet:
            state.flush()
        return text[bullet.end() :] if bullet else text
    state.flush()
    if state.underlined:
        return ""
    match = _ITEM.match(text)
    if match:
        return match[1]
    return _BULLET.sub("", text)


def _inline(text: str) -> str:
    for pattern, replacement in _INLINE:
        text = pattern.sub(replacement, text)
    return text.strip()
