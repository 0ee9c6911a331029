"""Check the credentials of the load-test user, and what the target demands besides them."""

from loadtest.common.command_name import spell
from loadtest.common.redaction import LEAST_SECRET, is_hidable
from loadtest.config.access import list_variables
from loadtest.config.settings import Credentials, Settings, check_hosted
from loadtest.doctor.check import Check
from loadtest.errors import LoadtestError

_HIDABLE = f"choose one of at least {LEAST_SECRET} characters that is not a plain word"


def examine_credentials(settings: Settings) -> Check:
    """Check that there is a user, a password and a workspace, or that provision makes them."""
    who = settings.credentials
    if settings.environment.provision == "none":
        return _examine_given_credentials(settings)
    if who.email and who.password and who.workspace_id:
        return _examine_password(who, f"{who.email}, workspace {who.workspace_id}")
    try:
        check_hosted(settings, "LOADTEST_EMAIL")
    except LoadtestError as failure:
        remedy = "set it to the e-mail address of the load-test user; provision creates the user"
        return Check("credentials", "missing", str(failure), remedy)
    have = {"user": who.email, "password": who.password, "workspace": who.workspace_id}
    lacking = ", ".join(name for name, value in have.items() if not value)
    return Check(
        "credentials", "later", f"no {lacking} yet", f"{spell('provision')} makes what is missing"
    )


def examine_access(settings: Settings) -> Check:
    """Check the headers and the client certificate that the target demands."""
    access, what = settings.access, "access"
    try:
        check_hosted(settings)
    except LoadtestError as failure:
        return Check(what, "missing", str(failure), "see docs/reference/settings.md")
    parts = [f"the headers {', '.join(access.headers)}"] if access.headers else []
    parts += ["a client certificate"] if access.certificate else []
    used = {name for text in settings.environment.headers.values() for name in list_variables(text)}
    plain = [name for name in sorted(used) if not is_hidable(settings.variables[name])]
    if plain:
        detail = f"{', '.join(plain)}: too short or plain to be redacted when a server quotes it"
        return Check(what, "warn", detail, _HIDABLE)
    return Check(what, "ok", f"{' and '.join(parts)}, only to {settings.base_url}")


def _examine_given_credentials(settings: Settings) -> Check:
    """Check what provision does not make here: a user, and a workspace if the path needs one."""
    who = settings.credentials
    have = {"LOADTEST_EMAIL": who.email, "LOADTEST_PASSWORD": who.password}
    if "{workspace_id}" in settings.environment.mcp_path:
        have["LOADTEST_WORKSPACE_ID"] = who.workspace_id
    lacking = ", ".join(name for name, value in have.items() if not value)
    if lacking:
        remedy = "set them; with LOADTEST_BEARER or a client secret, mint needs no user"
        return Check("credentials", "later", f"no {lacking}", remedy)
    return _examine_password(who, f"{who.email}, nothing to provision")


def _examine_password(who: Credentials, detail: str) -> Check:
    """Check that the password can be redacted from a server's messages."""
    if who.password is None or is_hidable(who.password.get_secret_value()):
        return Check("credentials", "ok", detail)
    detail = "the password is too short or plain to be redacted when a server quotes it"
    return Check("credentials", "warn", detail, _HIDABLE)
