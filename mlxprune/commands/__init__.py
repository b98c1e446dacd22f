"""The command line, command by command: arguments in, an engine call, words out."""
