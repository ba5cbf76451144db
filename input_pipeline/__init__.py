"""From text to batches of fixed shape: sources, tokenizers, token stores, packing, order."""
