"""Training: one loop, its objectives, its commands, and studies of many runs."""
