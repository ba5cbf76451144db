"""The command line: ``pretune <command> ...`` is ``python -m train.<module> ...``.

Bad input ends in one sentence on stderr and exit code 2, Ctrl-C in 130 and SIGTERM in 143; anything
else is a bug and keeps its traceback.
"""

import difflib
import importlib
import inspect
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence

from absl import flags
from ml_collections import config_flags

from train.heap import keep_heap
from train.interrupts import Terminated, interruptible

COMMANDS = {
    "train": ("train.main", "pre-train or fine-tune one model"),
    "evaluate": (
        "train.evaluate",
        "loss of a trained model on held-out text",
    ),
    "score": ("train.score", "evaluation sets by likelihood: grammar, bias, choices, text"),
    "generate": ("train.generate", "continue a prompt with a trained model"),
    "import": ("train.import_weights", "published weights to a folder for init_from"),
    "export": ("train.export_weights", "a trained model to a folder for transformers"),
    "benchmark": ("train.benchmark", "time the training step and decoding of a config"),
    "study": ("train.study.main", "compare: many runs, statistics, a report"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print("usage: pretune COMMAND [--flags]   (pretune COMMAND --help tells more)\n")
        for name, (module, purpose) in COMMANDS.items():
            print(f"  {name:<10} {purpose}   (python -m {module})")
        return 0
    if argv[0] not in COMMANDS:
        near = difflib.get_close_matches(argv[0], COMMANDS, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        print(
            f"There is no command {argv[0]!r}.{hint} Commands: {', '.join(COMMANDS)}.",
            file=sys.stderr,
        )
        return 2
    return importlib.import_module(COMMANDS[argv[0]][0]).main(argv[1:])


def command(
    run: Callable[[flags.FlagValues], int | None],
    argv: Sequence[str] | None,
    define: Callable[[flags.FlagValues, Sequence[str]], None],
    help_text: str,
    keys: str = "configs.base",
) -> int:
    """Parses flags, runs a command, and turns the user's errors into a sentence and exit code 2.

    Args:
      run: the command, given its parsed flags.
      argv: arguments without the program's name; None: the process's.
      define: defines the flags on a fresh FlagValues (none are global: commands share a process),
        given the arguments.
      help_text: what ``--help`` prints before the flags.
      keys: the module whose get_config has the keys of --config, for ``--help``.

    Returns:
      The exit code.
    """
    keep_heap()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # silence XLA's start-up notes
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax and Grain log every call
    logging.basicConfig(format="%(message)s")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    from train.errors import USER_ERRORS  # imports jax: after the environment is set

    argv = list(sys.argv[1:] if argv is None else argv)
    values = flags.FlagValues()
    define(values, argv)
    if any(arg in ("-h", "--help", "-help") for arg in argv):
        print(inspect.cleandoc(help_text), "\n\nFlags:")
        print(values.get_help(include_special_flags=False))
        if "config" in values:
            print(config_keys(keys))
        return 0
    try:
        extra = values(["pretune", *argv])[1:]
        _ = "config" in values and values.config  # loads the file
    except (flags.Error, OSError, AttributeError, KeyError) as error:
        return _fail(_flag_problem(error))
    if extra:
        return _fail(f"Unexpected argument {extra[0]!r}: flags are written --name=value.")
    try:
        with interruptible():
            return run(values) or 0
    except USER_ERRORS as error:
        return _fail(str(error))
    except Terminated:
        return 143  # 128 + SIGTERM, as shells have it
    except KeyboardInterrupt:
        print("pretune: stopped.", file=sys.stderr)
        return 130  # 128 + SIGINT


def _flag_problem(error: BaseException) -> str:
    """What is wrong with the flags, out of the exceptions that absl and ml_collections nest."""
    from train.errors import USER_ERRORS

    chain: list[BaseException] = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(inner)
    if isinstance(chain[-1], USER_ERRORS):  # from the config file's own function
        return str(chain[-1])
    if isinstance(error, OSError):
        return f"--config: {str(error).splitlines()[-1].strip()}."
    if isinstance(error, flags.Error) and "Traceback" not in str(error):
        return str(error)
    if not isinstance(error, AttributeError | KeyError):
        raise error  # a bug in the config file
    if found := re.search(r'Did you mean "(\w+)" instead of "(\w+)"', str(error)):
        return f"There is no config key {found[2]!r} (did you mean {found[1]!r}?); see --help."
    return f"There is no config key {str(chain[-1]).strip(chr(34) + chr(39))!r}; see --help."


def _fail(sentence: str) -> int:
    print(f"pretune: {' '.join(sentence.split())}", file=sys.stderr)
    return 2


def define_config(values: flags.FlagValues, argv: Sequence[str]) -> None:
    """The flag ``--config=FILE[:ARGUMENT]`` with the ``--config.KEY=VALUE`` overrides in `argv`."""
    config_flags.DEFINE_config_file(
        "config",
        None,
        "config file, e.g. configs/bert.py:size=tiny",
        flag_values=values,
        sys_argv=list(argv),
    )


def config_keys(module: str) -> str:
    """The keys of a module's get_config with their defaults and comments, as text for ``--help``.

    A comment is behind its key or on the lines above it. Groups of keys are left out, and so are
    defaults of several lines.
    """
    get_config = importlib.import_module(module).get_config
    lines, comment = ["Config keys (--config.KEY=VALUE) with their defaults:"], []
    for line in inspect.getsource(get_config).splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped.lstrip("# "))
            continue
        found = re.match(r"c\.([\w.]+) = (.*?)(?:  # (.*))?$", stripped)
        if found and "ConfigDict(" not in found[2]:
            value = "(...)" if found[2] == "(" else found[2]
            text = found[3] or " ".join(comment)
            lines.append(f"  {found[1]:<30} {value:<22} {text}".rstrip())
        comment = []
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
