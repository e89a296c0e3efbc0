"""Tools: typed functions and what a model sees of them, the calls a model makes, their results. Runs none of them."""
