"""Words for the grounder: where they come from, and the classifiers that learn them."""
