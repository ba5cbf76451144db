"""The error that bad input data raises: one sentence that says what, where and what to do."""


class DataError(ValueError):
    """Bad input of the user's: a file, a field, a label. Its message is one sentence."""
