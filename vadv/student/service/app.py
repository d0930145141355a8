"""The two routes: POST /predict and GET /health."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from vadv.student.predictor import Predictor
from vadv.student.service.batcher import Batcher, OverloadedError
from vadv.student.service.limits import Limits, LimitsMiddleware


class Question(BaseModel):
    """The body of POST /predict."""

    model_config = ConfigDict(extra="forbid", strict=True)
    texts: Annotated[list[str], Field(min_length=1)]


class Prediction(BaseModel):
    """What is said of one text."""

    sentiment: float
    cut: bool
    """Whether the text was longer than the student reads."""


class Answer(BaseModel):
    """The answer of POST /predict: one prediction per text, in order."""

    predictions: list[Prediction]


def build_app(predictor: Predictor, limits: Limits) -> FastAPI:
    """The service around a loaded student."""
    state: dict[str, Any] = {}

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher = state["batcher"] = Batcher(predictor, limits.waiting_texts)
        work = asyncio.create_task(batcher.run())
        yield
        # The server has finished the requests it had taken.
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work

    # The interactive pages would load scripts from elsewhere.
    app = FastAPI(title="VideoAdviser student", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(LimitsMiddleware, limits=limits)

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": _first(error)}, 422)

    @app.post("/predict")
    async def predict(question: Question) -> Answer:
        _check(question.texts, limits)
        try:
            values, cuts = await state["batcher"].predict(question.texts)
        except OverloadedError:
            raise HTTPException(503, "too many texts are waiting; try again", {"Retry-After": "1"}) from None
        if not all(map(math.isfinite, values.tolist())):
            raise HTTPException(500, "the model gave a number that is not finite")
        return Answer(
            predictions=[
                Prediction(sentiment=round(value, 6), cut=cut) for value, cut in zip(values.tolist(), cuts.tolist())
            ]
        )

    @app.get("/health")
    async def health() -> dict[str, Any]:
        student, batcher = predictor.student, state["batcher"]
        return {
            "status": "ok",
            "engine": predictor.engine.name,
            "max_tokens": student.max_tokens,
            "label_range": student.label_range,
            "waiting_texts": batcher.waiting,
            "batches": batcher.batches,
        }

    return app


def _check(texts: list[str], limits: Limits) -> None:
    if len(texts) > limits.texts:
        raise HTTPException(413, f"texts: expected at most {limits.texts} in a request, found {len(texts)}")
    for index, text in enumerate(texts):
        if not text.strip():
            raise HTTPException(422, f"texts[{index}]: expected a text, found an empty one")
        if "\0" in text:
            raise HTTPException(422, f"texts[{index}]: expected a text, found a NUL byte in it")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise HTTPException(422, f"texts[{index}]: expected Unicode, found half of a surrogate pair") from None


def _first(error: RequestValidationError) -> str:
    """One line for the first fault of a body."""
    fault = error.errors()[0]
    if fault["type"] == "json_invalid":
        return f"expected JSON, found {fault.get('ctx', {}).get('error', 'something else')}"
    place = ".".join(str(part) for part in fault["loc"] if part != "body") or "body"
    return f'{place}: {fault["msg"]}; expected {{"texts": ["…", …]}}'
