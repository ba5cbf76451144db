"""``pretune generate``: continue prompts with a trained model.

pretune generate --workdir=runs/gpt --prompt='O Romeo' --new_tokens=200 --temperature=0.8
pretune generate --workdir=runs/gpt --prompts=prompts.txt --num_beams=4 --json > texts.jsonl

Tokens are drawn (temperature, top_k, top_p), or with --num_beams the most likely text is searched
for. The same seed gives the same texts, whatever the other prompts and --batch_size. On a terminal
the text appears as it is produced. Without a prompt a text begins as those of training do. An
encoder-decoder (t5) answers the prompt, in which <extra_id_0>, <extra_id_1> ... stand for spans to
fill in; in the answer they stand before what fills them.
"""

import functools
import json
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags

from train.cli import command
from train.text_stream import TextStream

STRETCH = 16  # tokens between two looks for stop strings, where nobody watches the text grow


def _define(values: flags.FlagValues, argv: Sequence[str]) -> None:
    own = {"flag_values": values}
    text, texts = flags.DEFINE_string, flags.DEFINE_multi_string
    whole, number, switch = flags.DEFINE_integer, flags.DEFINE_float, flags.DEFINE_bool
    text("workdir", None, "folder of the trained run", **own)
    texts("prompt", None, "text to continue; repeat for several (default: a new text)", **own)
    text("prompts", None, "file of prompts, one a line", **own)
    whole("num_samples", 1, "texts for each prompt; with beams, the best ones", **own)
    whole("new_tokens", 200, "tokens to add at most", **own)
    whole("min_new_tokens", 0, "tokens to add before a stop token may come", **own)
    number("temperature", None, "0 takes the most likely token (default: 0.8)", **own)
    whole("top_k", 0, "only the k most likely tokens; 0: all", **own)
    number("top_p", 1.0, "only the smallest set with this probability", **own)
    number("repetition_penalty", 1.0, "above 1: less of what was said; 1: none", **own)
    whole("num_beams", 0, "beam search with so many beams; 0: draw tokens", **own)
    number("length_penalty", 1.0, "beams: score = log-probability / length^this", **own)
    switch("early_stopping", False, "beams: end with the first num_beams texts", **own)
    texts("stop", [], "a text ends before this string; repeat for several", **own)
    texts(
        "stop_token", [],
        "a text ends at this token, as the vocabulary spells it; repeat for several "
        "(the end-of-text token always does)", **own,
    )  # fmt: skip
    whole("seed", 0, "of the draws", lower_bound=-(2**63), upper_bound=2**63 - 1, **own)
    whole("batch_size", 16, "texts at a time", **own)
    switch("json", False, "a JSON object a text: prompt, sample (its number), text", **own)
    switch("stream", None, "print as tokens come (default: on a terminal)", **own)
    flags.mark_flag_as_required("workdir", flag_values=values)


class Page:
    """Prints texts in their order, each as far as it is known."""

    def __init__(self, streams: Sequence[TextStream], with_prompt: bool) -> None:
        """Prints nothing yet; `with_prompt`: the prompt in front of each text."""
        self._streams, self._with_prompt, self._row, self._shown = streams, with_prompt, 0, 0

    def show(self) -> None:
        """Prints what is new."""
        while self._row < len(self._streams):
            stream = self._streams[self._row]
            text = (stream.prompt if self._with_prompt else "") + stream.text
            print(text[self._shown :], end="\n" if stream.finished else "", flush=True)
            self._shown = len(text)
            if not stream.finished:
                return
            self._row, self._shown = self._row + 1, 0


def _prompts(values: flags.FlagValues) -> list[str] | None:
    """The prompts; None where none is given."""
    from train.errors import UserError

    if values.prompts is None:
        return values.prompt
    if values.prompt is not None:
        raise UserError("Give either --prompt or --prompts, not both.")
    try:
        lines = pathlib.Path(values.prompts).read_bytes().decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--prompts={values.prompts} cannot be read: {error}.") from error
    if not lines:
        raise UserError(f"--prompts={values.prompts} holds no prompt; write one a line.")
    return lines


def _way(values: flags.FlagValues) -> Any:
    """How tokens are chosen: Sampling or Beams."""
    from model.decode import Beams, Sampling
    from train.errors import UserError

    if not values.num_beams:
        if values.length_penalty != 1 or values.early_stopping:
            raise UserError(
                "--length_penalty and --early_stopping are for beam search: set --num_beams, or "
                "leave them out."
            )
        temperature = 0.8 if values.temperature is None else values.temperature
        return Sampling(temperature, values.top_k, values.top_p, values.repetition_penalty)
    if values.temperature or values.top_k or values.top_p != 1:
        raise UserError(
            "Beam search draws nothing: leave out --temperature, --top_k and --top_p, or "
            "--num_beams."
        )
    return Beams(
        values.num_beams, values.length_penalty, values.early_stopping, values.repetition_penalty
    )


def _stop_tokens(tokenizer: Any, names: Sequence[str]) -> list[int]:
    from train.errors import UserError
    from train.seq2seq import end_of_text

    ids = {name: tokenizer.id_of(name) for name in names}
    if unknown := [name for name, token in ids.items() if token is None]:
        raise UserError(
            f"--stop_token={unknown[0]!r} is no token of the run's vocabulary; spell it as the "
            "vocabulary does, or end at a string with --stop."
        )
    return sorted({*end_of_text(tokenizer).tolist(), *ids.values()})


def _start(tokenizer: Any) -> list[int]:
    """What a text begins with in training: the end of the one before, else a line break."""
    from train.errors import UserError
    from train.seq2seq import end_of_text

    start = end_of_text(tokenizer).tolist() or [tokenizer.id_of("\n")]
    if start == [None]:
        raise UserError("The run's vocabulary has no token that begins a text; give a --prompt.")
    return start


def _source(tokenizer: Any, prompt: str, ends: bool) -> list[int]:
    """Token ids of what an encoder reads, as in training: sentinels, an end token if it `ends`."""
    from input_pipeline.tokenizers import SENTINEL
    from train.seq2seq import end_of_text

    parts = re.split(f"({SENTINEL.format('[0-9]+')})", prompt)
    spelt = {SENTINEL.format(number): [token] for number, token in enumerate(tokenizer.sentinels)}
    ids = [spelt[part] if part in spelt else tokenizer.encode(part) for part in parts]
    end = end_of_text(tokenizer) if ends else []
    return np.concatenate([*ids, end]).astype(int).tolist()


def _answer(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of what a decoder wrote; sentinels keep the spans that they announce apart."""
    from input_pipeline.tokenizers import SENTINEL

    number = {token: i for i, token in enumerate(tokenizer.sentinels.tolist())}
    parts, run = [], []
    for token in ids:
        if token in number:
            parts += [tokenizer.decode(run), SENTINEL.format(number[token])]
            run = []
        else:
            run.append(token)
    return " ".join(filter(None, [*parts, tokenizer.decode(run)]))


def _load(workdir: pathlib.Path) -> tuple[Any, Any, Any, Any, Any]:
    """A run's model, config.model, parameters, tokenizer and objective."""
    from input_pipeline.tokenizers import load_tokenizer
    from train import objectives
    from train.errors import UserError
    from train.restore import load_model
    from train.setup import enable_compilation_cache
    from train.workdir import read_config

    config = read_config(workdir)
    enable_compilation_cache(config.compilation_cache)
    tokenizer = load_tokenizer(workdir / "tokenizer")
    config.model.vocab_size = config.model.vocab_size or tokenizer.vocab_size
    objective = objectives.build(config, 0)
    if not objective.head().lm:
        raise UserError(
            f"{workdir} was trained with {config.objective.name}, which predicts no tokens; "
            "generate from a run of causal_lm or of an encoder-decoder's objectives."
        )
    model, params = load_model(workdir, config, objective.head())
    return model, config.model, params, tokenizer, objective


def _run(values: flags.FlagValues) -> None:
    from model.decode import check_prompts, decoder_of, generate
    from train.errors import UserError

    prompts, way, copies = _prompts(values), _way(values), values.num_samples
    if values.batch_size < 1 or "" in values.stop:
        raise UserError("--batch_size must be at least 1, and no --stop may be empty.")
    model, config, params, tokenizer, objective = _load(pathlib.Path(values.workdir))
    stop = _stop_tokens(tokenizer, values.stop_token)
    decoder = decoder_of(model, config)
    goes_on = decoder.first is None  # the text continues its prompt
    decode = tokenizer.decode if goes_on else functools.partial(_answer, tokenizer)
    if prompts is None and not goes_on:
        raise UserError("An encoder-decoder answers a text: give it with --prompt or --prompts.")
    ids = [tokenizer.encode(text).tolist() for text in prompts or []] or [_start(tokenizer)]
    check_prompts(decoder, ids, tokenizer.vocab_size)  # all, before the first text is printed
    if not goes_on:
        ids = [_source(tokenizer, prompt, objective.source_ends) for prompt in prompts]
    streaming = values.stream if values.stream is not None else sys.stdout.isatty()
    streaming = streaming and not values.json
    group = max(1, values.batch_size // max(1, copies))
    for start in range(0, len(ids), group):
        batch = ids[start : start + group]
        streams = [
            TextStream(decode, prompt if goes_on else [], values.stop)
            for prompt in batch
            for _ in range(copies)
        ]
        page = Page(streams, with_prompt=goes_on)

        def watch(new: Any, ended: Any, streams: Any = streams, page: Page = page) -> list[bool]:
            for stream, tokens, last in zip(streams, new, ended, strict=True):
                stream.update(tokens, bool(last))
            if streaming:
                page.show()
            return [stream.finished for stream in streams]

        texts = generate(
            model, config, params, batch, new_tokens=values.new_tokens, sampling=way,
            seed=values.seed, stop=stop, min_new_tokens=values.min_new_tokens,
            num_samples=copies, first_row=start * copies, vocab=tokenizer.vocab_size,
            watch=watch if streaming or values.stop else None, every=1 if streaming else STRETCH,
        )  # fmt: skip
        watch(texts, [True] * len(texts))
        if not values.json:
            page.show()
            continue
        for row, stream in enumerate(streams):
            prompt = prompts[start + row // copies] if prompts else ""
            fields = {"prompt": prompt, "sample": row % copies, "text": stream.text}
            print(json.dumps(fields, ensure_ascii=False), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return command(_run, argv, _define, __doc__)


if __name__ == "__main__":
    sys.exit(main())
