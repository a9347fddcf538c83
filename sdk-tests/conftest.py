"""One server for the whole run; every test makes its own collections."""
import os
import secrets

import pytest

from harness import REGION, Server

# The SDK goes through requests and aiohttp, which would send even loopback calls to a configured proxy.
os.environ.update(NO_PROXY="127.0.0.1,localhost", no_proxy="127.0.0.1,localhost")
# They would silently win over the keys that a test gives.
for name in ("VOLC_ACCESSKEY", "VOLC_SECRETKEY"):
    os.environ.pop(name, None)

from volcengine.viking_db import Data, Field, FieldType, VikingDBService  # noqa: E402


@pytest.fixture(scope="session")
def server():
    server = Server(os.environ["KNARR_BIN"]).start()
    yield server
    server.stop()
    server.remove()


@pytest.fixture
def new_service(server):
    """Makes services with any keys. The class hands out one instance for ever, so each needs it forgotten."""
    def make(ak=None, sk=None):
        if "_instance" in vars(VikingDBService):
            del VikingDBService._instance
        return VikingDBService(server.host, REGION, server.ak if ak is None else ak, server.sk if sk is None else sk)
    return make


@pytest.fixture
def service(new_service):
    return new_service()


@pytest.fixture
def name():
    return "t_" + secrets.token_hex(6)


@pytest.fixture
def people(service, name):
    """A collection with 100 rows: user_id = id % 10, city one of four, v = [id] * 4."""
    fields = [Field("id", FieldType.Int64, is_primary_key=True), Field("user_id", FieldType.Int64),
              Field("city", FieldType.String), Field("score", FieldType.Float32), Field("v", FieldType.Vector, dim=4)]
    collection = service.create_collection(name, fields)
    cities = ["beijing", "shanghai", "北京", "O'Higgins"]
    collection.upsert_data([Data({"id": i, "user_id": i % 10, "city": cities[i % 4], "score": i / 8, "v": [i] * 4})
                            for i in range(100)])
    return collection


def pytest_unconfigure(config):
    """What was not tested is the last that a run says."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    for report in reporter.stats.get("skipped", []) if reporter else []:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reporter.write_line(f"NOT TESTED: {reason.removeprefix('Skipped: ')}", yellow=True, bold=True)
