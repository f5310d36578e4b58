"""How probable it is that the best box of a phrase is right, and that the phrase is in the photo at all."""
