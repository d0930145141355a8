"""The page of a report: one HTML file that opens from disk, with its style, script, figures and clips inside it."""
