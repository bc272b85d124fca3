"""Where settings come from, what they are, and what is said about wrong ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distworker.errors import ConfigInvalid
from distworker.settings import load, shown


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder and home, and no variable of ours."""
    for name in os.environ:
        if name.upper().startswith("DISTWORKER_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    return tmp_path


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_defaults_need_no_file_at_all() -> None:
    """Local mode works on a machine where nothing was set up."""
    config = load()
    assert config.files == ()
    assert config.settings.slots == 4
    assert {origin for _, _, origin in config.rows()} == {"default"}


def test_the_first_file_found_wins(place: Path) -> None:
    """./config/ comes before the user's folder, and files are not mixed."""
    _write(place / "home/distworker/distworker.toml", "slots = 7\nwindow = 9\n")
    assert load().settings.slots == 7
    _write(place / "config/distworker.toml", "slots = 8\n")
    config = load()
    assert (config.settings.slots, config.settings.window) == (8, 200)
    assert config.origins["slots"] == "config/distworker.toml"


def test_a_named_file_comes_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--config beats the variable, which beats the folders."""
    _write(place / "config/distworker.toml", "slots = 1\n")
    monkeypatch.setenv("DISTWORKER_CONFIG", str(_write(place / "by-variable.toml", "slots = 2\n")))
    assert load().settings.slots == 2
    assert load(_write(place / "by-option.toml", "slots = 3\n")).settings.slots == 3


def test_a_folder_may_be_named(place: Path) -> None:
    """--config takes the folder that holds both files."""
    _write(place / "etc/distworker.toml", "slots = 5\n")
    _write(place / "etc/registries.toml", '["localhost:5000"]\nplain_http = true\n')
    config = load(place / "etc")
    assert config.settings.slots == 5
    assert config.registries["localhost:5000"].plain_http


@pytest.mark.parametrize("by", ["option", "variable"])
def test_a_named_file_must_exist(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silently falling back to other settings could copy into the wrong place."""
    if by == "variable":
        monkeypatch.setenv("DISTWORKER_CONFIG", "missing.toml")
    with pytest.raises(ConfigInvalid, match=r"missing\.toml: no such settings file"):
        load("missing.toml" if by == "option" else None)


def test_variables_go_on_top_and_are_named_as_origin(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value's origin tells an operator which of two places counts."""
    _write(place / "config/distworker.toml", '[store]\nbucket = "one"\nprefix = "p"\n')
    monkeypatch.setenv("DISTWORKER_STORE_BUCKET", "two")
    monkeypatch.setenv("DISTWORKER_REDIS_URL", "redis://cache:6379/3")
    config = load()
    assert (config.settings.store.bucket, config.settings.store.prefix) == ("two", "p")
    assert config.settings.redis_url == "redis://cache:6379/3"
    assert config.origins["store.bucket"] == "environment DISTWORKER_STORE_BUCKET"
    assert config.origins["store.prefix"] == "config/distworker.toml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("redis_ulr = 'x'", "redis_ulr: unknown key; did you mean redis_url?"),
        ("[store]\nbukcet = 'x'", "store.bukcet: unknown key; did you mean store.bucket?"),
        ("slots = 0", "slots: should be greater than or equal to 1"),
        ("slots = 'many'", "slots: should be a valid integer"),
        ("part_size = '1 KiB'", "part_size: should be greater than or equal to 5242880"),
        ("redis_url = 'http://x'", "redis_url: expected a URL such as redis://host:6379/1"),
        ("redis_url = 'redis://host:x/1'", "redis_url: its port is no number from 0 to 65535"),
        ("redis_url = 'redis://[::1/1'", "redis_url: "),
        ("redis_url = 'rediss://h/1?ssl_cert_reqs=none'", "redis_url: certificates are always checked"),
        ("broker_url = 'rediss://h/1?ssl_cert_reqs=none'", "broker_url: certificates are always checked"),
        ("broker_url = 'amqps://h//?ssl_cert_reqs=none'", "broker_url: its URL takes no options"),
        ("redis_url = 'sentinel://a,b/1'", "redis_url: it names Sentinels and no primary: add ?master=NAME"),
        ("broker_url = 'redis://host:99999'", "broker_url: its port is no number from 0 to 65535"),
        ("broker_url = 'http://host'", "broker_url: expected a URL such as redis://host:6379/0 or amqp:"),
        ("[store]\nendpoint = 'http://host:99999'", "store.endpoint: its port is no number"),
        ("[log]\nformat = 'xml'", "log.format: should be 'text' or 'json'"),
        ("slots = [", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_one_line_with_file_key_and_remedy(place: Path, text: str, said: str) -> None:
    """Nobody has to search for the fault."""
    path = _write(place / "a.toml", text)
    with pytest.raises(ConfigInvalid) as caught:
        load(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert said in caught.value.message


@pytest.mark.parametrize("key", ["redis_url", "broker_url"])
def test_a_password_that_looks_like_a_port_is_not_quoted(place: Path, key: str) -> None:
    """A slash in a password ends the host part early, and Python would quote what stands before it."""
    with pytest.raises(ConfigInvalid, match="%2F") as caught:
        load(_write(place / "a.toml", f"{key} = 'redis://:s3c/r3t@host:6379/1'"))
    assert "s3c" not in str(caught.value)


@pytest.mark.parametrize("url", ["sentinel://a:26379,b/0?master=m", "amqp://u:p@[::1]:5672//"])
def test_brokers_of_several_kinds_are_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Celery understands of Redis and RabbitMQ is not refused."""
    monkeypatch.setenv("DISTWORKER_BROKER_URL", url)
    assert load().settings.broker == url


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DISTWORKER_SLOTS", "many"),
        ("DISTWORKER_STORE_BUKCET", "x"),
        ("DISTWORKER_STORE", "{"),
        ("DISTWORKER_STORE", "7"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the environment must not be searched for in the files."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigInvalid, match="environment"):
        load()


def test_a_variable_that_nothing_reads_is_kept_for_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes adds DISTWORKER_PORT by itself, so this cannot be an error."""
    monkeypatch.setenv("DISTWORKER_PORT", "tcp://10.0.0.1:80")
    assert load().unknown == ("DISTWORKER_PORT",)


def test_no_secret_is_ever_shown(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by rows, not by repr, not by the error about another key."""
    monkeypatch.setenv("DISTWORKER_STORE_SECRET_KEY", "s3cr3t")
    monkeypatch.setenv("DISTWORKER_STORE_ACCESS_KEY", "AKIAs3cr3t")
    monkeypatch.setenv("DISTWORKER_REDIS_URL", "redis://:s3cr3t@cache:6379/1")
    monkeypatch.setenv("DISTWORKER_BROKER_URL", "amqp://user:s3cr3t@rabbit//")
    config = load()
    rows = {key: value for key, value, _ in config.rows()}
    assert rows["redis_url"] == "redis://***@cache:6379/1"
    assert rows["store.secret_key"] == "***"
    assert "s3cr3t" not in str(rows) + repr(config.settings.redis_url and config.settings.store.secret_key)
    monkeypatch.setenv("DISTWORKER_SLOTS", "s3cr3t")
    with pytest.raises(ConfigInvalid) as caught:
        load()
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("redis", "broker"),
    [
        ("redis://h:1/1", "redis://h:1/1"),
        ("rediss://u:p@h:1/4", "rediss://u:p@h:1/4"),
        ("unix:///run/redis.sock?db=3", "redis+socket:///run/redis.sock?virtual_host=3"),
        ("sentinel://u:p@a,b:7/2?master=m", "sentinel://u:p@a,b:7/2?master=m"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock?virtual_host=0"),
    ],
)
def test_the_broker_is_the_ledgers_own_database_unless_named(
    redis: str, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One Redis is enough to start with, and fleets in different databases never meet in a third one."""
    monkeypatch.setenv("DISTWORKER_REDIS_URL", redis)
    assert load().settings.broker == broker


def test_sizes_may_have_units(place: Path) -> None:
    """`8 MiB` is what people write."""
    assert load(_write(place / "a.toml", "part_size = '16 MiB'\n")).settings.part_size == 16 * 1024 * 1024


def test_paths_count_from_their_file(place: Path) -> None:
    """A file means the same from wherever the program is started."""
    _write(place / "etc/registries.toml", '["a.example"]\nca_file = "ca.pem"\n')
    config = load(_write(place / "etc/distworker.toml", "docker_config = 'docker.json'\n"))
    assert config.settings.docker_config == str(place / "etc/docker.json")
    assert config.registries["a.example"].ca_file == str(place / "etc/ca.pem")


def test_a_registry_has_one_table(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts are those of references, so that a table is found again; Docker Hub has two names."""
    path = _write(place / "r.toml", '["docker.io"]\n["index.docker.io"]\n')
    monkeypatch.setenv("DISTWORKER_REGISTRIES", str(path))
    with pytest.raises(ConfigInvalid, match="there twice"):
        load()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('["a.example"]\nplain_htpp = true', "[a.example] plain_htpp: unknown key; did you mean plain_http?"),
        ('["a.example"]\nmax_concurrency = 0', "max_concurrency: should be greater than or equal to 1"),
        ('["a.example"]\nusername = "u"', "a username needs one of password"),
        ('["a.example"]\nusername = "u"\npassword = "p"\npassword_env = "P"', "give one of password"),
        ('["a.example"]\nusername = "u"\nusername_env = "U"\npassword = "p"', "give one of username"),
        ('["a.example"]\nplain_http = true\nca_file = "x"', "drop plain_http or ca_file"),
        ('["a.example"]\nlogin = "aws"', "login: should be 'plain', 'ecr', 'google', 'acr' or 'github'"),
        ('["a.example"]\nrole = "r"', 'role belongs to login = "ecr"'),
        ('["a.example"]\nlogin = "acr"\nkey_file = "k"', 'key_file belongs to login = "google"'),
        ('["a.example"]\nlogin = "ecr"\nusername = "u"', "a username needs one of password"),
        (
            '["a.example"]\nlogin = "ecr"\nusername = "u"\npassword = "p"\nprofile = "x"',
            "two accounts; drop one",
        ),
        ('["a.example"]\nlogin = "google"\npassword = "p"', "google takes a key_file"),
        ('["a.example"]\nlogin = "google"\nusername = "me"\nkey_file = "k"', "google takes a key_file"),
        ('["a.example"]\nlogin = "google"\nusername = "_json_key"', "username _json_key needs key_file"),
        ('["a.example"]\nlogin = "acr"\ntenant = "t"\nusername = "u"', "acr needs tenant, username"),
        ('["a.example"]\nlogin = "acr"\nusername = "u"\npassword = "p"', "acr needs tenant, username"),
        (
            '["a.example"]\nlogin = "acr"\ntenant = "t"\nusername = "u"\npassword = "p"\ntoken_file = "f"',
            "acr needs tenant, username",
        ),
        (
            '["a.example".quirks]\npage_siz = 3',
            "quirks.page_siz: unknown key; did you mean quirks.page_size?",
        ),
        ('["a.example".quirks]\nmounts = "all"', "quirks.mounts: should be 'none', 'source' or 'anonymous'"),
        ('["a.example".quirks]\nchunk_bytes = "1 KiB"', "quirks.chunk_bytes: should be greater than"),
        ('["a.example".quirks]\napi_host = "https://x"', "quirks.api_host: not a registry host"),
        ('["a.example"]\nprovider = "harbour"', "provider: should be one of default, docker-hub"),
        ('["https://a.example"]', "not a registry host"),
        ("plain_http = true", "keys belong into a table per registry"),
    ],
)
def test_a_wrong_registries_file_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    """File, table, key and remedy stand in one line."""
    path = _write(place / "registries.toml", text)
    monkeypatch.setenv("DISTWORKER_REGISTRIES", str(path))
    with pytest.raises(ConfigInvalid) as caught:
        load()
    assert str(path) in caught.value.message
    assert said in caught.value.message


def test_quirks_are_told_apart_from_what_is_not_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes may have units; "auto" counts only when it was written."""
    quirks = 'quirks = {chunk_bytes = "5 MiB", catalog = false}'
    text = f'["a.example"]\nupload_mode = "auto"\n{quirks}\n["b.example"]\n'
    monkeypatch.setenv("DISTWORKER_REGISTRIES", str(_write(place / "registries.toml", text)))
    told = {host: table.stated for host, table in load().registries.items()}
    assert told == {
        "a.example": {"chunk_bytes": 5 << 20, "catalog": False, "upload_mode": "auto"},
        "b.example": {},
    }


def test_passwords_come_from_three_places(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the file, in a file of its own (final newline dropped), in a variable."""
    _write(place / "secret", "two\n")
    monkeypatch.setenv("THREE", "three")
    _write(
        place / "config/registries.toml",
        '["a.example"]\nusername="u"\npassword="one"\n'
        f'["b.example"]\nusername="u"\npassword_file="{place}/secret"\n'
        '["c.example"]\nusername="u"\npassword_env="THREE"\n',
    )
    found = {host: table.read_password() for host, table in load().registries.items()}
    assert found == {"a.example": "one", "b.example": "two", "c.example": "three"}


def test_users_come_from_three_places_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GitHub's token has a place of its own."""
    _write(place / "user", "two\n")
    monkeypatch.setenv("THREE", "three")
    monkeypatch.setenv("GITHUB_TOKEN", "token")
    _write(
        place / "config/registries.toml",
        '["a.example"]\nusername="one"\npassword="p"\n'
        '["b.example"]\nusername_file="../user"\npassword="p"\n'
        '["c.example"]\nusername_env="THREE"\npassword="p"\n'
        '["ghcr.io"]\nlogin="github"\n'
        '["ghcr.io:444"]\nlogin="github"\npassword="own"\n'
        '["d.example"]\nusername_file="gone"\npassword="p"\n',
    )
    tables = load().registries
    found = [(table.read_username(), table.read_password()) for table in tables.values()]
    assert found == [("one", "p"), ("two", "p"), ("three", "p"), ("", "token"), ("", "own"), ("", "p")]
    assert all(table.has_login for table in tables.values())


def test_lists_of_files_count_from_their_files_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them; a variable has them as JSON, from the current folder. `docker_config` is the first."""
    text = 'docker_config = "a.json"\nauth_files = ["b.json", "/c.json"]\ncredential_helpers = ["pass"]\n'
    config = load(_write(place / "etc/distworker.toml", text))
    assert config.settings.login_files == (str(place / "etc/a.json"), str(place / "etc/b.json"), "/c.json")
    assert config.settings.credential_helpers == ("pass",)
    monkeypatch.setenv("DISTWORKER_AUTH_FILES", '["d.json"]')
    config = load(_write(place / "etc/distworker.toml", ""))
    assert config.settings.login_files == ("d.json",)
    assert config.origins["auth_files"] == "environment DISTWORKER_AUTH_FILES"


def test_the_samples_show_the_defaults() -> None:
    """Every line of the samples, uncommented, is accepted; distworker.toml shows what is true anyway."""
    here = Path(__file__).parents[3] / "config"
    _write(Path("samples/distworker.toml"), _uncommented(here / "distworker.toml"))
    _write(Path("samples/registries.toml"), _uncommented(here / "registries.toml"))
    _write(Path("etc"), "")
    shown_there = {key: value for key, value, _ in load("samples/distworker.toml").rows()}
    defaults = {key: value for key, value, _ in load(_write(Path("empty.toml"), "")).rows()}
    examples = {
        *("broker_url", "docker_config", "auth_files", "credential_helpers", "registries", "allow_hosts"),
        *("certs_dirs", "hosts_dirs", "registries_conf"),
    }
    assert {key: value for key, value in shown_there.items() if key not in examples} == {
        key: value for key, value in defaults.items() if key not in examples
    }


def _uncommented(sample: Path) -> str:
    lines = []
    for line in sample.read_text().splitlines():
        text = line.removeprefix("# ")
        keeps = text.startswith("[") or (" = " in text and text.split(" = ")[0].isidentifier())
        lines.append(text if keeps and not text.startswith("registries =") else "")
    return "\n".join(lines)


def test_shown_leaves_ordinary_values_alone() -> None:
    """Only the part of a URL before its @ is hidden."""
    assert shown("redis://h:1/0") == "redis://h:1/0"
    assert shown("repo@sha256:ab") == "repo@sha256:ab"


@pytest.mark.parametrize("text", ["junk", "proxy:3128", "ftp://p:1", "http://", "http://p:none"])
def test_a_proxy_that_is_none_is_refused_where_it_stands(
    text: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Used as it is, it would fail later with the registry's name in the error."""
    (place / "registries.toml").write_text(f'["r.example"]\nproxy = "{text}"\n')
    with pytest.raises(ConfigInvalid, match="proxy"):
        load(str(place))
    monkeypatch.setenv("DISTWORKER_STORE_PROXY", text)
    (place / "registries.toml").unlink()
    with pytest.raises(ConfigInvalid, match=r"(?i)proxy"):
        load()


def test_a_token_secret_is_long_and_never_shown(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short one could be guessed from what lies in Redis; neither is repeated."""
    monkeypatch.setenv("DISTWORKER_TOKEN_SECRET", "hunter2")
    with pytest.raises(ConfigInvalid, match=r"token_secret: .*at least 16 random characters") as caught:
        load()
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("DISTWORKER_TOKEN_SECRET", "hunter2-hunter2-")
    config = load()
    rows = {key: value for key, value, _ in config.rows()}
    assert rows["token_secret"] == "***"
    assert "hunter2" not in repr(config)


def test_files_of_other_tools_count_from_the_settings_file(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists of folders too; a variable replaces the list."""
    text = "certs_dirs = ['certs.d', '/etc/docker/certs.d']\nhosts_dirs = ['hosts']\n"
    text += "registries_conf = 'r.conf'\n"
    _write(place / "etc/registries.toml", '["a.example"]\nclient_cert = "me.cert"\nclient_key = "me.key"\n')
    path = _write(place / "etc/distworker.toml", text)
    config = load(path)
    assert config.settings.certs_dirs == (str(place / "etc/certs.d"), "/etc/docker/certs.d")
    assert config.settings.hosts_dirs == (str(place / "etc/hosts"),)
    assert config.settings.registries_conf == str(place / "etc/r.conf")
    assert config.registries["a.example"].client_cert == str(place / "etc/me.cert")
    assert config.registries["a.example"].client_key == str(place / "etc/me.key")
    monkeypatch.setenv("DISTWORKER_CERTS_DIRS", '["/one"]')
    monkeypatch.setenv("DISTWORKER_REGISTRIES_CONF", "/two.conf")
    config = load(path)
    assert config.settings.certs_dirs == ("/one",)
    assert config.settings.registries_conf == "/two.conf"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('mirrors = ["https://m.example"]', r"mirrors\.0: expected host"),
        ('mirrors = ["m.example/Upper"]', r"mirrors\.0: expected host"),
        ('client_key = "k.pem"', "give client_cert too"),
        ('plain_http = true\nclient_cert = "c.pem"', "drop plain_http or client_cert"),
        ('plain_http = true\nca_file = "c.pem"', "drop plain_http or ca_file"),
    ],
)
def test_certificates_and_mirrors_that_cannot_be_meant_are_refused(
    place: Path, table: str, words: str
) -> None:
    """With the file, the table and the remedy."""
    _write(place / "config/registries.toml", f'["a.example"]\n{table}\n')
    with pytest.raises(ConfigInvalid, match=rf"registries\.toml: \[a\.example\] .*{words}"):
        load()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a.example:9000,10.1.0.0/16:443", ("a.example:9000", "10.1.0.0/16:443")),
        (" a.example:1  b.example:2, ", ("a.example:1", "b.example:2")),
        ('["a.example:1", "b.example:2"]', ("a.example:1", "b.example:2")),
        ("[::1]:443,[fd00::1]:443", ("[::1]:443", "[fd00::1]:443")),
        ("[]", ()),
        ("", ()),
    ],
)
def test_a_list_in_a_variable_has_commas_spaces_or_json(
    text: str, values: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody should have to quote JSON through a shell, a unit file and a chart."""
    monkeypatch.setenv("DISTWORKER_ALLOW_HOSTS", text)
    config = load()
    assert config.settings.allow_hosts == values
    assert config.origins["allow_hosts"] == "environment DISTWORKER_ALLOW_HOSTS"


@pytest.mark.parametrize("text", ['["a"', '[1, "a"]'])
def test_a_broken_json_list_is_refused_with_its_variable(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never taken for the name of a file."""
    monkeypatch.setenv("DISTWORKER_AUTH_FILES", text)
    with pytest.raises(ConfigInvalid, match="environment DISTWORKER_AUTH_FILES: auth_files: not a JSON list"):
        load()


def test_a_key_in_the_wrong_file_is_sent_to_the_right_one(place: Path) -> None:
    """Both files are about registries, so this happens."""
    with pytest.raises(ConfigInvalid, match=r"mirrors: belongs into registries\.toml, below the registry"):
        load(_write(place / "a.toml", "mirrors = ['m.example']"))
    (place / "a.toml").write_text(f"registries = '{place / 'r.toml'}'\n")
    _write(place / "r.toml", "['reg.example']\nallow_hosts = ['a.example:1']\n")
    with pytest.raises(ConfigInvalid, match=r"\[reg.example\] allow_hosts: belongs into distworker.toml"):
        load(place / "a.toml")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("mirrors = 'm.example'", "mirrors: should be a list, such as"),
        ("token_realms = ['https://auth.example/token']", "token_realms.0: expected host or host:port"),
    ],
)
def test_a_list_of_hosts_says_what_it_wants(place: Path, line: str, said: str) -> None:
    """In words of the file, not of Python."""
    _write(place / "r.toml", f"['reg.example']\n{line}\n")
    with pytest.raises(ConfigInvalid) as caught:
        load(_write(place / "a.toml", f"registries = '{place / 'r.toml'}'\n"))
    assert said in caught.value.message


def test_a_list_is_shown_as_it_may_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """`distworker doctor` shows no brackets of Python; an empty list is empty."""
    monkeypatch.setenv("DISTWORKER_ALLOW_HOSTS", "a.example:1,b.example:2")
    rows = {key: value for key, value, _ in load().rows()}
    assert rows["allow_hosts"] == "a.example:1, b.example:2"
    assert rows["auth_files"] == ""
