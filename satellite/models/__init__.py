"""The models: what exists (`catalogue`), what is here (`store`), how it gets here (`hub`, `wheel`)."""
