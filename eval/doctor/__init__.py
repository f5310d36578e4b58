"""Check a download of Flickr30k and Flickr30k Entities, and say what is wrong and what to do about it."""
