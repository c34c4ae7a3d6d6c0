"""The whole idea on one floor: paths, predictions, outcomes, draws, ranks. Needs torch and the standard library only."""
