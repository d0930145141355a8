"""The student after training: predicting, exporting and serving a text-only Hugging Face folder. Needs no DeepSpeed."""
