"""Likelihoods of texts under a trained model, and what evaluation sets make of them."""
