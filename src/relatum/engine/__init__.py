"""Steps, runs, samples."""
