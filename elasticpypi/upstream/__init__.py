"""Other indexes, which are asked for names that are not ours."""
