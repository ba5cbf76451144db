"""Plain values: every run is a config, every config starts from base.py."""
