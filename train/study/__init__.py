"""Many runs to one answer: what pre-training bought, with intervals and a report."""
