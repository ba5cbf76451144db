"""TFDS builders that ship with Pretune; importing the package registers them with TFDS."""

from input_pipeline.datasets.pydocs import Pydocs

__all__ = ["Pydocs"]
