"""Text of tokens that are still coming never takes back a character."""

import itertools

import numpy as np
import pytest

from input_pipeline.tokenizers import train_tokenizer
from train.text_stream import TextStream

TEXT = ["the quick brown fox's 7 naïve cafés, jumps! 日本語 🦊 over the lazy dogs."] * 20


def grow(decode, prompt, new, stops=(), every=1):
    """The text after each `every` tokens."""
    stream, shown = TextStream(decode, prompt, stops), []
    for n in [*range(1, len(new), every), len(new)]:
        stream.update(new[:n], n == len(new))
        shown.append(stream.text)
    assert stream.finished
    return shown


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram", "sp_bpe", "char"])
def test_pieces_join_to_the_text(kind):
    tokenizer = train_tokenizer(kind, TEXT, 400, lowercase=False)
    rng = np.random.default_rng(0)
    texts = [tokenizer.encode(TEXT[0])]
    # Any ids: half characters, words within words, special tokens.
    texts += [rng.integers(0, tokenizer.vocab_size, 60) for _ in range(20)]
    whole_words = 0
    for ids in texts:
        prompt, new = ids[:9].tolist(), ids[9:].tolist()
        shown = grow(tokenizer.decode, prompt, new)
        assert tokenizer.decode(prompt) + shown[-1] == tokenizer.decode(ids)
        for before, after in itertools.pairwise(shown):
            assert after.startswith(before)
        assert len(set(shown)) > 7  # it grows by the way
        whole_words += " " in shown[-1]
    assert whole_words


def test_a_character_comes_whole():
    decode = lambda ids: bytes(ids).decode("utf-8", "replace")  # noqa: E731
    new = list("é🦊!".encode())
    assert grow(decode, [65], new) == ["", "é", "é", "é", "é", "é🦊", "é🦊!"]
    assert grow(decode, [], new[:-2])[-1] == "é\N{REPLACEMENT CHARACTER}"  # no more will come


def letters(ids):
    return "".join(map(chr, ids))


def codes(text):
    return list(map(ord, text))


@pytest.mark.parametrize("every", [1, 2, 5, 99])
def test_stop_strings(every):
    run = lambda text, *stops: grow(letters, codes("x"), codes(text), stops, every)  # noqa: E731
    assert run("one. two", ". ")[-1] == "one"
    assert run("one.two", ". ")[-1] == "one.two"
    assert run("aab abc", "ab", "abc")[-1] == "a"
    # The string that is complete first ends the text, however many tokens come at a time.
    assert run("abcd", "abc", "b")[-1] == "a"
    assert run("abcd", "bcd", "c")[-1] == "ab"
    assert run("b", "xb")[-1] == "b"  # not across the prompt's end


def test_what_may_become_a_stop_string_waits():
    shown = grow(letters, [], codes("a\n\nb"), ["\n\nUser", "\n"])
    assert shown == ["a"] * 4
    assert grow(letters, [], codes("xEND?"), ["END!"]) == ["x", "x", "x", "x", "xEND?"]
