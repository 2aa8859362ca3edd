"""Watching a run: the report is written again when results change, and only then, and ends by itself."""

from __future__ import annotations

import os
import shutil
import threading
import time
from dataclasses import replace

import pytest

from pflbench.results import ResultsError, find_trials, write_trial
from pflbench_reports.watch import look, watch, watch_report

STEP = 0.01  # seconds


class Watching:
    """A watch in a thread, with what it wrote and said."""

    def __init__(self, paths, settled=0.05, write=None):
        self.paths, self.write = paths, write
        self.reports, self.said, self.error = [], [], None
        self.settled = settled
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            watch(self.paths, self._write, self.said.append, STEP, self.settled)
        except BaseException as error:
            self.error = error

    def _write(self, watched):
        if self.write is not None:
            self.write()
        trials = find_trials(self.paths)[0]
        if not trials:
            raise ResultsError("No readable trial is found")
        self.reports.append((watched, sorted((trial.state, trial.round) for trial in trials)))

    def until(self, condition):
        end = time.monotonic() + 20
        while not condition() and time.monotonic() < end:
            time.sleep(STEP)
        assert condition(), (self.reports, self.said, self.error)

    def ended(self):
        return not self.thread.is_alive()


@pytest.fixture
def runs(tmp_path):
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def running(trial, **changes):
    return trial({"A": 0.6}, state="running", done=0, **changes)


def finish(trial):
    write_trial(replace(trial, state="finished", round=2))


def test_the_report_follows_a_run_and_ends_with_it(trial, runs):
    one = running(trial)
    watching = Watching([runs])
    watching.until(lambda: len(watching.reports) == 1)
    write_trial(replace(one, round=1))
    watching.until(lambda: watching.reports[-1][1] == [("running", 1)])
    assert not watching.ended()
    finish(one)
    watching.until(watching.ended)
    assert watching.error is None
    assert watching.reports[-1] == (False, [("finished", 2)])  # the last page is no longer reloaded
    assert all(watched for watched, _ in watching.reports[:-1])


def test_there_is_one_line_per_report(trial, runs):
    finish(running(trial))
    watching = Watching([runs])
    watching.until(watching.ended)
    assert len(watching.said) == len(watching.reports) == 2
    assert all("1 trial; 1 finished" in line for line in watching.said)


def test_nothing_is_written_while_nothing_changes(trial, runs):
    running(trial)
    watching = Watching([runs])
    watching.until(lambda: watching.reports)
    time.sleep(20 * STEP)
    assert len(watching.reports) == 1


def test_a_failed_trial_ends_the_watch_too(trial, runs):
    trial({"A": 0.6}, state="failed", done=0, error={"sentence": "It diverged."})
    watching = Watching([runs])
    watching.until(watching.ended)
    assert "1 failed" in watching.said[-1]


def test_it_waits_for_the_next_trial_to_begin(trial, runs):
    finish(running(trial))
    watching = Watching([runs], settled=0.5)
    watching.until(lambda: watching.reports)
    second = running(trial, seed=1)
    watching.until(lambda: ("running", 0) in watching.reports[-1][1])
    finish(second)
    watching.until(watching.ended)
    assert watching.reports[-1][1] == [("finished", 2), ("finished", 2)]


def test_results_left_alone_for_long_are_reported_at_once(trial, runs):
    finish(running(trial))
    for file in look([runs]):
        os.utime(file, (time.time() - 3600,) * 2)
    watching = Watching([runs], settled=600.0)
    watching.until(watching.ended)
    assert watching.reports[-1][0] is False


def test_a_folder_may_vanish(trial, runs):
    one, two = running(trial), running(trial, seed=1)
    watching = Watching([runs])
    watching.until(lambda: watching.reports)
    shutil.rmtree(one.folder)
    watching.until(lambda: len(watching.reports[-1][1]) == 1)
    finish(two)
    watching.until(watching.ended)
    assert watching.error is None


def test_before_the_first_trial_begins_it_says_so_once_and_waits(trial, runs):
    watching = Watching([runs])
    watching.until(lambda: watching.said)
    time.sleep(10 * STEP)
    assert len(watching.said) == 1
    assert "not written: No readable trial is found" in watching.said[0]
    finish(running(trial))
    watching.until(watching.ended)
    assert watching.reports


def test_what_fails_because_files_changed_meanwhile_is_tried_again(trial, runs):
    one = running(trial)
    torn = iter([True])

    def write():
        if next(torn, False):
            write_trial(replace(one, state="finished", round=2))
            raise KeyError("client")

    watching = Watching([runs], write=write)
    watching.until(watching.ended)
    assert watching.error is None
    assert "trying again" in watching.said[0]
    assert watching.reports[-1] == (False, [("finished", 2)])


def test_a_fault_of_the_report_itself_is_not_hidden(trial, runs):
    running(trial)

    def write():
        raise KeyError("a bug")

    watching = Watching([runs], write=write)
    watching.until(watching.ended)
    assert isinstance(watching.error, KeyError)


def test_interrupting_is_left_to_the_caller(trial, runs):
    running(trial)

    def interrupted(watched):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch([runs], interrupted, print, STEP, 0.0)


def test_a_foreign_file_does_not_stop_the_watch(trial, runs):
    (runs / "foreign").mkdir()
    (runs / "foreign/trial.json").write_text("{")
    finish(running(trial))
    watching = Watching([runs])
    watching.until(watching.ended)
    assert watching.error is None
    assert "1 trial" in watching.said[-1]


def test_only_a_watched_page_reloads_itself(trial, runs, tmp_path):
    trial({"A": 0.6, "B": 0.7})
    waiting = running(trial, seed=1)
    page, pages = tmp_path / "out/report.html", []

    def say(line):
        pages.append(page.read_text())
        shutil.rmtree(waiting.folder, ignore_errors=True)  # the run is given up after the first report

    watch_report([runs], tmp_path / "out", say=say, interval=STEP, settled=0.0)
    assert 'http-equiv="refresh"' in pages[0]
    assert "Trials without a result" in pages[0]
    assert 'http-equiv="refresh"' not in pages[-1]
    assert "Trials without a result" not in pages[-1]
