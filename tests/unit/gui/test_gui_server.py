"""How the page is served: addresses, Streamlit's settings, and what is said where that cannot be."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import queue
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cmx4trt.cli import gui as command
from cmx4trt.cli import main
from cmx4trt.errors import MissingSoftwareError, RequestError
from cmx4trt.gui import server
from cmx4trt.gui.scripts import own_script, script_from_tags
from cmx4trt.gui.settings import PageSettings


def test_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(RequestError, match=f"cannot listen on port {port} of 127.0.0.1: .*; give another --port"):
            server.free_port("127.0.0.1", port)
    assert server.free_port("127.0.0.1", port) == port


def test_any_free_port() -> None:
    assert server.free_port("127.0.0.1", 0) > 0


@pytest.mark.parametrize("address", ["192.0.2.1", "not an address"])
def test_an_address_of_another_machine(address: str) -> None:
    with pytest.raises(RequestError, match="cannot listen on port"):
        server.free_port(address, 0)


def test_nothing_is_asked_sent_or_opened_up() -> None:
    options = server._options("127.0.0.1", 8501, "secret", browser=False)
    assert {
        "browser.gatherUsageStats": False,
        "server.showEmailPrompt": False,
        "server.headless": True,
        "server.enableXsrfProtection": True,
        "server.enableCORS": True,
        "server.address": "127.0.0.1",
        "server.baseUrlPath": "secret",
        "server.allowedHosts": ["127.0.0.1", "::1", "localhost"],
        "client.showErrorDetails": "none",
    }.items() <= options.items()
    assert "server.headless" not in server._options("127.0.0.1", 8501, "secret", browser=True)
    assert "server.allowedHosts" not in server._options("0.0.0.0", 8501, "secret", browser=True)


@pytest.mark.skipif(importlib.util.find_spec("streamlit") is None, reason="Streamlit is not installed (cmx4trt[gui])")
def test_streamlit_knows_every_setting() -> None:
    from streamlit import config

    known = config.get_config_options()
    assert set(server._options("127.0.0.1", 8501, "secret", browser=False)) <= set(known)


@pytest.mark.parametrize("words", [[], ["--address="]])
def test_without_an_address_it_is_this_machine_only(words: list[str]) -> None:
    """An empty one, of a shell variable that is not set, would be every address of the machine."""
    pytest.importorskip("streamlit", reason="Streamlit is not installed (pip install 'cmx4trt[gui]')")
    served: list[str] = []
    serve: Any = lambda settings, address, port, token, browser: served.append(address)  # noqa: E731
    command.run(parsed("--port=0", *words), serve)
    assert served == [server.DEFAULT_ADDRESS]


def test_every_server_has_a_secret_of_its_own_in_the_address_it_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("streamlit", reason="Streamlit is not installed (pip install 'cmx4trt[gui]')")
    tokens: list[str] = []
    serve: Any = lambda settings, address, port, token, browser: tokens.append(token)  # noqa: E731
    for _ in range(2):
        command.run(parsed("--port=0"), serve)
        assert f"/{tokens[-1]}/\n" in capsys.readouterr().out
    assert tokens[0] != tokens[1]
    assert min(map(len, tokens)) >= 43, "256 bits"


def test_a_port_that_somebody_else_took_meanwhile() -> None:
    """After it was found free: a sentence, where Streamlit would end the process."""
    pytest.importorskip("streamlit", reason="Streamlit is not installed (pip install 'cmx4trt[gui]')")
    code = (
        "import sys\n"
        "from cmx4trt.errors import RequestError\n"
        "from cmx4trt.gui.server import serve\n"
        "from cmx4trt.gui.settings import PageSettings\n"
        "try:\n"
        "    serve(PageSettings('/s', (), (), '/', own=True), '127.0.0.1', int(sys.argv[1]), 'secret', browser=False)\n"
        "except RequestError as error:\n"
        "    print(error)\n"
    )
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = subprocess.run([sys.executable, "-c", code, str(port)], capture_output=True, text=True, check=True)
    assert f"the web UI's server did not start on port {port} of 127.0.0.1; see its output above" in done.stdout


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser, "gui")
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("127.0.0.1", "http://127.0.0.1:8501/secret/"),
        ("::1", "http://[::1]:8501/secret/"),
        ("0.0.0.0", "http://localhost:8501/secret/"),
    ],
)
def test_addresses_that_a_browser_can_open(address: str, shown: str) -> None:
    assert server.page_address(address, 8501, "secret") == shown


@pytest.mark.parametrize("headless", [False, True])
def test_the_users_browser(monkeypatch: pytest.MonkeyPatch, headless: bool) -> None:
    """Opened once the server listens; not on a machine without a screen, by Streamlit's own reckoning.

    Its command line, which every user of the machine can read, names a file that only this one can read.
    """
    streamlit = pytest.importorskip("streamlit", reason="Streamlit is not installed (pip install 'cmx4trt[gui]')")
    opened: queue.SimpleQueue[str] = queue.SimpleQueue()
    monkeypatch.setattr(streamlit, "get_option", {"server.headless": headless}.__getitem__)
    monkeypatch.setattr("webbrowser.open", opened.put)

    async def begin() -> None:
        async with server._opened_in_browser("http://127.0.0.1:8501/secret/")(None):
            if headless:
                return
            address = opened.get(timeout=60)
            assert "secret" not in address
            path = Path(address.removeprefix("file://"))
            assert 'content="0; url=http://127.0.0.1:8501/secret/"' in path.read_text()
            assert path.parent.stat().st_mode & 0o077 == 0
        assert not path.exists()

    asyncio.run(begin())
    assert opened.empty()


@pytest.mark.parametrize("module", ["streamlit", "cmind", "yaml"])
def test_missing_software(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: str) -> None:
    for name in ("streamlit", "cmind", "yaml"):
        there = ModuleType(name)
        there.__spec__ = importlib.util.find_spec("os")
        monkeypatch.setitem(sys.modules, name, None if name == module else there)
    with pytest.raises(MissingSoftwareError, match=f"the web UI needs {module}, .*pip install"):
        server.check_installed()
    assert main(["gui", "--no_browser", "--port=0"]) == 5
    error = capsys.readouterr().err
    assert error.startswith(f"cmx4trt: error: the web UI needs {module}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--port=four"], "port is 'four', expected a whole number from 0 to 65535"),
        (["--port=70000"], "port is 70000"),
        (["--no_browser=perhaps"], "no_browser is 'perhaps', expected yes or no"),
        (["--folder=/does/not/exist"], "folder /does/not/exist does not exist"),
        (["--script=_resnet50"], "expected the tags of a CM script"),
        (["--prot=1"], "did you mean '--port'"),
    ],
)
def test_flags(capsys: pytest.CaptureFixture[str], words: list[str], expected: str) -> None:
    pytest.importorskip("streamlit", reason="Streamlit is not installed (pip install 'cmx4trt[gui]')")
    assert main(["gui", *words]) == 2
    assert expected in capsys.readouterr().err


def test_own_script_is_selected_by_its_own_tag() -> None:
    script = own_script()
    assert script.tags[-1] == "cmx4trt"
    assert (Path(script.folder) / "_cm.yaml").is_file()


FOUND = "  \nWarning: words of CM\n{folder}\n"


def test_scripts_by_tags(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        (folder / "_cm.yaml").write_text("alias: lab\nvariations: {fast: {}}\n")
    asked: list[tuple[str, ...]] = []

    def run_cm(*words: str) -> str:
        asked.append(words)
        return FOUND.format(folder="\n".join(map(str, folders)))

    with pytest.raises(RequestError, match=r"CM knows 2 scripts with the tags a,b \(one, two\); give more tags"):
        script_from_tags("a b", run_cm)
    del folders[1]
    script = script_from_tags("a, b _fast", run_cm)
    assert (script.folder, script.tags, script.variations) == (str(folders[0]), ("a", "b"), ("fast",))
    assert asked[-1] == ("find", "script", "--tags=a,b")
    with pytest.raises(RequestError, match="the script lab has no variation _slow"):
        script_from_tags("a,_slow", run_cm)
    del folders[0]
    with pytest.raises(RequestError, match="CM knows no script with the tags a"):
        script_from_tags("a", run_cm)


def test_settings_survive_the_way_to_the_page() -> None:
    settings = PageSettings("/s", ("a", "b"), ("v",), "/dossier à part", own=True, may_run=False, title="T")
    assert PageSettings.from_json(settings.to_json()) == settings
