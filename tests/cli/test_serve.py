"""`conceptseg serve`: what is wrong is told before anything is loaded. It serves in tests/serving."""

import socket

from tests.cli.finished import assert_one_error


def test_wrong_options_end_in_one_line(run):
    assert_one_error(run("serve", "--api-key", "short"), "API key", "8 characters")
    assert_one_error(run("serve", "--cors-origin", "*"), "CORS origin '*'", "https://tool.example")
    assert_one_error(run("serve", "--queue", 0), "queue must be above 0")
    assert_one_error(run("serve", "--port", 99999), "65535", "--port")


def test_a_taken_port_is_told(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert_one_error(run("serve", "--port", taken.getsockname()[1]), "cannot listen", "in use")
