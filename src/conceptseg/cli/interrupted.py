"""Ctrl-C, with something to say about it."""

from __future__ import annotations


class Interrupted(Exception):
    """A command was stopped; the message says what was kept and how to go on."""
