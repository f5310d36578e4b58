"""What is wrong with a download of Flickr30k and Flickr30k Entities, in words, and what to do: the command alone."""
