"""The folder of published engines: where an engine lies, what it was made from, when it is used again."""
