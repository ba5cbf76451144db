"""The command line of a study."""

import pytest

from train.study import main

CONFIG = "--config=configs/studies/quickstart.py"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("--config.arms=('pretrained','scratsh')", "did you mean 'scratch'"),
        ("--config.budgets=(-3,)", "none may be negative"),
        ("--config.finetune.stepz=3", "stepz"),
    ],
)
def test_bad_config_is_one_sentence_and_leaves_no_folder(
    tmp_path, capsys, monkeypatch, override, words
):
    workdir = tmp_path / "study"
    arguments = [CONFIG, f"--workdir={workdir}", override]
    monkeypatch.setattr("sys.argv", ["study", *arguments])  # ml_collections reads overrides there
    assert main.main() == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not workdir.exists()


def test_help_tells_how_to_go_on(capsys):
    assert main.main(["--help"]) == 0
    assert "same command continues" in capsys.readouterr().out
