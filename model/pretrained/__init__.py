"""Published weights in and out: Hugging Face's layout, safetensors only (describe, load, save)."""
