"""From raw footage to training rows: each video is decoded once, measured and split; clips are kept or dropped with a reason."""
