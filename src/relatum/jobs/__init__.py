"""What a recipe does when it runs: open, train, edit, evaluate."""
