"""Scores of grounding: Flickr30k Entities and the other experiments of the paper."""
