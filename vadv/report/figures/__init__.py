"""Figures of a report, one file per figure; matplotlib is imported when the first one is drawn."""
