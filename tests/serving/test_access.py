"""Keys and origins."""

import base64

import pytest

from tests.serving.conftest import assert_problem

KEY = "a-long-secret"


def test_without_a_key_only_open_paths_answer(start):
    client = start(api_key=KEY)
    for path in ("/", "/docs", "/openapi.json", "/healthz", "/readyz", "/health", "/static/main.js"):
        assert client.get(path).status_code == 200
    for path in ("/v1/models", "/metrics"):
        assert_problem(client.get(path), 401, "API key")
    refused = client.post("/v1/predict", json={})
    assert_problem(refused, 401)
    assert refused.json()["error"]["code"] == "UNAUTHORIZED" and refused.json()["success"] is False
    basic = base64.b64encode(f"anybody:{KEY}".encode()).decode()
    for headers in (
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"Basic {basic}"},
        {"X-API-Key": KEY},
        {"Token": KEY},
    ):
        assert client.get("/v1/models", headers=headers).status_code == 200
    for headers in (
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": "Basic !"},
        {"X-API-Key": ""},
        {"Authorization": KEY},
    ):
        assert_problem(client.get("/v1/models", headers=headers), 401)


def test_pages_from_elsewhere_are_refused_unless_allowed(start):
    client = start(cors_origins=("https://tool.example",))
    own = str(client.base_url).rstrip("/")
    assert client.get("/v1/models", headers={"Origin": own}).status_code == 200
    assert_problem(client.get("/v1/models", headers={"Origin": "https://evil.example"}), 403, "evil.example")
    assert_problem(client.post("/v1/segment", headers={"Origin": "null"}), 403)
    allowed = client.get("/v1/models", headers={"Origin": "https://tool.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://tool.example"


@pytest.mark.parametrize("origin", ["https://tool.example", "http://localhost:3000"])
def test_cors_is_off_by_default(client, origin):
    asked = client.options("/v1/segment", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
    assert asked.status_code == 403 and "access-control-allow-origin" not in asked.headers


def test_the_page_may_load_nothing_from_elsewhere(client):
    page = client.get("/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "//" not in page.text.replace("<!doctype", "")
