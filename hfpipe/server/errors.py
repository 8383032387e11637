"""Answer errors as OpenAI's API does: `{"error": {"message", "type", "param", "code"}}`."""

import traceback

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ..pipeline.engine_cancel import Cancelled
from ..pipeline.errors import AudioTooLong, NoSpeech
from ..pipeline.logs import logger

TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error"}


class ApiError(Exception):
    """An error to answer with.

    Args:
        status: of HTTP.
        message: what was got, what is valid, what to do.
        code: a word by which programs know it.
        param: the parameter that is wrong.
        retry_after: whole seconds after which to try again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.retry_after = status, message, code, param, retry_after

    @property
    def body(self) -> dict:
        """The error as OpenAI's clients read it."""
        kind = "rate_limit_error" if self.status == 429 else "server_error" if self.status >= 500 else None
        message = self.message.encode("utf-8", "replace").decode()  # a lone surrogate can't be sent
        kind = kind or TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The error as an HTTP response."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body, self.status, headers)


def as_api_error(error: BaseException) -> ApiError:
    """Return what a client is told about an error; one that isn't the client's is logged, without its message."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, NoSpeech):
        return ApiError(400, str(error), "no_speech")
    if isinstance(error, AudioTooLong):
        return ApiError(413, str(error), "too_long")
    if isinstance(error, ValueError):
        return ApiError(400, str(error), "invalid_value")
    if isinstance(error, Cancelled):
        return ApiError(503, "the server is being stopped, or the answer wasn't read; ask again.", "cancelled")
    # A message may quote what somebody said.
    frames = "".join(traceback.format_tb(error.__traceback__)[-4:])
    logger.error("%s in a request:\n%s", type(error).__name__, frames)
    if isinstance(error, MemoryError):
        return ApiError(503, str(error), "out_of_memory")
    if isinstance(error, TimeoutError):
        return ApiError(504, "the language model took too long; try again later.", "llm_timeout")
    if isinstance(error, ConnectionError):
        return ApiError(502, "the language model can't be reached; try again later.", "llm_unreachable")
    return ApiError(500, f"{type(error).__name__} in the server; its log says where.", "internal_error")


def add_error_handlers(app: FastAPI) -> None:
    """Let an app answer all its errors in this form."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        return as_api_error(error).response()

    async def answer_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        hint = {404: f"there is no {request.url.path}; /docs lists what there is", 405: "this method isn't valid here"}
        message = hint.get(error.status_code, str(error.detail))
        response = ApiError(error.status_code, message).response()
        response.headers.update(error.headers or {})
        return response

    async def answer_validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"][1:]) or None
        return ApiError(400, f"{param or 'the body'}: {first['msg']}.", first["type"], param).response()

    # A handler of Exception answers and then raises again, which uvicorn would log with what was said in it.
    own, builtin = (ApiError, Cancelled), (ValueError, MemoryError, RuntimeError, TypeError, OSError, LookupError)
    for kind in (*own, *builtin, ArithmeticError, AssertionError, AttributeError, ImportError):
        app.add_exception_handler(kind, answer)
    app.add_exception_handler(Exception, answer)
    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(RequestValidationError, answer_validation)
