"""One HTML page that shows what a cache holds and how well a model does."""
