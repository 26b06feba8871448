"""Errors as `application/problem+json` (RFC 9457): one clear sentence, never a traceback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from conceptseg.errors import ConceptSegError, ImageError, OptionError, PromptError, ShapeError

ABOUT_THE_REQUEST = (ImageError, PromptError, OptionError, ShapeError)
MEDIA_TYPE = "application/problem+json"


class ProblemDetails(BaseModel):
    """What every error answer holds."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class Problem(Exception):
    """Ends a request with this status and sentence."""

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str] | None = None, **extra: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.extra = status, detail, headers, extra

    def response(self) -> JSONResponse:
        details = ProblemDetails(title=HTTPStatus(self.status).phrase, status=self.status, detail=self.detail)
        content = {**details.model_dump(), **self.extra}
        return JSONResponse(content, self.status, self.headers, media_type=MEDIA_TYPE)


def documented(descriptions: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """Problems as OpenAPI describes them, by their status."""
    content = {MEDIA_TYPE: {"schema": ProblemDetails.model_json_schema()}}
    return {status: {"description": text, "content": content} for status, text in descriptions.items()}


def busy(detail: str, retry_after: float) -> Problem:
    """503, and in how many seconds to ask again."""
    return Problem(503, detail, {"Retry-After": str(max(1, round(retry_after)))})


def as_problem(error: ConceptSegError) -> Problem:
    """The library's own message; what is wrong with the request is 422, with the model 500."""
    return Problem(422 if isinstance(error, ABOUT_THE_REQUEST) else 500, str(error))


def validation_message(errors: Sequence[Any]) -> str:
    """Pydantic's errors in one line: where, and what would be right."""
    return "; ".join(
        f"{'.'.join(str(part) for part in error['loc'] if part != 'body') or 'body'}: {error['msg']}"
        for error in errors
    )


def install(app: FastAPI) -> None:
    """Have every error of this app end as a problem."""

    async def problem(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)
        return error.response()

    async def mistake(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ConceptSegError)
        return as_problem(error).response()

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return Problem(422, validation_message(error.errors())).response()

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return Problem(error.status_code, f"{error.detail}: {request.method} {request.url.path}").response()

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(ConceptSegError, mistake)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
