"""Chat models behind an API, and the choice between several; the model in the process is `engines.llamacpp`."""
