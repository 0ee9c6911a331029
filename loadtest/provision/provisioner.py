"""Create a load-test user and a workspace with the NovaMart data; check before and after."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from loadtest.common.files import ensure_private_dir, read_valid, write_json
from loadtest.common.redaction import SecretStr
from loadtest.common.state_files import (
    LOCK_FILE,
    STATE_FILES,
    TARGET_FILES,
    check_own,
    remove_empty,
    remove_known,
)
from loadtest.config.env_file import parse_env_file
from loadtest.config.settings import Credentials, Settings
from loadtest.errors import ConfigError, LoadtestError, ProvisionError, TargetError
from loadtest.github.secrets import RepositorySecrets, open_secrets
from loadtest.github.workflow_commands import build_mask
from loadtest.provision.enrollment import enroll
from loadtest.provision.rotation import Places, change_password, invent_password
from loadtest.state.credentials import (
    EMAIL,
    NEXT,
    PASSWORD,
    TOTP_SECRET,
    WORKSPACE_ID,
    CredentialsFile,
    Known,
)
from loadtest.state.quotas import MOST_REQUESTS_PER_MINUTE, ensure_quota
from loadtest.target.mcp_client import WorkspaceClient
from loadtest.target.rest_client import (
    Accounts,
    EmailNotVerifiedError,
    NoAnswerError,
    PasswordChangeRequiredError,
    build_slug,
    find_second_factor,
)

PROVISION_VERSION = 1
RECORD_SECONDS = 3600
LOCK_WAIT_SECONDS = 600.0
# The longest time that an import from a killed run can still take on the server.
IMPORT_SECONDS = 120.0
IMPORT_POLL_SECONDS = 10.0
BASE_URL = "LOADTEST_BASE_URL"
REPOSITORIES_FILE = "handed.json"
OWNED_FILE = "owned.json"


class _RepositoryAddress(TypedDict):
    api_url: str
    repository: str


class _ClientOf(TypedDict):
    client_id: str


class _Registration(TypedDict):
    client: _ClientOf


class _Data(TypedDict):
    workspace_id: str
    state: str
    since: float


_Record = TypedDict("_Record", {"for": dict[str, str | None], "verified_at": float})
_RECORD, _DATA, _TEXT = TypeAdapter(_Record), TypeAdapter(_Data), TypeAdapter(str)
_CLIENTS, _REPOSITORIES = TypeAdapter(list[_Registration]), TypeAdapter(list[_RepositoryAddress])


@dataclass(frozen=True)
class ProvisionStep:
    """One thing that provisioning needs, and its state as text: *already there*, *made*, …

    `lasts` marks a credential that could not be removed.
    """

    what: str
    state: str
    lasts: bool = False

    def describe(self) -> str:
        """Return the step as a line."""
        return f"{self.state}: {self.what}"


@dataclass(frozen=True)
class Provisioned:
    """The credentials and the workspace, and the steps that provisioning took."""

    credentials: Credentials
    steps: tuple[ProvisionStep, ...]


def was_verified(settings: Settings) -> bool:
    """Return whether exactly these credentials were verified within the last hour."""
    path = settings.state_dir / "provision.json"
    if not path.exists() or NEXT in parse_env_file(settings.credentials_file):
        return False
    body = read_valid(path, PROVISION_VERSION, _RECORD, ProvisionError)
    age_seconds = time.time() - body["verified_at"]
    return 0 <= age_seconds < RECORD_SECONDS and body["for"] == _subject(
        settings.base_url, settings.credentials
    )


def _subject(base_url: str | None, credentials: Credentials) -> dict[str, str | None]:
    """Return what a verification is for; a reference target has no fixed origin."""
    who = {"email": credentials.email, "workspace_id": credentials.workspace_id}
    return {"base_url": base_url} | who


def provision(
    settings: Settings,
    base_url: str,
    say: Callable[[str], None],
    *,
    github_secrets: bool = False,
    enroll_totp: bool = False,
    bearer: SecretStr | None = None,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> Provisioned:
    """Make user, workspace and data if they are missing; verify them with the four tools.

    If no password is given, invent one and store it (0600) before the account is made, so that the
    next run can continue a killed one; a given password is not written. `bearer` reads the data
    where the target does not mint a bearer for that. `enroll_totp` enrols an authenticator app for
    the user. Raises ProvisionError and ConfigError.
    """
    work = Provisioner(settings, base_url, say, pause, github_secrets, clock)
    with work.lock():
        return work.provision(bearer, enroll_totp=enroll_totp)


def rotate(
    settings: Settings,
    base_url: str,
    say: Callable[[str], None],
    *,
    github_secrets: bool = False,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> ProvisionStep:
    """Change the password on the server and everywhere it is stored, or nowhere."""
    work = Provisioner(settings, base_url, say, pause, github_secrets, clock)
    with work.lock():
        return work.rotate()


def teardown(
    settings: Settings,
    base_url: str | None,
    say: Callable[[str], None],
    *,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> tuple[ProvisionStep, ...]:
    """Remove what we made on the server and in GitHub, list what stays, delete the local files.

    Credentials that still work are kept, and so are the files whose content mint could not revoke.
    `base_url` is None for a reference target, whose state is local. Raises TargetError while
    another process serves that state.
    """
    work = Provisioner(settings, base_url or "", say, pause, github_secrets=False, clock=clock)
    check_own(settings.state_dir)
    with work.lock():
        steps = work.remove_all() if base_url else ()
        return (*steps, *_wipe(settings, tuple(work.list_kept())))


def render_credentials(settings: Settings) -> str:
    """Return the stored credentials as the lines of an env file, in clear."""
    known = CredentialsFile(settings).read()
    values = {
        BASE_URL: settings.base_url,
        EMAIL: known.email,
        PASSWORD: known.passwords[0].get_secret_value() if known.passwords else None,
        WORKSPACE_ID: known.workspace_id,
        TOTP_SECRET: known.totp_secret.get_secret_value() if known.totp_secret else None,
    }
    return "".join(f"{name}={value}\n" for name, value in values.items() if value)


def _is_in_actions(settings: Settings) -> bool:
    return settings.variables.get("GITHUB_ACTIONS") == "true"


def _wipe(settings: Settings, kept: tuple[str, ...]) -> Iterator[ProvisionStep]:
    """Remove the environment's own files except those in `kept`; list what stays."""
    target = settings.state_dir / "target"
    if target.is_dir():
        from filelock import FileLock, Timeout

        try:
            FileLock(target / "lock").acquire(timeout=0).lock.release()
        except Timeout:
            raise TargetError(f"{target} is in use by a running target: stop it first") from None
    remove_known(settings.state_dir, (*TARGET_FILES, *STATE_FILES), kept)
    what = f"local files of environment {settings.environment_name}"
    if settings.is_reference():
        what += ", including the target's users and workspaces"
    yield ProvisionStep(what, "removed")
    for path in remove_empty(settings.state_dir):
        state = "kept (its content still works)" if path.name in kept else "left (not made by us)"
        yield ProvisionStep(str(path.relative_to(settings.root)), state)


@dataclass
class Provisioner:
    """One run of provisioning, which holds the lock of its environment."""

    settings: Settings
    base_url: str
    say: Callable[[str], None]
    pause: Callable[[float], None]
    github_secrets: bool
    clock: Callable[[], float] = time.time
    steps: list[ProvisionStep] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Prepare what all steps share; send nothing."""
        self.file = CredentialsFile(self.settings)
        self.hide = build_mask(self.settings.variables)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Let only one process at a time provision an environment; the lock ends with it."""
        from filelock import FileLock, Timeout

        ensure_private_dir(self.settings.state_dir)
        lock = FileLock(self.settings.state_dir / LOCK_FILE, mode=0o600)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.say("another process is provisioning this environment: waiting for it")
            try:
                lock.acquire(timeout=LOCK_WAIT_SECONDS)
            except Timeout:
                raise ProvisionError(
                    f"another process has held {lock.lock_file} for {LOCK_WAIT_SECONDS:.0f} s: "
                    "stop it"
                ) from None
        try:
            yield
        finally:
            lock.release()

    def provision(self, bearer: SecretStr | None, *, enroll_totp: bool) -> Provisioned:
        if self.github_secrets:
            # Find out that the token cannot write before anything is made.
            for repository in self.open_repositories():
                repository.fetch_names()
        with self.open_accounts() as accounts:
            email, password, state = self.ensure_user(accounts)
            self.steps = [ProvisionStep(f"user {email}", state)]
            if enroll_totp:
                self.steps.append(self.ensure_authenticator(accounts, email, password))
            try:
                workspace_id = self.prepare_workspace(accounts, email, bearer)
            except PasswordChangeRequiredError:
                password = self.change_demanded_password(accounts, email, password)
                workspace_id = self.prepare_workspace(accounts, email, bearer)
        if self.github_secrets:
            self.store_secrets(email, password, workspace_id)
        credentials = Credentials(email, password, workspace_id, self.file.read().totp_secret)
        if not any(step.state == "not checked" for step in self.steps):
            body = {"for": _subject(self.settings.base_url, credentials)}
            self.write("provision.json", body | {"verified_at": time.time()})
        return Provisioned(credentials, tuple(self.steps))

    def rotate(self) -> ProvisionStep:
        with self.open_accounts() as accounts:
            known = self.file.read()
            password = self.sign_in(accounts, known)
            if password is None:
                raise ProvisionError(
                    f"cannot sign in as {known.email} with any known password, so the password "
                    "cannot be changed"
                )
            places = Places(self.file, self.open_repositories())
            self.check_storable(places)
            (self.settings.state_dir / "provision.json").unlink(missing_ok=True)
            new = invent_password(self.hide)
            change_password(accounts, known.email, password, new, places, self.say)
            if self.github_secrets:
                self.remember_repositories(places.repositories)
        return ProvisionStep(f"new password of {known.email} ({self.describe(places)})", "made")

    def open_accounts(self) -> Accounts:
        second_factor = replace(
            find_second_factor(self.settings), secret=self.file.read().totp_secret
        )
        return Accounts(
            self.base_url,
            self.say,
            second_factor=second_factor,
            hide=self.hide,
            pause=self.pause,
            clock=self.clock,
        )

    def sign_in(self, accounts: Accounts, known: Known) -> SecretStr | None:
        """Sign in with the known password that the server accepts; keep only that one."""
        for password in known.passwords:
            if accounts.sign_in(known.email, password):
                if known.pending:
                    others = [other for other in known.passwords if other != password]
                    self.settle(password, others)
                return password
        return None

    def settle(self, password: SecretStr, others: Sequence[SecretStr]) -> None:
        """Finish a change of password that an earlier run left incomplete."""
        try:
            Places(self.file, self.open_repositories()).settle(password, others)
        except ConfigError as failure:
            # NEXT stays, so that the next run tries again.
            self.file.promote(password, others)
            self.file.keep({NEXT: password})
            self.say(f"the GitHub secret {PASSWORD} may be out of date: {failure}")

    def ensure_user(self, accounts: Accounts) -> tuple[str, SecretStr, str]:
        """Sign in, else sign up; return the e-mail address, the password and the user's state."""
        email = self.file.read().email
        self.file.take_up(email)
        known = self.file.read()
        password = self.sign_in(accounts, known)
        if password is not None:
            return email, password, "already there"
        password = known.passwords[0] if known.passwords else self.create_password()
        try:
            made = accounts.sign_up(email, password)
        except NoAnswerError:
            # The user may have been made: keep the password; the next run finds out.
            raise
        except EmailNotVerifiedError as failure:
            self.write(OWNED_FILE, {"user": email})
            kept = f" (its password is in {self.file.path})" if not known.passwords else ""
            raise EmailNotVerifiedError(f"{email} was made: {failure}{kept}") from None
        except ProvisionError:
            self.discard_password(known)
            raise
        if made:
            self.write(OWNED_FILE, {"user": email})
            return email, password, "made"
        self.discard_password(known)
        if known.passwords:
            raise ProvisionError(f"wrong password for {email}: correct {PASSWORD}")
        raise ProvisionError(f"{email} already has an account: set {PASSWORD} to its password")

    def create_password(self) -> SecretStr:
        """Return a password for a new user; store it before it is sent to the server."""
        places = Places(self.file, self.open_repositories() if self.github_secrets else ())
        self.check_durable(places)
        password = invent_password(self.hide)
        self.file.keep({PASSWORD: password})
        places.put({NEXT: password})
        return password

    def discard_password(self, known: Known) -> None:
        """Delete a password that was invented for a user that the server did not make."""
        if known.passwords:
            return
        self.file.keep({PASSWORD: None})
        for repository in self.open_repositories() if self.github_secrets else ():
            repository.delete(NEXT)

    def change_demanded_password(
        self, accounts: Accounts, email: str, password: SecretStr
    ) -> SecretStr:
        """Set the new password that the server demands of a user whom an administrator made."""
        self.say("the server demands a new password first")
        places = Places(self.file, self.open_repositories())
        self.check_durable(places)
        typed = self.file.read().typed
        new = invent_password(self.hide)
        change_password(accounts, email, password, new, places, self.say)
        self.steps.append(ProvisionStep(f"new password ({self.describe(places)})", "made"))
        if typed is not None and not places.repositories:
            self.say(
                f"the value of {PASSWORD} no longer signs in: the password in {self.file.path} is "
                "used instead"
            )
        return new

    def ensure_authenticator(
        self, accounts: Accounts, email: str, password: SecretStr
    ) -> ProvisionStep:
        """Enrol an authenticator app for the user, unless the sign-in just asked for a code."""
        if accounts.asked_for_code:
            return ProvisionStep(f"authenticator of {email}", "already there")
        if self.file.read().totp_typed:
            raise ConfigError(
                f"{TOTP_SECRET} is set, but {email} has no authenticator: unset it, then enrol one"
            )
        places = Places(self.file, self.open_repositories())
        self.check_durable(places)
        enroll(accounts, password, places)
        return ProvisionStep(f"authenticator of {email} ({self.describe(places)})", "made")

    def prepare_workspace(self, accounts: Accounts, email: str, bearer: SecretStr | None) -> str:
        """Ensure the workspace, its data and our clients' quotas; check the four tools."""
        workspace_id, workspace_state = accounts.ensure_workspace(
            email, self.file.read().workspace_id
        )
        record = _DataRecord(self.settings.state_dir / "data.json", workspace_id)
        if workspace_state == "made":
            record.note("none")
        bearer = accounts.mint_short_bearer() or bearer
        self.file.keep({WORKSPACE_ID: workspace_id})
        self.steps.append(ProvisionStep(f"workspace {workspace_id}", workspace_state))
        # Raise quotas before the first tool call: later is too late (wire contract, "quota").
        self.ensure_quotas(accounts)
        if bearer is None:
            self.steps.append(self.ensure_unread_data(accounts, record))
            return workspace_id
        mcp_url = self.settings.build_mcp_url(self.base_url, workspace_id)
        workspace = WorkspaceClient(mcp_url, bearer, self.say, self.pause)
        names, state = self.ensure_data(accounts, record, workspace)
        self.steps.append(ProvisionStep(f"NovaMart data ({len(names)} entities)", state))
        workspace.check_tools(names)
        tools = "listEntities, describeEntity, runMetric, executeSQL"
        self.steps.append(ProvisionStep(tools, "answered"))
        return workspace_id

    def ensure_data(
        self, accounts: Accounts, record: "_DataRecord", workspace: WorkspaceClient
    ) -> tuple[list[str], str]:
        """Attach the data only if the workspace was checked and has none."""
        state = "already there"
        names = self.await_import(record, workspace)
        if not names:
            record.note("attaching")
            state = "made"
            try:
                accounts.attach_data()
            except NoAnswerError as failure:
                self.say(f"{failure}: checking whether the data is attached anyway")
                names = self.await_import(record, workspace)
            else:
                names = workspace.fetch_entity_names()
            if not names:
                raise ProvisionError("the demo data was attached, but listEntities finds no entity")
        if len(set(names)) != len(names):
            raise ProvisionError(
                "the demo data is attached more than once, which breaks lookups: use a new "
                "workspace"
            )
        record.note("attached")
        return names, state

    def await_import(self, record: "_DataRecord", workspace: WorkspaceClient) -> list[str]:
        """Return the entities' names; wait for an import that a killed run started."""
        waits = int(record.unsettled_seconds() / IMPORT_POLL_SECONDS)
        names = workspace.fetch_entity_names()
        while not names and waits > 0:
            self.say(f"an import may be running: checking again in {IMPORT_POLL_SECONDS:.0f} s")
            self.pause(IMPORT_POLL_SECONDS)
            names, waits = workspace.fetch_entity_names(), waits - 1
        return names

    def ensure_unread_data(self, accounts: Accounts, record: "_DataRecord") -> ProvisionStep:
        """Attach the data where it cannot be read, if the workspace is known to have none."""
        match record.state:
            case "attached":
                return ProvisionStep("NovaMart data, attached by an earlier run", "already there")
            case "none":
                record.note("attaching")
                accounts.attach_data()
                record.note("attached")
                what = "NovaMart data (not checked: the target has no self-mint)"
                return ProvisionStep(what, "made")
        self.say(
            "cannot check the data of this workspace (the target has no self-mint), and attaching "
            "it twice would damage it: run `inv mint`, then `inv provision --verify`"
        )
        return ProvisionStep("NovaMart data", "not checked")

    def ensure_quotas(self, accounts: Accounts) -> None:
        """Raise the quota of each client that mint has registered, before its first call."""
        for client_id in _read_client_ids(self.settings.clients_file):
            state = ensure_quota(accounts, self.settings.state_dir, client_id)
            what = f"quota of client {client_id}, {MOST_REQUESTS_PER_MINUTE} units per minute"
            self.steps.append(ProvisionStep(what, state))

    def store_secrets(self, email: str, password: SecretStr, workspace_id: str) -> None:
        """Write the credentials into the Actions secrets of every repository that has them."""
        values: dict[str, SecretStr | str] = {
            BASE_URL: self.base_url,
            EMAIL: email,
            PASSWORD: password,
            WORKSPACE_ID: workspace_id,
        }
        totp_secret = self.file.read().totp_secret
        if totp_secret is not None:
            values[TOTP_SECRET] = totp_secret
        repositories = self.open_repositories()
        self.remember_repositories(repositories)
        for repository in repositories:
            names = repository.fetch_names()
            repository.put(values)
            repository.delete(*({NEXT} & names))
            state = "already there, written again" if set(values) <= names else "made"
            what = f"GitHub secrets of {repository.repository}: {', '.join(values)}"
            self.steps.append(ProvisionStep(what, state))

    def open_repositories(self) -> list[RepositorySecrets]:
        """Return the repositories whose secrets hold the credentials or will hold them."""
        found = [
            open_secrets(self.settings.variables, self.pause, **place)
            for place in _read_repositories(self.settings)
        ]
        if self.github_secrets:
            asked = open_secrets(self.settings.variables, self.pause)
            places = {(each.api_url, each.repository.lower()) for each in found}
            if (asked.api_url, asked.repository.lower()) not in places:
                found.append(asked)
        return found

    def remember_repositories(self, repositories: Sequence[RepositorySecrets]) -> None:
        """Record which repositories got the credentials, so that --rotate updates them too."""
        places = [
            {"api_url": repository.api_url, "repository": repository.repository}
            for repository in repositories
        ]
        self.write(REPOSITORIES_FILE, {"repositories": places})

    def check_durable(self, places: Places) -> None:
        """Refuse a new secret that would be lost with the disk of a CI runner."""
        lasting = places.repositories or self.settings.is_reference()
        if _is_in_actions(self.settings) and not lasting:
            raise ConfigError(
                "a new secret is needed, but this runner's disk is deleted after the job: add "
                "--github-secrets, or run `inv provision` once on a permanent machine"
            )

    def check_storable(self, places: Places) -> None:
        """Refuse to rotate a password that is set where it cannot be changed."""
        self.check_durable(places)
        typed = self.file.read().typed
        if typed and not places.repositories and not self.file.is_typed_in_env_file():
            raise ConfigError(
                f"{PASSWORD} is a variable of this process, which --rotate cannot change: unset it "
                "or move it to .env, or add --github-secrets if it comes from a GitHub secret"
            )

    def describe(self, places: Places) -> str:
        """Name every place that now holds the password."""
        repositories = [f"GitHub secrets of {each.repository}" for each in places.repositories]
        return ", ".join(["server", str(self.file.path), *repositories])

    def write(self, name: str, body: dict[str, object]) -> None:
        """Write a record of this environment."""
        write_json(self.settings.state_dir / name, PROVISION_VERSION, body, private=True)

    def remove_all(self) -> tuple[ProvisionStep, ...]:
        """Remove user, workspace and secrets where possible; give the reason for the rest."""
        with self.open_accounts() as accounts:
            known = self.file.read()
            try:
                password = self.sign_in(accounts, known)
                why, lasts = "no known password works", self.holds_credentials()
            except ProvisionError as failure:
                password, why, lasts = None, str(failure), True
            if password is None:
                reason = f"cannot be removed ({why})"
                steps = [ProvisionStep(f"user {known.email} and its workspaces", reason, lasts)]
            else:
                steps = [
                    *self.remove_workspaces(accounts, known),
                    self.remove_user(accounts, known.email, password),
                ]
        self.steps = [*steps, *self.remove_secrets()]
        return tuple(self.steps)

    def list_kept(self) -> Iterator[str]:
        """Name the local files whose content still works on the server or at GitHub."""
        if not self.settings.is_reference():
            # What `inv revoke` left in these files could not be revoked.
            yield from (self.settings.bearer_file.name, self.settings.clients_file.name)
        if not self.base_url:
            return
        states = {step.what.split()[0]: step.state for step in self.steps}
        if states["user"] != "removed" and self.holds_credentials():
            yield from (self.file.path.name, OWNED_FILE)
        yield from (path.name for path in self.file.list_aside())
        if any(step.lasts for step in self.steps if step.what.startswith("GitHub")):
            yield REPOSITORIES_FILE

    def holds_credentials(self) -> bool:
        """Return whether the user's file holds a secret."""
        return bool(parse_env_file(self.file.path).keys() & {PASSWORD, NEXT, TOTP_SECRET})

    def remove_workspaces(self, accounts: Accounts, known: Known) -> Iterator[ProvisionStep]:
        """Remove the workspace that we made, with its data; check that it is gone."""
        for found in accounts.list_workspaces(known.email):
            what = f"workspace {found['id']} with its data"
            if found["slug"] != build_slug(known.email):
                yield ProvisionStep(what, "left (not made by us)")
                continue
            reason = _attempt(lambda found=found: accounts.delete_workspace(found["id"]))  # type: ignore[misc]
            if reason is None and found in accounts.list_workspaces(known.email):
                reason = "the server reported success, but it still exists"
            state = "removed" if reason is None else f"cannot be removed ({reason})"
            yield ProvisionStep(what, state)

    def remove_user(self, accounts: Accounts, email: str, password: SecretStr) -> ProvisionStep:
        """Remove the user if we made it; check that it is gone."""
        path = self.settings.state_dir / OWNED_FILE
        owned = (
            read_valid(path, PROVISION_VERSION, _TEXT, ProvisionError, "user")
            if path.exists()
            else None
        )
        if owned != email:
            return ProvisionStep(f"user {email}", "left (not made by us)")
        reason = _attempt(lambda: accounts.delete_user(password))
        if reason is None and accounts.sign_in(email, password):
            reason = "the server reported success, but it still signs in"
        if reason is None:
            return ProvisionStep(f"user {email}", "removed")
        return ProvisionStep(f"user {email}", f"cannot be removed ({reason})", lasts=True)

    def remove_secrets(self) -> Iterator[ProvisionStep]:
        """Remove the credentials from the GitHub secrets."""
        for place in _read_repositories(self.settings):
            what = f"GitHub secrets of {place['repository']}"
            try:
                repository = open_secrets(self.settings.variables, self.pause, **place)
                repository.delete(BASE_URL, EMAIL, PASSWORD, WORKSPACE_ID, NEXT, TOTP_SECRET)
            except LoadtestError as failure:
                yield ProvisionStep(what, f"cannot be removed ({failure})", lasts=True)
            else:
                yield ProvisionStep(what, "removed")


class _DataRecord:
    """What was done with a workspace's data, so that a later run can continue a killed one."""

    def __init__(self, path: Path, workspace_id: str) -> None:
        self._path = path
        self._workspace_id = workspace_id
        self.state: str | None = None
        self._since = 0.0
        if path.exists():
            body = read_valid(path, PROVISION_VERSION, _DATA, ProvisionError)
            if body["workspace_id"] == workspace_id:
                self.state, self._since = body["state"], body["since"]

    def note(self, state: str) -> None:
        """Record `none` (made by us, empty), `attaching` or `attached`."""
        self.state, self._since = state, time.time()
        body = {"workspace_id": self._workspace_id, "state": state, "since": self._since}
        write_json(self._path, PROVISION_VERSION, body, private=True)

    def unsettled_seconds(self) -> float:
        """Return how long an import that was started may still take."""
        if self.state != "attaching":
            return 0.0
        return min(max(self._since + IMPORT_SECONDS - time.time(), 0), IMPORT_SECONDS)


def _attempt(remove: Callable[[], str | None]) -> str | None:
    """Remove one thing; return the reason if it could not be removed, such as no answer."""
    try:
        return remove()
    except ProvisionError as failure:
        return str(failure)


def _read_client_ids(path: Path) -> list[str]:
    """Return the OAuth clients that mint stored; mint itself reports a damaged file."""
    try:
        clients = read_valid(path, PROVISION_VERSION, _CLIENTS, ProvisionError, "clients")
    except ProvisionError:
        return []
    return [each["client"]["client_id"] for each in clients]


def _read_repositories(settings: Settings) -> list[_RepositoryAddress]:
    path = settings.state_dir / REPOSITORIES_FILE
    if not path.exists():
        return []
    return read_valid(path, PROVISION_VERSION, _REPOSITORIES, ProvisionError, "repositories")
