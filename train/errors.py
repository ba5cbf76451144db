"""The errors that are the user's to mend, and how they are told."""

from configs.base import ConfigError
from input_pipeline.errors import DataError
from model.errors import ModelError


class UserError(ValueError):
    """Something asked of train/ cannot be done: one sentence of what, where and what to do."""


class Busy(UserError):  # noqa: N818  says what is so, as StopIteration does
    """Another process holds the folder."""


class Diverged(UserError):  # noqa: N818  likewise
    """The loss stopped being a number."""


USER_ERRORS = (UserError, ConfigError, DataError, ModelError)
