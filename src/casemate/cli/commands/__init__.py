"""One module per verb, each with `HELP: str` (one line) and `main(arguments: list[str]) -> int`."""
