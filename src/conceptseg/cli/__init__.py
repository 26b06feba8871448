"""The command line: each command parses, calls the library, prints. The app is in `conceptseg.cli.main`."""
