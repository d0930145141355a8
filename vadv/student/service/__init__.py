"""The student behind HTTP: one process, requests that come together are computed together."""
