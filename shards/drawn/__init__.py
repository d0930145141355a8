"""Drawn talking faces for the sample corpus: shaded portraits from a seed. No photograph and nobody's likeness is involved."""
