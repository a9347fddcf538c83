"""The vendor's Go and Java clients, unmodified, against the same server.

Their tests are written in their own languages, under go/ and java/. What they need is fetched in a step of its own, and the
tests run without a registry: what fails there is a failure. A toolchain that is missing, or dependencies that cannot be
fetched, are no failure, but the last lines of the run name them.
"""
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

HERE = pathlib.Path(__file__).parent
# Seconds: some hundred small files over a slow line; a cold compilation on a busy machine.
FETCH, RUN = 600, 600
# How Maven tells that it lacks a package: by the link to its help, or through the runner, which looks for parts of its own.
UNRESOLVED = re.compile(r"\[Help 1\] http\S+/\w*ResolutionException\b|artifacts could not be resolved")


def run(command, directory, environment, seconds):
    """Exit code and output; the code is None past the time. Its children end with it."""
    process = subprocess.Popen(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True)
    try:
        output, _ = process.communicate(timeout=seconds)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return None, f"{output}\nkilled after {seconds} seconds"
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def client_environment(server):
    return {**server.environment(), "KNARR_HOST": server.host, "KNARR_BIN": server.binary}


def need(client, *tools):
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        pytest.skip(f"the {client} client: no {' and no '.join(missing)} on this machine")


def unfetched(client, output):
    """Skips, with the line of `output` that says most."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith("[ERROR]")), lines[-1] if lines else "no output")
    pytest.skip(f"the {client} client: its dependencies could not be fetched: {told[:400]}")


def passed(client, code, output):
    assert code == 0, f"the {client} client against the server: exit {code}\n{output[-20000:]}"


def go(server, **more):
    need("Go", "go")
    # No C compiler, no newer Go than the one that is there.
    environment = {**client_environment(server), "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", **more}
    code, output = run(["go", "mod", "download"], HERE / "go", environment, FETCH)
    if code != 0:
        assert "checksum mismatch" not in output, output
        unfetched("Go", output)
    tests = ["go", "test", "-mod=readonly", "-count=1", f"-timeout={RUN - 10}s", "./..."]
    passed("Go", *run(tests, HERE / "go", {**environment, "GOPROXY": "off"}, RUN))


def java(server, directory, *options):
    need("Java", "mvn", "javac")
    environment = client_environment(server)
    # Strict checksums: a damaged download is none.
    maven = ["mvn", "-B", "-q", "-C", "-Dstyle.color=never", f"-Dtarget={directory}", *options, "test"]
    tests = [*maven, "-o", "-DfailIfNoTests"]
    code, output = run(tests, HERE / "java", environment, RUN)
    if code and UNRESOLVED.search(output):
        # The runner fetches its own parts only when there is a test, so it is given one that needs no server.
        code, output = run([*maven, "-Dtest=ClasspathTest"], HERE / "java", environment, FETCH)
        assert "Checksum validation failed" not in output, output
        if code is None or UNRESOLVED.search(output):
            unfetched("Java", output)
        passed("Java", code, output)
        code, output = run(tests, HERE / "java", environment, RUN)
    passed("Java", code, output)


def test_the_go_client(server):
    go(server)


def test_the_java_client(server, tmp_path):
    java(server, tmp_path)


def test_go_modules_that_cannot_be_fetched_are_no_failure(server, tmp_path):
    with pytest.raises(pytest.skip.Exception, match="no go on|could not be fetched: .*disabled by GOPROXY=off"):
        go(server, GOMODCACHE=str(tmp_path), GOPROXY="off", GOFLAGS="-modcacherw")


def test_java_packages_that_cannot_be_fetched_are_no_failure(server, tmp_path):
    settings = tmp_path / "settings.xml"
    settings.write_text("<settings><mirrors><mirror><id>none</id><mirrorOf>*</mirrorOf><url>http://127.0.0.1:1</url>"
                        "</mirror></mirrors></settings>")
    with pytest.raises(pytest.skip.Exception, match="no mvn|no javac|could not be fetched: .*ERROR"):
        java(server, tmp_path / "target", "-s", str(settings), f"-Dmaven.repo.local={tmp_path / 'packages'}")
