"""The error that a wrong model configuration raises; its message is one sentence for the user."""


class ModelError(ValueError):
    """A model cannot be built or fed as asked: says what, where and what to do."""
