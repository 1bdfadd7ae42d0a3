"""One module per skill; each is a function of a directory and a list of files that returns findings."""
