"""The database of users, workspaces, clients and grants (SQLite)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import JSON, ForeignKey, create_engine, event, select, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from loadtest.errors import TargetError
from loadtest.reference.responses import new_id

SCHEMA_VERSION = 3
_UPGRADES = {
    1: (
        "ALTER TABLE users ADD COLUMN locked BOOLEAN NOT NULL DEFAULT 0",
        "ALTER TABLE clients ADD COLUMN jwks VARCHAR",
        "ALTER TABLE clients ADD COLUMN application_type VARCHAR",
        "ALTER TABLE clients ADD COLUMN management_hash VARCHAR",
    ),
    2: (
        "ALTER TABLE users ADD COLUMN email_verified BOOLEAN NOT NULL DEFAULT 1",
        "ALTER TABLE users ADD COLUMN totp_secret VARCHAR",
        "ALTER TABLE users ADD COLUMN totp_enabled BOOLEAN NOT NULL DEFAULT 0",
    ),
}
"""The statements that upgrade a version of the file to the next one."""


class Base(DeclarativeBase):
    """The tables of the accounts database."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {list[str]: JSON}


class User(Base):
    """A user who can sign in; if `totp_enabled`, the sign-in needs a code of `totp_secret`."""

    __tablename__ = "users"
    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    password_hash: Mapped[str]
    must_change_password: Mapped[bool] = mapped_column(default=False)
    locked: Mapped[bool] = mapped_column(default=False)
    email_verified: Mapped[bool] = mapped_column(default=True)
    totp_secret: Mapped[str | None]
    totp_enabled: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[float]


class SignIn(Base):
    """One signed-in session of a user, found by its token's hash."""

    __tablename__ = "sign_ins"
    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    token_hash: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    workspace_id: Mapped[str | None]
    created_at: Mapped[float]
    expires_at: Mapped[float]


class Workspace(Base):
    """A workspace, which the API calls an organization."""

    __tablename__ = "workspaces"
    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str]
    slug: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[float]


class Member(Base):
    """A user's membership in a workspace, with its role."""

    __tablename__ = "members"
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), primary_key=True)
    role: Mapped[str]


class Entity(Base):
    """One table in a workspace's catalogue; a second demo import duplicates all of them."""

    __tablename__ = "entities"
    id: Mapped[int] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"), index=True)
    connection_id: Mapped[str]
    name: Mapped[str]


class Client(Base):
    """An OAuth client (RFC 7591); `workspace_id` is set if it was registered with a session.

    `jwks` is a JSON Web Key Set as text; `management_hash` that of its registration access token.
    """

    __tablename__ = "clients"
    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str]
    redirect_uris: Mapped[list[str]]
    grant_types: Mapped[list[str]]
    auth_method: Mapped[str]
    secret_hash: Mapped[str | None]
    scope: Mapped[str]
    workspace_id: Mapped[str | None]
    requests_per_minute: Mapped[int | None]
    jwks: Mapped[str | None]
    application_type: Mapped[str | None]
    management_hash: Mapped[str | None]
    created_at: Mapped[float]


class Consent(Base):
    """The scopes that a user has granted to a client."""

    __tablename__ = "consents"
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), primary_key=True)
    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id"), primary_key=True)
    scope: Mapped[str]


class Grant(Base):
    """A code, refresh token or access token, stored by its hash.

    `kind` is `code`, `refresh`, `access` (opaque) or `jwt` (stored only if it can be revoked).
    `family` ties a refresh token to its successors and to the access tokens issued with them.
    """

    __tablename__ = "grants"
    hash: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    family: Mapped[str] = mapped_column(index=True, default=new_id)
    client_id: Mapped[str]
    user_id: Mapped[str | None]
    sign_in_id: Mapped[str | None]
    workspace_id: Mapped[str | None]
    scope: Mapped[str]
    redirect_uri: Mapped[str | None]
    code_challenge: Mapped[str | None]
    nonce: Mapped[str | None]
    issued_at: Mapped[float]
    expires_at: Mapped[float]
    used: Mapped[bool] = mapped_column(default=False)


class SigningKey(Base):
    """A private JWK; the newest one is used to sign."""

    __tablename__ = "signing_keys"
    id: Mapped[int] = mapped_column(primary_key=True)
    jwk: Mapped[str]


class Setting(Base):
    """A value that the target makes once and keeps, such as the key of signed queries."""

    __tablename__ = "settings"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


def _set_pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


class Store:
    """The accounts database; raises `TargetError` for a file that is damaged or of another version.

    Calls take less than a millisecond and run on the thread of the event loop, so each of them is
    atomic: a code cannot be used twice.
    """

    def __init__(self, path: Path) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._engine = create_engine(f"sqlite:///{path}", hide_parameters=True)
        event.listen(self._engine, "connect", _set_pragmas)
        try:
            with self._engine.begin() as connection:
                found = connection.execute(text("PRAGMA user_version")).scalar_one()
                if found == 0:
                    Base.metadata.create_all(connection)
                elif found in _UPGRADES:
                    for version in range(found, SCHEMA_VERSION):
                        for statement in _UPGRADES[version]:
                            connection.execute(text(statement))
                if found == 0 or found in _UPGRADES:
                    found = SCHEMA_VERSION
                    connection.execute(text(f"PRAGMA user_version={SCHEMA_VERSION}"))
        except DatabaseError:
            self.close()
            raise TargetError(
                f"{path} is not a readable accounts database: delete it to start with an empty one"
            ) from None
        if found != SCHEMA_VERSION:
            self.close()
            raise TargetError(
                f"{path} has version {found}, but this program reads {SCHEMA_VERSION}: delete it"
            )

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """Open a transaction: commit it at the end, roll it back on an exception."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    def ensure_setting(self, name: str, fresh: str) -> str:
        """Return the stored value of `name`; store `fresh` if there is none."""
        with self.begin() as db:
            row = db.get(Setting, name)
            if row is None:
                row = Setting(name=name, value=fresh)
                db.add(row)
            return row.value

    def entity_names(self, workspace_id: str) -> tuple[str, ...]:
        """Return a workspace's entity names in the order of import, including duplicates."""
        with self.begin() as db:
            query = select(Entity.name).where(Entity.workspace_id == workspace_id)
            return tuple(db.scalars(query.order_by(Entity.id)))

    def close(self) -> None:
        """Close every connection to the file."""
        self._engine.dispose()
