"""The GitHub workflows, as far as they can be tried without GitHub: their form, their safety, and what they run."""

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
BIN = Path(sys.executable).parent


def test_the_workflows_follow_the_schema():
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_zizmor_finds_nothing_unsafe():
    done = subprocess.run([BIN / "zizmor", "--offline", *WORKFLOWS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_nothing_may_more_than_it_needs(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    writes = {name: {key for key, value in job["permissions"].items() if value == "write"}
              for name, job in workflow["jobs"].items()}  # fmt: skip
    assert {name: keys for name, keys in writes.items() if keys} in (
        {},
        {"comment": {"pull-requests"}},
        {"publish": {"id-token"}},
    )
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            action, _, version = step.get("uses", "").partition("@")
            assert not action or len(version) == 40


def step(workflow: str, job: str, name: str) -> str:
    steps = yaml.safe_load((ROOT / ".github/workflows" / workflow).read_text())["jobs"][job]["steps"]
    (found,) = [step["run"] for step in steps if step.get("name") == name]
    return found


@pytest.mark.parametrize(("code", "said"), [(0, "### No drift"), (2, "### Drift: 3 cells"), (2, "")])
def test_the_step_hands_on_what_the_check_says_and_its_failure(code, said, tmp_path):
    """GitHub's own call: bash -e on the step's text; make is the real one, on a Makefile that only says and exits."""
    words = f"@printf '%s' '{said}' >> $$GITHUB_STEP_SUMMARY; exit {code}"
    (tmp_path / "Makefile").write_text(f"check-drift:\n\t{words}\n")
    (tmp_path / "summary").touch()
    environment = os.environ | {"GITHUB_STEP_SUMMARY": "summary", "GITHUB_OUTPUT": "output"}
    script = step("drift.yml", "check", "Compare with the frozen baseline")
    done = subprocess.run(["bash", "-e", "-o", "pipefail", "-c", script], cwd=tmp_path, env=environment,
                          capture_output=True)  # fmt: skip
    assert bool(done.returncode) == bool(code)
    assert (tmp_path / "drift.md").exists() == bool(said)
    if said:
        assert (tmp_path / "drift.md").read_text() == said
        assert (tmp_path / "output").read_text() == "told=true\n"


class Comments(BaseHTTPRequestHandler):
    """The part of GitHub's interface that comments need."""

    known: dict[int, dict]
    may_write: bool

    def do_GET(self):
        query = parse_qs(urlparse(self.path).query)
        assert self.path.startswith("/repos/us/rapbench/issues/12/comments?")
        assert self.headers["Authorization"] == "Bearer secret"
        start = (int(query["page"][0]) - 1) * int(query["per_page"][0])
        self.answer(200, list(self.known.values())[start : start + int(query["per_page"][0])])

    def do_POST(self):
        assert self.path == "/repos/us/rapbench/issues/12/comments"
        self.keep(max(self.known, default=0) + 1)

    def do_PATCH(self):
        start = "/repos/us/rapbench/issues/comments/"
        assert self.path.startswith(start)
        self.keep(int(self.path.removeprefix(start)))

    def keep(self, number: int):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["body"]
        if not self.may_write:
            self.answer(403, {"message": "Resource not accessible by integration"})
            return
        self.known[number] = {"id": number, "body": body, "user": {"type": "Bot"}}
        self.answer(200, self.known[number])

    def answer(self, code: int, content: object):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def github():
    handler = type("Handler", (Comments,), {"known": {}, "may_write": True})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def post(folder: Path, url: str, text: str) -> subprocess.CompletedProcess[str]:
    shutil.copytree(ROOT / ".ci", folder / ".ci", dirs_exist_ok=True)
    (folder / "drift.md").write_text(text)
    environment = os.environ | {"GITHUB_API_URL": url, "GITHUB_REPOSITORY": "us/rapbench", "GITHUB_TOKEN": "secret",
                                "PULL_REQUEST": "12"}  # fmt: skip
    script = step("drift.yml", "comment", "Post the table, or renew it")
    return subprocess.run(["bash", "-e", "-c", script], cwd=folder, env=environment, capture_output=True, text=True)


def test_a_comment_is_posted_once_and_then_renewed(github, tmp_path):
    handler, url = github
    for number in range(1, 131):  # more than a page; others' comments, one that quotes ours among them
        body = "<!-- rapbench drift -->\nquoted" if number == 7 else "looks good"
        handler.known[number] = {"id": number, "body": body, "user": {"type": "User"}}
    for text in ("### Drift: 3 cells", "### No drift"):
        done = post(tmp_path, url, text)
        assert done.returncode == 0, done.stderr
        assert sorted(handler.known) == list(range(1, 132))
        assert handler.known[131]["body"] == f"<!-- rapbench drift -->\n{text}"
    assert handler.known[7]["body"].endswith("quoted")


def test_a_long_table_is_cut_at_a_line(github, tmp_path):
    handler, url = github
    assert post(tmp_path, url, "| a row |\n" * 10_000).returncode == 0
    body = handler.known[1]["body"]
    assert len(body) < 65_536
    assert body.endswith("| a row |\n\n... the rest is in the job's summary.")


def test_a_fork_cannot_comment_and_that_is_no_failure(github, tmp_path):
    handler, url = github
    handler.may_write = False
    done = post(tmp_path, url, "### No drift")
    assert done.returncode == 0
    assert "the table is in the job's summary" in done.stdout
    assert not handler.known


def test_another_failure_is_one(github, tmp_path):
    assert post(tmp_path, f"{github[1]}/nowhere", "### No drift").returncode != 0
