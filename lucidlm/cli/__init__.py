"""The command line: a short function for each command, calling the library. No mathematics here."""
