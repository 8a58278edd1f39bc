"""One voice command and its answer: when it ends, what is said, and the run that joins the stages."""
