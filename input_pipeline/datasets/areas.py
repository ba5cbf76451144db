"""The labelled task read off the documentation: which library area does a passage describe?

A passage is 30 to 80 words of consecutive prose of one module; its area follows from the module's
name. Names of libraries are masked, so the answer has to come from what the passage is about.
"""

import re
import sys
from collections.abc import Iterator

from input_pipeline.datasets.corpus import Prose, fraction
from input_pipeline.datasets.reader import COMMENTS

MIN_WORDS, MAX_WORDS = 30, 80
_MIN_PARAGRAPH = 10  # words; what is shorter mostly names a parameter
_ENOUGH_WORDS = 36  # a passage closes at the end of the paragraph that reaches this
QUOTAS = {"validation": 135, "train": 300, "test": 150}  # passages of an area, where text allows
_MAX_MODULE = 40  # passages; larger modules stay in the pre-training text, so no split hangs on one
_MAX_SHARE = 0.6  # of an area's passages; the other modules are pre-training text
MASK = "library"

# Modules by dotted prefix; the longest prefix decides.
AREAS = {
    "language": "pydoc_data.topics abc ast attr bdb builtins code codeop contextlib copy copyreg"
    " dataclasses dis enum functools importlib inspect opcode operator pkgutil pluggy pyclbr runpy"
    " symtable token tokenize trace traceback types typing typing_extensions weakref wrapt"
    " _collections_abc graphlib heapq bisect collections decimal _pydecimal fractions numbers",
    "text": "pygments jinja2 xml json re sre_parse string textwrap difflib codecs html markdown_it"
    " configparser csv tokenizers sentencepiece docstring_parser yaml toml tomllib simplejson"
    " humanize gettext locale unicodedata encodings plistlib datetime _strptime calendar"
    " charset_normalizer markupsafe mdurl quopri base64 stringprep idna dateutil pyparsing",
    "networking": "email asyncio urllib3 anyio http requests httpx httpx2 httpcore httpcore2 urllib"
    " smtplib wsgiref ipaddress xmlrpc ssl socket socketserver ftplib cgi nntplib imaplib telnetlib"
    " poplib h11 mailbox uvloop selectors aiohttp portpicker prometheus_client certifi cgitb"
    " asyncore asynchat websockets httplib2 execnet",
    "command_line": "click absl argparse optparse cmd rich tqdm simple_parsing logging pip"
    " setuptools distutils packaging pkg_resources venv zipapp platform subprocess shutil os"
    " pathlib tempfile psutil filelock getopt getpass glob fnmatch pdb readline rlcompleter site"
    " sysconfig signal pty curses typer termcolor shlex fileinput posixpath ntpath genericpath",
    "data_storage": "tensorflow_datasets grain orbax pyarrow huggingface_hub fsspec array_record"
    " datasets sqlite3 dbm shelve pickle pickletools zipfile tarfile gzip bz2 lzma zlib msgpack"
    " safetensors tensorstore cloudpickle google.protobuf etils.epath aiofiles h5py zarr",
    "numerics": "numpy jax.numpy jax._src.numpy jax._src.lax jax._src.scipy jax.scipy scipy"
    " jax._src.random jax.random statistics random optax.monte_carlo opt_einsum einops cmath math"
    " ml_dtypes",
    "neural_networks": "flax optax jax.nn jax._src.nn jax.example_libraries haiku torch"
    " transformers chex distrax keras equinox tensorboardX",
}
LABELS = tuple(AREAS)
_AREA_OF_PREFIX = {prefix: area for area, names in AREAS.items() for prefix in names.split()}
_ALIASES = "np jnp jsp lax nnx linen tfds ocp pa hf stats tensorflow pytorch arrow"


def area_of(module: str) -> str:
    """The area of a dotted module name; "" where it belongs to none, as comments (`name#`) do."""
    if module.endswith(COMMENTS):
        return ""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        area = _AREA_OF_PREFIX.get(".".join(parts[:length]))
        if area:
            return area
    return ""


def mask_names(text: str, module: str) -> str:
    """Replaces names of libraries, the passage's own among them, by a neutral word.

    Of a dotted name the last part stays: `numpy.linalg.norm` becomes `norm`.
    """
    top = module.partition(".")[0]
    own = re.compile(rf"(?i)(?<![\w.]){re.escape(top)}(?:\.\w+)*(?!\w)")
    return own.sub(_unqualified, _NAMES.sub(_unqualified, text))


def passages(paragraphs: list[str]) -> list[str]:
    """Cuts a module's paragraphs into runs of whole sentences, `MIN_WORDS` to `MAX_WORDS` long."""
    done, current = [], []
    telling = [text for text in paragraphs if len(text.split()) >= _MIN_PARAGRAPH]
    for paragraph in telling:
        for piece in _pieces(paragraph):
            size = len(piece.split())
            if sum(len(p.split()) for p in current) + size > MAX_WORDS:
                done.append(current)
                current = []
            current.append(piece)
        if sum(len(p.split()) for p in current) >= _ENOUGH_WORDS:
            done.append(current)
            current = []
    done.append(current)
    texts = [" ".join(pieces) for pieces in done]
    return [text for text in texts if MIN_WORDS <= len(text.split()) <= MAX_WORDS]


def divide(prose: Prose) -> dict[str, dict[str, list[str]]]:
    """Splits for the labelled task: split -> module -> passages, every area balanced alike.

    Modules of an area go, in the order of a stable hash of their names, to validation, to train,
    to test, until each holds its quota; all others are left to pre-training. The quotas shrink
    together where an area has little text.
    """
    parts: dict[str, dict[str, list[str]]] = {split: {} for split in QUOTAS}
    for area in LABELS:
        cut = {name: passages(texts) for name, texts in prose.items() if area_of(name) == area}
        small = {name: found for name, found in cut.items() if 0 < len(found) <= _MAX_MODULE}
        available = _MAX_SHARE * sum(map(len, cut.values()))
        scale = min(1.0, available / sum(QUOTAS.values()))
        order = iter(sorted(small, key=lambda name: fraction(name, "area")))
        for split, quota in QUOTAS.items():
            for name, found in _fill(order, small, int(quota * scale)):
                parts[split][name] = [mask_names(text, name) for text in found]
    return parts


def _fill(
    order: Iterator[str], small: dict[str, list[str]], quota: int
) -> Iterator[tuple[str, list[str]]]:
    while quota > 0 and (name := next(order, "")):
        yield name, small[name][:quota]
        quota -= len(small[name])


def _pieces(paragraph: str) -> list[str]:
    """The paragraph itself, or its sentences where it exceeds a passage."""
    if len(paragraph.split()) <= MAX_WORDS:
        return [paragraph]
    return re.split(r"(?<=[.!?])\s+(?=[A-Z\"'(])", paragraph)


def _unqualified(match: re.Match) -> str:
    head, dot, last = match[0].rpartition(".")
    return last if dot and head and not _NAMES.fullmatch(last) else MASK


def _library_names() -> re.Pattern:
    """Names of the distributions in the table; those of the standard library are common words."""
    tops = {prefix.partition(".")[0] for prefix in _AREA_OF_PREFIX} - sys.stdlib_module_names
    names = sorted({*tops, *_ALIASES.split()} - {"pydoc_data"})
    return re.compile(
        rf"(?i)(?<![\w.])(?:hugging face|{'|'.join(map(re.escape, names))})(?:\.\w+)*(?!\w)"
    )


_NAMES = _library_names()
