"""The negative log-likelihood of every document, into one file."""
