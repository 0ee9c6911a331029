"""The resources of a workspace, a prompt about them, and completions of their arguments."""

import json
from typing import Any

import mcp_types as types
from mcp.shared.exceptions import MCPError

from loadtest.reference import novamart
from loadtest.reference.tools import Principal, Toolbox

ENTITIES_URI = "novamart://entities"
ENTITY_TEMPLATE = "novamart://entities/{name}"
PROMPT = "explain_metric"
_MIME_TYPE = "application/json"
_MOST_VALUES = 100  # of a completion (MCP, Completion)

RESOURCES = [types.Resource(uri=ENTITIES_URI, name="entities", mime_type=_MIME_TYPE)]
TEMPLATES = [
    types.ResourceTemplate(uri_template=ENTITY_TEMPLATE, name="entity", mime_type=_MIME_TYPE)
]
PROMPTS = [
    types.Prompt(
        name=PROMPT,
        description="Explain a metric of the workspace.",
        arguments=[types.PromptArgument(name="id", description="a metric's id", required=True)],
    )
]


async def read_resource(
    toolbox: Toolbox, principal: Principal, uri: str
) -> types.ReadResourceResult:
    """Return the list of entities, or one of them."""
    name = uri.removeprefix(f"{ENTITIES_URI}/") if uri != ENTITIES_URI else None
    arguments = {} if name is None else {"name": name}
    body = await _ask(toolbox, principal, "describeEntity" if name else "listEntities", arguments)
    text = types.TextResourceContents(uri=uri, mime_type=_MIME_TYPE, text=json.dumps(body))
    return types.ReadResourceResult(contents=[text])


async def get_prompt(
    toolbox: Toolbox, principal: Principal, name: str, arguments: dict[str, str]
) -> types.GetPromptResult:
    """Return the messages of the prompt, with the metric's value."""
    if name != PROMPT:
        raise MCPError(code=types.INVALID_PARAMS, message=f"Unknown prompt: {name}")
    metric = await _ask(toolbox, principal, "runMetric", arguments)
    text = f"Explain why {metric['label']} is {metric['value']}."
    message = types.PromptMessage(role="user", content=types.TextContent(type="text", text=text))
    return types.GetPromptResult(messages=[message])


async def complete(
    toolbox: Toolbox, principal: Principal, params: types.CompleteRequestParams
) -> types.CompleteResult:
    """Return the metrics, or the entities, that begin with what was typed."""
    listed = await _ask(toolbox, principal, "listEntities", {})
    known = {
        ("ref/prompt", PROMPT, "id"): list(novamart.METRICS),
        ("ref/resource", ENTITY_TEMPLATE, "name"): [each["name"] for each in listed["entities"]],
    }
    ref: Any = params.ref
    target = ref.name if ref.type == "ref/prompt" else ref.uri
    values = known.get((ref.type, target, params.argument.name))
    if values is None:
        raise MCPError(code=types.INVALID_PARAMS, message="Nothing to complete for this reference")
    found = [value for value in values if value.startswith(params.argument.value)]
    return types.CompleteResult(completion=types.Completion(values=found[:_MOST_VALUES]))


async def _ask(
    toolbox: Toolbox, principal: Principal, tool: str, arguments: dict[str, str]
) -> dict[str, Any]:
    """Return what a tool answers; its failure is a JSON-RPC error."""
    result = await toolbox.call(principal, tool, arguments)
    text: str = result["content"][0]["text"]
    if result.get("isError"):
        raise MCPError(code=types.INVALID_PARAMS, message=text)
    body: dict[str, Any] = json.loads(text)
    return body
