"""The errors that are the user's to mend, and how they are told."""

from configs.base import ConfigError
from input_pipeline.errors import DataError
from model.errors import ModelError


class UserError(ValueError):
    """Something asked of train/ cannot be done: one sentence of what, where and what to do."""


USER_ERRORS = (UserError, ConfigError, DataError, ModelError)
