"""What a code session keeps and does: its state, the actions that change it and the queries that read it."""
