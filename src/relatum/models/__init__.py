"""Networks behind one call, codecs, model families."""
