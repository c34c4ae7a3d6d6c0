"""Arms side by side: statistics and the report."""
