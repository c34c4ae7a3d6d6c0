"""Made-up inputs that several tests share."""
