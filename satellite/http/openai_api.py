"""OpenAI's API, so that existing clients work: `/v1/chat/completions`, `/v1/audio/*` and `/v1/models`."""

from fastapi import APIRouter

from satellite.errors import shown
from satellite.http import openai_audio, openai_chat
from satellite.http.context import Context
from satellite.http.http_errors import HttpError
from satellite.http.openai_schemas import OpenAIModel, OpenAIModels
from satellite.http.problems import responses


def routes(context: Context) -> APIRouter:
    """Return the endpoints."""
    router = APIRouter(prefix="/v1", tags=["OpenAI-compatible"])
    router.include_router(openai_chat.routes(context))
    router.include_router(openai_audio.routes(context))

    @router.get("/models", summary="The models", responses=responses(), response_model=OpenAIModels)
    async def models() -> OpenAIModels:
        """Return the one model there is to ask, the one that understands, and the voices."""
        return OpenAIModels(data=[OpenAIModel(id=name) for name in _names(context)])

    @router.get("/models/{model:path}", summary="A model", responses=responses(404), response_model=OpenAIModel)
    async def model(model: str) -> OpenAIModel:
        """Return one of them."""
        if model not in _names(context):
            raise HttpError(f"there is no model '{shown(model)}'", code="model_not_found", param="model")
        return OpenAIModel(id=model)

    return router


def _names(context: Context) -> list[str]:
    engines = context.stages.engines
    voices = [voice.name for voice in engines.synthesizer.engine.voices]
    return list(dict.fromkeys([openai_chat.MODEL, engines.transcriber.engine.model, *voices]))
