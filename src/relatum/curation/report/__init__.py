"""The page about one curation run: what came in, what is left, why, and pictures to judge each threshold by."""

from .page import html_of, write_page
from .view import Clips, Cost, Curated, Filter, Rung, Step, Threshold, Trouble

__all__ = ["Clips", "Cost", "Curated", "Filter", "Rung", "Step", "Threshold", "Trouble", "html_of", "write_page"]
