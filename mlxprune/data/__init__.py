"""Files to rows to an index, and the split of it by hash."""
