"""Published ablations: each names the paper's table, its figures and the ordering to expect."""
