"""The errors that are the user's to mend, and how they are told."""

from configs.base import ConfigError
from input_pipeline.errors import DataError
from model.errors import ModelError


class UserError(ValueError):
    """Something asked of train/ cannot be done: one sentence of what, where and what to do."""


class Diverged(UserError):  # noqa: N818  says what happened, as StopIteration does
    """The loss stopped being a number."""


USER_ERRORS = (UserError, ConfigError, DataError, ModelError)
