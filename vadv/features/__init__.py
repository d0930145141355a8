"""The frozen-feature cache: what frozen CLIP says of a clip is computed once and kept on a local disk (FORMAT.md)."""
