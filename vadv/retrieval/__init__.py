"""Using trained students of the retrieval task: their folder, an index of clips, and questions to it."""
