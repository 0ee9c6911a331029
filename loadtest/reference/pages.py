"""Serve the pages of the web origin: sign-in, consent, and the front page with its tour."""

import asyncio

from jinja2 import Environment, PackageLoader
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from loadtest.reference.deployment import Deployment
from loadtest.reference.identity import find_identity


class WebPages:
    """Server-rendered pages that call the API from the browser, as in the product."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._templates = Environment(
            loader=PackageLoader("loadtest.reference"), autoescape=True, trim_blocks=True
        )

    def build_app(self) -> Starlette:
        """Return the application of the web origin; unknown paths redirect to the sign-in page."""
        return Starlette(
            routes=[
                Route("/login", self.sign_in),
                Route("/two-factor", self.second_factor),
                Route("/oauth2/consent", self.consent),
                Route("/change-password", self.change_password),
                Route("/", self.front),
                Route("/{anything:path}", self.elsewhere, methods=["GET", "POST"]),
            ]
        )

    async def sign_in(self, _request: Request) -> Response:
        """Serve the sign-in page; with a knob, a share of the visits ends on the front page."""
        share = self._deployment.knobs.race_share
        loses = share > 0 and self._deployment.rng.random() < share
        return await self._render("login.html", loses_race=loses)

    async def second_factor(self, _request: Request) -> Response:
        """Serve the page that asks for a one-time code."""
        return await self._render("second_factor.html")

    async def consent(self, request: Request) -> Response:
        """Serve the consent page to a signed-in user."""
        identity = find_identity(self._deployment, request)
        if identity is None:
            return self._to_sign_in()
        if identity.user.must_change_password:
            return self._to_new_password(request)
        return await self._render("consent.html")

    async def change_password(self, request: Request) -> Response:
        """Serve the page that asks for a new password, then continues the earlier request."""
        if find_identity(self._deployment, request) is None:
            return self._to_sign_in()
        return await self._render("change_password.html")

    async def front(self, request: Request) -> Response:
        """Serve the front page to a signed-in user."""
        identity = find_identity(self._deployment, request)
        if identity is None:
            return self._to_sign_in()
        if identity.user.must_change_password:
            return self._to_new_password(request)
        tour = self._deployment.knobs.tour
        return await self._render("front.html", name=identity.user.name, tour=tour)

    async def elsewhere(self, _request: Request) -> Response:
        """Redirect any other path to the sign-in page."""
        return self._to_sign_in()

    def _to_sign_in(self) -> Response:
        return RedirectResponse(f"{self._deployment.web_url}/login", 302)

    def _to_new_password(self, request: Request) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"{self._deployment.web_url}/change-password{query}", 302)

    async def _render(self, template: str, **values: object) -> Response:
        await asyncio.sleep(self._deployment.knobs.page_delay_ms / 1000)
        text = self._templates.get_template(template).render(api=self._deployment.api_url, **values)
        return HTMLResponse(text, headers={"Cache-Control": "no-store"})
