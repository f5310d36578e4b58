"""Training: tag classifiers, the edge network, and the ranker of proposals."""
