"""What a network is, and what may be chosen about it: graphs, structure, candidates."""
