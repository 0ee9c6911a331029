"""The MCP server of the official SDK, with our toolbox."""

import logging
import sys
from typing import Any

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from loadtest.reference import asking, resources
from loadtest.reference.deployment import Deployment
from loadtest.reference.tools import Principal, Toolbox

HANDSHAKE_VERSIONS = frozenset(HANDSHAKE_PROTOCOL_VERSIONS)
STATELESS_VERSIONS = MODERN_PROTOCOL_VERSIONS
PRINCIPAL_KEY = "loadtest.principal"
"""The key of the caller in the ASGI scope."""


def build_manager(deployment: Deployment, toolbox: Toolbox) -> StreamableHTTPSessionManager:
    """Return the SDK's session manager with our tools, for both eras.

    It answers in JSON, which the edge frames as one SSE event; that is several times cheaper than
    an event stream of the SDK for each call.
    """
    # For each refusal that the edge reports anyway, the SDK logs a line with the session's id.
    logging.getLogger("mcp.server").setLevel(logging.ERROR)
    tools = types.ListToolsResult(
        tools=[
            types.Tool(
                name=name,
                description=tool.arguments.__doc__,
                input_schema=tool.input_schema(),
                annotations=types.ToolAnnotations(read_only_hint=True),
            )
            for name, tool in toolbox.tools.items()
        ]
    )

    async def list_tools(
        _ctx: Any, _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return tools

    async def call_tool(ctx: Any, params: types.CallToolRequestParams) -> Any:
        principal: Principal = ctx.request.scope[PRINCIPAL_KEY]
        if ctx.protocol_version in STATELESS_VERSIONS and asking.must_ask(deployment.knobs, params):
            return asking.build_question(deployment.knobs.asks)
        result = await toolbox.call(principal, params.name, params.arguments)
        # The stateless era requires it; the SDK omits it in replies of the handshake era.
        return {**result, "resultType": "complete"}

    async def list_resources(
        _ctx: Any, _params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        return types.ListResourcesResult(resources=resources.RESOURCES)

    async def list_templates(
        _ctx: Any, _params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(resource_templates=resources.TEMPLATES)

    async def list_prompts(
        _ctx: Any, _params: types.PaginatedRequestParams | None
    ) -> types.ListPromptsResult:
        return types.ListPromptsResult(prompts=resources.PROMPTS)

    async def read_resource(
        ctx: Any, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        principal = ctx.request.scope[PRINCIPAL_KEY]
        return await resources.read_resource(toolbox, principal, str(params.uri))

    async def get_prompt(ctx: Any, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        principal = ctx.request.scope[PRINCIPAL_KEY]
        return await resources.get_prompt(toolbox, principal, params.name, params.arguments or {})

    async def complete(ctx: Any, params: types.CompleteRequestParams) -> types.CompleteResult:
        return await resources.complete(toolbox, ctx.request.scope[PRINCIPAL_KEY], params)

    knobs = deployment.knobs
    server: Server[Any] = Server(
        "novamart",
        version="1.0.0",
        instructions="Query the workspace's NovaMart data.",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_subscriptions_listen=_build_listener() if knobs.streams else None,
    )
    return StreamableHTTPSessionManager(
        server,
        json_response=True,
        session_idle_timeout=None,
        max_sessions=None if knobs.cap_refusal == "tool-error" else knobs.session_cap,
    )


def _build_listener() -> ListenHandler:
    """Return what serves `subscriptions/listen`; the cap on streams is the edge's."""
    return ListenHandler(InMemorySubscriptionBus(), max_subscriptions=sys.maxsize)
