"""Explain a classifier: which classes it sees in a photo, and where the evidence for each of them is."""
