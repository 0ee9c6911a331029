"""Create a load-test user and a workspace with the NovaMart data; check before and after."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from loadtest.common.command_name import spell
from loadtest.common.files import ensure_private_dir, write_json
from loadtest.common.redaction import SecretStr
from loadtest.config.settings import Credentials, Settings
from loadtest.errors import ConfigError, ProvisionError
from loadtest.github.secrets import RepositorySecrets, open_secrets
from loadtest.github.workflow_commands import build_mask
from loadtest.provision.enrollment import enroll
from loadtest.provision.records import (
    OWNED_FILE,
    PROVISION_VERSION,
    REPOSITORIES_FILE,
    DataRecord,
    build_subject,
    read_client_ids,
    read_repositories,
)
from loadtest.provision.rotation import Places, change_password, invent_password
from loadtest.state.credentials import (
    EMAIL,
    NEXT,
    PASSWORD,
    TOTP_SECRET,
    WORKSPACE_ID,
    CredentialsFile,
    KnownUser,
)
from loadtest.state.quotas import MOST_REQUESTS_PER_MINUTE, ensure_quota
from loadtest.state.removal import LOCK_FILE
from loadtest.target.mcp_client import WorkspaceClient
from loadtest.target.rest_client import (
    Accounts,
    EmailNotVerifiedError,
    NoAnswerError,
    PasswordChangeRequiredError,
    find_second_factor,
)

LOCK_WAIT_SECONDS = 600.0
IMPORT_POLL_SECONDS = 10.0
BASE_URL = "LOADTEST_BASE_URL"


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
            body = {"for": build_subject(self.settings.base_url, credentials)}
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

    def sign_in(self, accounts: Accounts, known: KnownUser) -> SecretStr | None:
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
            raise EmailNotVerifiedError(f"{email} was created: {failure}{kept}") from None
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

    def discard_password(self, known: KnownUser) -> None:
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
        record = DataRecord(self.settings.state_dir / "data.json", workspace_id)
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
        self, accounts: Accounts, record: "DataRecord", workspace: WorkspaceClient
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

    def await_import(self, record: "DataRecord", workspace: WorkspaceClient) -> list[str]:
        """Return the entities' names; wait for an import that a killed run started."""
        waits = int(record.unsettled_seconds() / IMPORT_POLL_SECONDS)
        names = workspace.fetch_entity_names()
        while not names and waits > 0:
            self.say(f"an import may be running: checking again in {IMPORT_POLL_SECONDS:.0f} s")
            self.pause(IMPORT_POLL_SECONDS)
            names, waits = workspace.fetch_entity_names(), waits - 1
        return names

    def ensure_unread_data(self, accounts: Accounts, record: "DataRecord") -> ProvisionStep:
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
            f"it twice would damage it: run `{spell('mint')}`, then `{spell('provision --verify')}`"
        )
        return ProvisionStep("NovaMart data", "not checked")

    def ensure_quotas(self, accounts: Accounts) -> None:
        """Raise the quota of each client that mint has registered, before its first call."""
        for client_id in read_client_ids(self.settings.state_dir):
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
            for place in read_repositories(self.settings)
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
                f"--github-secrets, or run `{spell('provision')}` once on a permanent machine"
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
