"""Settings of the sign-in: what is wrong is refused on start, with its key and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.endpoints import new_secret
from workers.errors import SettingsError
from workers.settings import load_settings

RIGHT = {
    "issuer": '"https://id.example.com/realms/desk"',
    "client_id": '"duewatch"',
    "client_secret": '"a-secret-of-ours"',
    "roles": '{ "desk" = "operator" }',
}


def settings_file(folder: Path, console: str = "", **oidc: str) -> Path:
    """A file with these settings of the provider; empty ones are left out."""
    lines = [f"{key} = {value}" for key, value in {**RIGHT, **oidc}.items() if value]
    file = folder / "duewatch.toml"
    file.write_text("\n".join(["[console]", console, "[console.oidc]", *lines]), "utf-8")
    return file


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("issuer", '"id.example.com"', "isn't a web address"),
        ("issuer", '"https://id.example.com:x"', "isn't a web address"),
        ("issuer", '"http://id.example.com"', "isn't encrypted"),
        ("issuer", '"http://localhost.example.com"', "isn't encrypted"),
        ("issuer", '"https://us:pa@id.example.com"', "carries a password"),
        ("issuer", '"https://id.example.com/?x=1"', "an issuer has neither"),
        ("client_id", "", "is needed with an issuer"),
        ("scopes", '["profile"]', "lacks openid"),
        ("scopes", '["openid", "a b"]', "isn't a scope"),
        ("roles.desk", '"king"', "'viewer', 'operator' or 'administrator'"),
        ("default_role", '"king"', "'viewer', 'operator' or 'administrator'"),
        ("isuer", '"x"', "did you mean issuer?"),
    ],
)
def test_a_wrong_setting_is_named_with_the_remedy(
    key: str, value: str, said: str, tmp_path: Path
) -> None:
    given = {key: value} if "." not in key else {"roles": f"{{ desk = {value} }}"}
    with pytest.raises(SettingsError) as caught:
        load_settings(settings_file(tmp_path, **given), {})
    assert f"console.oidc.{key}: " in str(caught.value)
    assert said in str(caught.value)
    assert "a-secret-of-ours" not in str(caught.value)


@pytest.mark.parametrize("roles", ["{}", ""])
def test_a_provider_that_lets_nobody_in_is_refused(roles: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"console\.oidc\.default_role: nobody could sign in"):
        load_settings(settings_file(tmp_path, roles=roles), {})


def test_passwords_can_be_switched_off_only_with_a_provider(tmp_path: Path) -> None:
    assert not load_settings(settings_file(tmp_path, "passwords = false"), {}).console.passwords
    file = tmp_path / "duewatch.toml"
    file.write_text("[console]\npasswords = false\n")
    with pytest.raises(SettingsError, match=r"console\.passwords: .*oidc\.issuer .*False"):
        load_settings(file, {})


@pytest.mark.parametrize("host", ["127.0.0.1:9400", "localhost:9400", "[::1]:9400"])
def test_on_this_machine_a_provider_need_not_be_encrypted(host: str, tmp_path: Path) -> None:
    found = load_settings(settings_file(tmp_path, issuer=f'"http://{host}"'), {})
    assert found.console.oidc.shown == host


def test_a_secret_may_come_by_the_environment_and_is_never_shown(tmp_path: Path) -> None:
    environ = {"DUEWATCH_CONSOLE__OIDC__CLIENT_SECRET": "by-another-way"}
    found = load_settings(settings_file(tmp_path), environ).console.oidc
    assert found.client_secret is not None
    assert found.client_secret.get_secret_value() == "by-another-way"
    assert "by-another-way" not in repr(found)


def test_a_whole_table_isnt_shown_in_what_is_wrong_with_it(tmp_path: Path) -> None:
    secret = new_secret()
    file = tmp_path / "duewatch.toml"
    file.write_text(f'[webhooks.erp]\nsecret = "{secret}"\nurl = "x"\n')
    with pytest.raises(SettingsError, match="isn't a web address") as caught:
        load_settings(file, {})
    assert secret[:12] not in str(caught.value)
