"""What this project itself is made of, published to an index on AWS and installed from it alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients import Desk, account
from tests.deployed import Deployment
from tests.heavy.test_corpus import (
    check_pages,
    download_corpus,
    install_with_pip,
    install_with_uv,
    read_pins,
    twine_takes,
    upload,
)
from tests.loop import running_on_aws
from tests.running import run_command

_FITS = 4 * 2**20  # bytes, through API Gateway


@pytest.mark.heavy
@pytest.mark.timeout(900)  # the first time, all of the corpus has to be downloaded
def test_the_corpus_is_published_and_installed(deployment: Deployment, tmp_path: Path) -> None:
    pins = read_pins()
    files_of = download_corpus(pins)
    corpus = sorted(file for files in files_of.values() for file in files)
    by_twine = [file for file in corpus if file.stat().st_size < _FITS and twine_takes(file)][::3]
    rest = sorted(set(corpus) - set(by_twine))
    by_command, by_hand = rest[::2], rest[1::2]
    with running_on_aws(deployment, tmp_path) as running:
        index = account(running)
        for file in by_hand:
            running.put(file.name, file.read_bytes())
        upload(Desk(tmp_path, "upload"), index, by_twine)
        url = index.index_url.removesuffix("simple/")
        sent = run_command("upload", *by_command, "--url", url, home=tmp_path / "home")
        assert sent.returncode == 0, sent.stdout + sent.stderr
        running.settle(seconds=300)
        check_pages(index, files_of)
        install_with_pip(Desk(tmp_path, "pip"), index, pins)
        install_with_uv(Desk(tmp_path, "uv"), index, pins)
        assert running.waiting(dead=True) == 0
