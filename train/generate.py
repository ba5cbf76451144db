"""``pretune generate``: continue a prompt with a trained model.

pretune generate --workdir=runs/gpt --prompt='O Romeo' --new_tokens=200 --temperature=0.8
"""

import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from train.cli import command


def _define(values: flags.FlagValues, argv: Sequence[str]) -> None:
    text, number = flags.DEFINE_string, flags.DEFINE_float
    text("workdir", None, "folder of the trained run", flag_values=values)
    flags.DEFINE_multi_string(
        "prompt", ["\n"], "text to continue; repeat for several", flag_values=values
    )
    flags.DEFINE_integer("new_tokens", 200, "tokens to add", flag_values=values)
    number("temperature", 0.8, "0 takes the most likely token", flag_values=values)
    flags.DEFINE_integer("top_k", 0, "only the k most likely tokens; 0: all", flag_values=values)
    number("top_p", 1.0, "only the smallest set with this probability", flag_values=values)
    flags.DEFINE_integer("seed", 0, "of the draws", flag_values=values)
    flags.mark_flag_as_required("workdir", flag_values=values)


def _run(values: flags.FlagValues) -> None:
    import jax

    from input_pipeline.tokenizers import load_tokenizer
    from model.api import build
    from model.decode import Sampling, generate
    from train import objectives
    from train.checkpoint import abstract, load_parts
    from train.errors import UserError
    from train.mesh import make_mesh, param_shardings
    from train.setup import enable_compilation_cache
    from train.workdir import read_config

    workdir = pathlib.Path(values.workdir)
    config = read_config(workdir)
    enable_compilation_cache(config.compilation_cache)
    tokenizer = load_tokenizer(workdir / "tokenizer")
    config.model.vocab_size = config.model.vocab_size or tokenizer.vocab_size
    heads = objectives.build(config, 0).head()
    if not heads.lm:
        raise UserError(
            f"{workdir} was trained with {config.objective.name}, which predicts no tokens; "
            "generate from a run of objective causal_lm."
        )
    model = build(config.model, heads)
    mesh = make_mesh({"data": 1, "fsdp": 1, "sequence": 1, "tensor": 1})
    places = param_shardings(model.axes, model.shapes, mesh, config.sharding)
    aim = {name: abstract(model.shapes[name], places[name]) for name in ("backbone", "head")}
    aim = {name: part for name, part in aim.items() if jax.tree.leaves(part)}
    params = {"head": {}, **load_parts(workdir, aim)}
    sampling = Sampling(values.temperature, values.top_k, values.top_p)
    prompts = [tokenizer.encode(prompt).tolist() for prompt in values.prompt]
    stop = -1 if tokenizer.eos_id is None else tokenizer.eos_id
    texts = generate(
        model, config.model, params, prompts, new_tokens=values.new_tokens,
        sampling=sampling, seed=values.seed, stop=stop,
    )  # fmt: skip
    for prompt, new in zip(prompts, texts, strict=True):
        print(tokenizer.decode([*prompt, *new.tolist()]))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return command(_run, argv, _define, __doc__)


if __name__ == "__main__":
    sys.exit(main())
