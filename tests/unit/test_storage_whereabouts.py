"""Where a registry's storage lies: by a URL, or by the registry's own configuration."""

from pathlib import Path
from typing import Any

import pytest

from indexer.common.errors import ConfigurationError
from indexer.settings import Settings
from reconciler.storage.whereabouts import Bucket, Directory, of_configuration, of_url, whereabouts_of


def test_url__of_each_kind() -> None:
    """A URL names a directory, or a bucket and a prefix in it."""
    assert Directory(Path("/srv/my registry")) == of_url("file:///srv/my%20registry", {})
    assert Bucket(kind="s3", name="images", prefix="a/b") == of_url("s3://images/a/b/", {})
    assert Bucket(kind="gs", name="images", prefix="") == of_url("gs://images", {})
    assert Bucket(kind="az", name="images", prefix="") == of_url("az://images/", {})


def test_url__plain_http_only_where_the_endpoint_says_so() -> None:
    """Requests go over plain HTTP only to an endpoint that is written like that."""
    plain = of_url("s3://images", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"})
    other = of_url("s3://images", {"AWS_ENDPOINT_URL": "https://s3.example.com"})
    assert (True, False) == (_bucket(plain).plain_http, _bucket(other).plain_http)


@pytest.mark.parametrize(
    "url",
    ["", "/srv", "file://srv", "file:srv", "http://x", "s3://", "s3:///x", "s3://k:s@b/x", "s3://b?x=1"],
)
def test_url__refused(url: str) -> None:
    """What is no URL of a storage is an error that shows one."""
    with pytest.raises(ConfigurationError, match="RECONCILER_STORAGE_URL"):
        Settings.read({"RECONCILER_STORAGE_URL": url or " "})


def test_settings__one_of_the_two() -> None:
    """A URL and a configuration together are an error; neither is, too, once the storage is needed."""
    both = {"RECONCILER_STORAGE_URL": "file:///x", "RECONCILER_REGISTRY_CONFIG": "/etc/c.yml"}
    with pytest.raises(ConfigurationError, match="one of the two"):
        Settings.read(both)
    with pytest.raises(ConfigurationError, match="RECONCILER_STORAGE_URL"):
        whereabouts_of(Settings(), {})


def test_configuration__filesystem() -> None:
    """The driver's root directory, and Distribution's own default."""
    named = {"storage": {"filesystem": {"rootdirectory": "/data"}, "delete": {"enabled": True}, "cache": {}}}
    assert Directory(Path("/data")) == of_configuration(named, {})
    assert Directory(Path("/var/lib/registry")) == of_configuration({"storage": "filesystem"}, {})
    assert Directory(Path("/var/lib/registry")) == of_configuration({"storage": {"filesystem": None}}, {})


S3 = {
    "accesskey": "id",
    "secretkey": "hidden",
    "region": "eu-central-1",
    "bucket": "images",
    "rootdirectory": "/reg/",
}


def _bucket(found: object) -> Bucket:
    assert isinstance(found, Bucket)
    return found


@pytest.mark.parametrize("driver", ["s3", "s3aws"])
def test_configuration__s3(driver: str) -> None:
    """Bucket, region, keys and root directory; the keys are not shown."""
    found = _bucket(of_configuration({"storage": {driver: S3}}, {}))
    options = {"access_key_id": "id", "secret_access_key": "hidden", "region": "eu-central-1"}
    assert Bucket(kind="s3", name="images", prefix="reg", options=options) == found
    assert "hidden" not in repr(found)
    assert found.url == "s3://images/reg"


@pytest.mark.parametrize(
    ("more", "endpoint", "plain"),
    [
        ({"regionendpoint": "http://minio:9000/"}, "http://minio:9000", True),
        ({"regionendpoint": "minio:9000"}, "https://minio:9000", False),
        ({"regionendpoint": "minio:9000", "secure": False}, "http://minio:9000", True),
        ({"regionendpoint": "https://s3.x", "forcepathstyle": "false"}, "https://images.s3.x", False),
    ],
)
def test_configuration__s3_elsewhere(more: dict[str, Any], endpoint: str, plain: bool) -> None:
    """Another endpoint than Amazon's, with or without a scheme, by path or by host."""
    found = _bucket(of_configuration({"storage": {"s3": S3 | more}}, {}))
    assert (endpoint, plain) == (found.options["endpoint"], found.plain_http)


def test_configuration__gcs_and_azure() -> None:
    """The parameters of the other two drivers."""
    gcs = _bucket(of_configuration({"storage": {"gcs": {"bucket": "b", "keyfile": "/k.json"}}}, {}))
    assert ("gs", "b", {"service_account": "/k.json"}) == (gcs.kind, gcs.name, gcs.options)
    inline = {"bucket": "b", "credentials": {"type": "service_account", "client_email": "x"}}
    gcs = _bucket(of_configuration({"storage": {"gcs": inline}}, {}))
    assert '"client_email": "x"' in gcs.options["service_account_key"]
    azure = {
        "accountname": "a",
        "container": "c",
        "serviceurl": "http://127.0.0.1:1/a",
        "credentials": {"type": "client_secret", "clientid": "i", "tenantid": "t", "secret": "s"},
    }
    found = _bucket(of_configuration({"storage": {"azure": azure}}, {}))
    assert ("az", "c", True) == (found.kind, found.name, found.plain_http)
    assert {
        "account_name": "a",
        "endpoint": "http://127.0.0.1:1/a",
        "client_id": "i",
        "tenant_id": "t",
        "client_secret": "s",
    } == found.options


def test_variables__override() -> None:
    """Variables override the file as they do for the registry: the driver as a whole first, then parameters."""
    named = {"storage": {"filesystem": {"rootdirectory": "/data"}}}
    moved = {"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": "/other", "REGISTRY_HTTP_ADDR": ":5000"}
    assert Directory(Path("/other")) == of_configuration(named, moved)
    other = {
        "REGISTRY_STORAGE": "s3",
        "REGISTRY_STORAGE_S3_BUCKET": "b",
        "REGISTRY_STORAGE_S3_SECURE": "false",
        "REGISTRY_STORAGE_S3_REGIONENDPOINT": "minio:9000",
        "REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR": "inmemory",
    }
    found = _bucket(of_configuration(named, other))
    assert ("b", "http://minio:9000") == (found.name, found.options["endpoint"])
    azure = {"REGISTRY_STORAGE": "azure", "REGISTRY_STORAGE_AZURE_ACCOUNTNAME": "a"} | {
        "REGISTRY_STORAGE_AZURE_CONTAINER": "c",
        "REGISTRY_STORAGE_AZURE_CREDENTIALS_TYPE": "client_secret",
        "REGISTRY_STORAGE_AZURE_CREDENTIALS_SECRET": "s",
    }
    assert _bucket(of_configuration(None, azure)).options["client_secret"] == "s"


@pytest.mark.parametrize(
    ("configuration", "environ", "says"),
    [
        (None, {}, "none"),
        ({"storage": {}}, {}, "none"),
        ({"storage": ["s3"]}, {}, "none"),
        ({"storage": {"s3": S3, "filesystem": {}}}, {}, "filesystem, s3"),
        ({"storage": {"filesystem": {}}}, {"REGISTRY_STORAGE_S3_BUCKET": "b"}, "filesystem, s3"),
        ({"storage": {"inmemory": {}}}, {}, "'inmemory'"),
        ({"storage": {"swift": {}}}, {}, "filesystem, s3, s3aws, gcs and azure"),
        ({"storage": {"s3": {}}}, {}, "storage.s3.bucket"),
        ({"storage": {"gcs": {}}}, {}, "storage.gcs.bucket"),
        ({"storage": {"azure": {"accountname": "a"}}}, {}, "storage.azure.container"),
        ({"storage": {"s3": S3}}, {"REGISTRY_STORAGE_S3_REGION": "[a"}, "REGISTRY_STORAGE_S3_REGION"),
    ],
)
def test_configuration__refused(configuration: Any, environ: dict[str, str], says: str) -> None:
    """What names no single driver that can be read is refused, with what is wrong."""
    with pytest.raises(ConfigurationError) as refused:
        of_configuration(configuration, environ)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        (b"a: [", "is not YAML"),
        (b"\xff\xfe\xff", "is not YAML"),
        (b"x" * 2**21, "1 MiB"),
    ],
)
def test_configuration__file_that_is_none(tmp_path: Path, content: bytes | None, says: str) -> None:
    """A configuration that cannot be read is one sentence that names it."""
    path = tmp_path / "config.yml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=says):
        whereabouts_of(Settings(reconciler_registry_config=path), {})


def test_configuration__file(tmp_path: Path) -> None:
    """The registry's own file, as it is."""
    path = tmp_path / "config.yml"
    path.write_text(
        "version: 0.1\nstorage:\n  filesystem: {rootdirectory: /data}\n  delete: {enabled: true}\n"
    )
    assert Directory(Path("/data")) == whereabouts_of(Settings(reconciler_registry_config=path), {})
