"""Tokenizers, and every document encoded once into one flat file."""
