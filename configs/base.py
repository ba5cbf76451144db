"""Every configuration key that exists, with its default and what it means.

A config file is a function ``get_config(arg="") -> ConfigDict`` that starts from this one and
changes values; the command line changes them further (``--config.optimizer.learning_rate=1e-3``).
A key that is not here is an error. Plain values only: nothing of ours is imported.
"""

import difflib
from typing import Any

from ml_collections import ConfigDict


class ConfigError(ValueError):
    """A config cannot be built as asked; the message is one sentence for the user."""


def get_config() -> ConfigDict:
    """All keys with their defaults. The comments here are what ``--help`` prints."""
    c = ConfigDict()
    c.seed = 0  # of initialisation, order of the data, masking and dropout
    c.steps = 1000  # optimizer steps
    c.epochs = 0.0  # passes over the training rows, which then give the steps; 0: steps counts
    c.batch_size = 32  # rows in a global batch, over all devices and micro-batches
    c.length = 128  # tokens in a row
    c.accumulate = 1  # micro-batches a step; batch_size must be a multiple
    c.init_from = ""  # workdir of a pre-trained run: its backbone and tokenizer are the start
    c.reinit = ()  # patterns (see optimizer.rules) of what starts fresh all the same
    c.compilation_cache = "~/.cache/pretune/xla"  # compiled programs are kept here; "" for none

    c.model = ConfigDict()
    c.model.family = "bert"  # gpt | bert | roberta | xlnet | t5; "" takes all from init_from
    c.model.vocab_size = 0  # 0: the tokenizer's
    c.model.width = 128  # size of the hidden states
    c.model.num_layers = 2
    c.model.num_heads = 2
    c.model.num_decoder_layers = 0  # of an encoder-decoder (T5); 0: num_layers
    c.model.head_size = 0  # of each attention head (T5); 0: width / num_heads
    c.model.mlp_width = 512  # hidden size of the feed-forward blocks
    c.model.max_length = 512  # rows of the position table
    c.model.num_token_types = 2  # sentence A/B embeddings (BERT)
    c.model.relative_buckets = 32  # of distances that share a position bias (T5)
    c.model.relative_max_distance = 128  # from here on distances share the last bucket (T5)
    c.model.tie_embeddings = True  # the output weights are the token embedding (T5)
    c.model.mem_len = 0  # states of earlier tokens that each layer keeps; 0: no memory (XLNet)
    c.model.reuse_len = 0  # the first tokens of a row go into it; 0: all (XLNet)
    # bi: all tokens see each other; uni: the earlier ones (BERT, RoBERTa, XLNet)
    c.model.attention_type = "bi"
    c.model.clamp_length = 0  # farther tokens count as this far; 0: no clamping (XLNet)
    c.model.untie_biases = True  # every layer has its own relative biases (XLNet)
    c.model.dropout = 0.1  # of embeddings, attention weights and residual branches
    c.model.activation = "gelu"  # gelu (exact) | gelu_tanh | relu; T5 also gated_ and one
    c.model.layer_norm_epsilon = 1e-12
    c.model.initializer_std = 0.02
    c.model.dtype = "float32"  # of activations and products: float32 | bfloat16 (float64 in tests)
    c.model.remat = "none"  # what the backward pass recomputes: none | dots | full
    c.model.scan_layers = False  # one compiled layer for the whole stack: compiles faster

    c.objective = ConfigDict()
    c.objective.name = "masked_lm"  # a module of train/objectives
    c.objective.mask_rate = 0.15  # share of the tokens that are predicted (masked_lm*)
    c.objective.whole_word = False  # mask all pieces of a word together (masked_lm*)
    c.objective.packing = "windows"  # windows | full_sentences | doc_sentences (masked_lm)
    c.objective.pairs = "segments"  # what A and B are: segments | sentences (masked_lm_nsp)
    c.objective.span_context = 6  # K: one token in about K is predicted (permutation_lm)
    # words of a predicted span, at most; 0: single tokens (permutation_lm)
    c.objective.max_span = 5
    c.objective.bidirectional = True  # half of the rows read the text backwards (permutation_lm)
    c.objective.pooling = "own"  # what is classified: own ([CLS] or last token) | mean of all
    c.objective.noise_rate = 0.15  # share of the tokens that are dropped (span_corruption)
    c.objective.mean_span = 3.0  # mean length of a dropped span (span_corruption)
    c.objective.target_length = 0  # tokens of an answer; 0: length (text_to_text) or half of it
    c.objective.z_loss = 0.0  # weight of log(Z)^2, which keeps logits near 0 (encoder-decoders)
    c.objective.label_smoothing = 0.0  # share of the target that all classes or tokens have alike
    c.objective.lm_weight = 0.0  # of the text's own loss beside the label's (classification, GPT)
    c.objective.stride = 128  # tokens by which the windows of a context lie apart (extractive_qa)
    c.objective.max_question = 64  # tokens of a question (extractive_qa)
    c.objective.max_answer = 30  # tokens of a predicted answer, at most (extractive_qa)
    c.objective.no_answer = False  # questions may have none, as in SQuAD 2.0 (extractive_qa)
    c.objective.null_threshold = 0.0  # by how much "none" must score higher (extractive_qa)
    c.objective.skip_bad_answers = False  # leave out answers that are not in their context
    # role, text before and text behind what it says; loss on the assistant's (instruction)
    c.objective.chat_template = (
        ("system", "", "\n\n"), ("user", "User: ", "\n"), ("assistant", "Assistant:", "\n"),
    )  # fmt: skip
    c.objective.isolate_documents = True  # attention stays within a document of a packed row

    c.data = ConfigDict()
    c.data.source = "tfds:pydocs/text"  # tfds:NAME[/config], files or globs, comma separated
    # (source, input, target) triples, e.g. ("train.tsv", "sst2 sentence: {sentence}", "{label}")
    c.data.tasks = ()
    c.data.eval_tasks = ()  # to evaluate on; (): hold out some of each task
    c.data.weights = ()  # mixture weight of each source, then each task; (): by their sizes
    c.data.mixture_cap = 0  # so many rows at most count as a source's size (T5's K); 0: all
    c.data.mixture_temperature = 1.0  # T: rates are as size^(1/T); 1: proportional to size
    c.data.split = "train"  # of TFDS sources
    # "": the same source, by eval_split or by holdout (of tasks: eval_tasks)
    c.data.eval_source = ""
    c.data.eval_split = ""  # of TFDS sources; "": hold out
    # share kept for evaluation when nothing else is said: a text's tail, records drawn at random
    c.data.holdout = 0.05
    c.data.document = "file"  # what a document of a .txt file is: file | paragraph | line
    c.data.text_field = "text"  # column name, or its number for files without a header
    c.data.text_b_field = ""  # the second text of a pair; "": single texts
    c.data.label_field = "label"
    c.data.choice_fields = ("choices",)  # one list of texts, or several texts (multiple_choice)
    c.data.id_field = ""  # what names a question in the predictions (extractive_qa)
    c.data.format = ""  # of files (input_pipeline/formats.py); "" goes by their suffix
    c.data.labels = ()  # label names in order; (): those of the training split, sorted
    c.data.budget = 0  # labelled examples to train on, drawn by the seed; 0: all
    # 0: each epoch draws windows, pairs and masks anew; k: k epochs are drawn once and repeat for
    # ever (static masking; BERT's published data had 10)
    c.data.copies = 0
    c.data.errors = "strict"  # bytes that are no UTF-8: strict stops, replace goes on
    c.data.data_dir = ""  # where TFDS keeps its data; "": its default
    c.data.cache_dir = ""  # tokenised text is kept here; "": in the workdir
    c.data.max_tokenizer_bytes = 20_000_000  # to train the tokenizer; held-out tail too
    c.data.prefetch = 8  # batches prepared ahead

    c.tokenizer = ConfigDict()
    c.tokenizer.kind = "wordpiece"  # wordpiece | bpe | unigram | sp_bpe | char
    c.tokenizer.path = ""  # load this one (folder or file); "": train one on the source
    c.tokenizer.vocab_size = 8192  # of a tokenizer that is trained
    c.tokenizer.sentinels = 0  # ids at the vocabulary's end that stand for dropped spans (T5: 100)
    c.tokenizer.lowercase = False  # fold case and strip accents before splitting

    c.optimizer = ConfigDict()
    c.optimizer.name = "adamw"  # adamw | adafactor | lamb | lion | muon | sgd
    c.optimizer.learning_rate = 1e-3  # the peak
    c.optimizer.schedule = "linear"  # after warmup: linear | cosine | rsqrt | constant
    c.optimizer.warmup_steps = 100
    c.optimizer.warmup_share = 0.0  # of the steps, instead of warmup_steps; 0: warmup_steps counts
    c.optimizer.end_factor = 0.0  # last learning rate over the peak (linear, cosine)
    c.optimizer.b1 = 0.9  # of adamw, lamb, lion, and muon's Adam
    c.optimizer.b2 = 0.999  # of the same; lion's published value is 0.99
    c.optimizer.epsilon = 1e-6  # of adamw, lamb, and muon's Adam
    c.optimizer.momentum = 0.95  # of sgd (0: none) and of muon's matrices
    c.optimizer.weight_decay = 0.01  # of all: decoupled, times the learning rate
    c.optimizer.clip_norm = 1.0  # of the global gradient of what learns; 0: no clipping
    c.optimizer.ema_decay = 0.0  # evaluate an average of the weights, which forgets so; 0: off
    # (pattern, group) pairs: the first pattern found in a parameter's path, or in its path with
    # layers counted from the top (layer_-1 is the last, layer_-0 what follows it), gives its group.
    # A pattern after "!" must be found in neither.
    c.optimizer.rules = ((r"(bias|/scale)$", "no_decay"), (r"", "decay"))
    # group -> (learning rate factor, weight decay factor) or, with a third number, the first step
    # in which it learns (without: by unfreeze_every); a learning rate factor of 0 freezes.
    c.optimizer.groups = ConfigDict({"decay": (1.0, 1.0), "no_decay": (1.0, 0.0)})
    # Depth: 0 the heads and what follows the layers, 1 the last layer (of encoder and decoder),
    # ..., L the first one, L + 1 the embeddings.
    c.optimizer.layer_decay = 1.0  # learning rate factor for each step of depth; 1: off
    c.optimizer.unfreeze_every = 0  # steps after which the next depth starts to learn; 0: at once
    c.optimizer.unfreeze_by = 0.0  # instead: share of the steps at which the deepest starts; 0: off

    c.adapters = ConfigDict()  # small trained maps on linear maps of the backbone
    c.adapters.lora_rank = 0  # of LoRA; 0: off
    c.adapters.lora_alpha = 16.0  # its product counts alpha / rank
    c.adapters.lora_dropout = 0.0  # of its input
    # query | key | value | out | up | down | gate (T5) | position (XLNet) | pooler (BERT)
    c.adapters.lora_targets = ("query", "value")
    c.adapters.bottleneck = 0  # hidden size of bottleneck adapters; 0: off
    c.adapters.bottleneck_targets = ("out", "down")  # on their outputs
    c.adapters.bottleneck_activation = "gelu"  # gelu | gelu_tanh | relu

    c.evaluation = ConfigDict()
    c.evaluation.every = 200  # steps; 0: at the end only
    c.evaluation.batch_size = 0  # 0: as in training
    c.evaluation.max_rows = 0  # 0: the whole held-out split
    c.evaluation.metric = "eval/loss"  # what "best" means
    c.evaluation.higher_is_better = False
    c.evaluation.generate = 0  # held-out records to answer and compare (text_to_text, instruction)
    c.evaluation.patience = 0  # evaluations without a new best after which the run ends; 0: off

    c.checkpoint = ConfigDict()
    c.checkpoint.every = 500  # steps; the last step is always saved; 0: no checkpoints at all
    c.checkpoint.keep = 2  # newest ones to keep, besides the best

    c.logging = ConfigDict()
    c.logging.every = 20  # steps
    c.logging.tensorboard = True

    c.mesh = ConfigDict()  # devices along each axis; -1: all that are left
    c.mesh.data = -1  # rows split, parameters copied
    c.mesh.fsdp = 1  # rows and parameters split
    c.mesh.sequence = 1  # tokens of a row split
    c.mesh.tensor = 1  # heads, feed-forward and vocabulary split
    # logical axis name -> mesh axes (model/sharding.py)
    c.sharding = (
        ("batch", ("data", "fsdp")),
        ("sequence", ("sequence",)),
        ("heads", ("tensor",)),
        ("mlp", ("tensor",)),
        ("vocab", ("tensor",)),
        ("width", ("fsdp",)),
    )
    return c


def choose(kind: str, name: str, table: dict[str, Any]) -> Any:
    """``table[name]``, or a ConfigError that lists the names and the nearest one."""
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, 1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ConfigError(f"There is no {kind} {name!r}{hint}; choose one of {', '.join(table)}.")


def arguments(arg: str, **defaults: str) -> dict[str, str]:
    """Reads a config argument such as ``size=tiny,task=pair``; ConfigError on an unknown key."""
    values = dict(defaults)
    for item in filter(None, arg.split(",")):
        key, _, value = item.partition("=")
        choose("config argument", key, defaults)
        values[key] = value
    return values


def lock(c: ConfigDict) -> ConfigDict:
    """Locks the config: from here on only existing keys can be set, with their own type."""
    return c.lock()
