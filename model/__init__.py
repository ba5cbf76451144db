"""Transformer language models as pure functions: ``build(config) -> Model(init, apply, axes)``."""
