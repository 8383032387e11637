"""What the server is and how it does: models, health, metrics, documentation."""

from html import escape

import prometheus_client
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from openai.types import Model
from pydantic import BaseModel

from .errors import ApiError
from .service import Service, service_of

router = APIRouter(tags=["status"])


class Models(BaseModel):
    """The models of the server, of which there is one."""

    object: str = "list"
    data: list[Model]


def _model(service: Service) -> Model:
    return Model(id=service.name, created=service.created, object="model", owned_by="hfpipe")


@router.get("/v1/models")
async def list_models(request: Request) -> Models:
    """List the model. Requests may name any: this one answers."""
    return Models(data=[_model(service_of(request))])


@router.get("/v1/models/{name:path}")
async def find_model(request: Request, name: str) -> Model:
    """Describe the model."""
    service = service_of(request)
    if name != service.name:
        raise ApiError(404, f"there is no model {name!r}; there is {service.name!r}.", "model_not_found", "model")
    return _model(service)


@router.get("/health/live")
async def is_live() -> dict[str, str]:
    """Answer while the process runs."""
    return {"status": "ok"}


@router.get("/health")
@router.get("/health/ready")
async def is_ready(request: Request) -> JSONResponse:
    """Answer 200 while requests are taken, and 503 while the queue is full or the server is being stopped."""
    service = service_of(request)
    work = service.work
    status = "stopping" if work.is_stopped else "full" if work.is_full else "ready"
    counts = {"running": work.running, "waiting": work.waiting, "sessions": len(service.sessions)}
    return JSONResponse({"status": status, **counts, **service.about}, 200 if status == "ready" else 503)


@router.get("/metrics", response_class=Response)
async def read_metrics(request: Request) -> Response:
    """Return the metrics in Prometheus's text format."""
    registry = service_of(request).metrics.registry
    return Response(prometheus_client.generate_latest(registry), media_type=prometheus_client.CONTENT_TYPE_LATEST)


@router.get("/docs", response_class=HTMLResponse, include_in_schema=False)
async def read_docs(request: Request) -> HTMLResponse:
    """Show the endpoints, without a script or anything from elsewhere."""
    schema = request.app.openapi()
    rows = [
        f"<tr><td><code>{method.upper()} {escape(path)}</code><td>{escape(about.get('description', ''))}"
        for path, methods in schema["paths"].items()
        for method, about in methods.items()
    ]
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(schema["info"]["title"])}</title>'
        f"<h1>{escape(schema['info']['title'])} {escape(schema['info']['version'])}</h1>"
        f'<table>{"".join(rows)}</table><p>Parameters and results: <a href="openapi.json">openapi.json</a></p></html>'
    )
