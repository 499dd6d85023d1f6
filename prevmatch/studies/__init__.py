"""What several runs say together: comparisons and the published tables."""
