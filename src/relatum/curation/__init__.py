"""From raw footage to training rows: a video is passed once, measured, split into clips; clips are kept or dropped with a reason."""
