"""Files of a run, a cache or a bundle: written whole, read within bounds and held against a digest."""
