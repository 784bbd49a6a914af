"""A media file as a thing: where it lies, whether it opens, what its packets say."""
