"""TFDS builders that ship with Pretune; importing a builder's module registers it with TFDS."""
