"""The commands: a module each, with ``argument_parser()`` and ``main(arguments) -> int``."""
