"""Sequences that are run once, then recorded and replayed: with a device that only writes down what it does."""

import pytest

from layerforge.device.base import Device
from layerforge.errors import DeviceError
from layerforge.recorder import Recorder, Step


class Paper(Device):
    """A device whose launches are words, and whose records are lists of them."""

    name = "paper"
    records = True

    def __init__(self):
        self.said, self.kept, self.made = [], None, 0

    def say(self, word):
        (self.said if self.kept is None else self.kept).append(word)

    def read(self):
        if self.kept is not None:
            raise DeviceError("read: not while launches are recorded")

    def record(self, work):
        self.kept = kept = []
        try:
            work()
        finally:
            self.kept = None
        self.made += 1
        return lambda: self.said.append(" ".join(kept))

    def synchronize(self):
        self.said.append("wait")

    zeros = gemm = to_numpy = from_numpy = None


class Sequence:
    def __init__(self, device, words, apart=()):
        self.device, self.words, self.uses = device, words, [object()]
        self.apart = apart
        self.grows = False
        self.recorder = Recorder(device, self.steps, lambda: list(self.uses))

    def steps(self):
        return [Step(lambda word=word: self.run(word), word not in self.apart, word) for word in self.words]

    def run(self, word):
        if word.endswith("!"):
            self.device.read()
        if word == "grow" and self.grows:
            self.uses = [object()]
        self.device.say(word)

    def __call__(self):
        self.device.said.clear()
        self.recorder.run()
        return list(self.device.said)


@pytest.fixture
def paper():
    return Paper()


def test_the_second_run_records_and_the_third_replays(paper):
    run = Sequence(paper, ["a", "b", "c"])
    assert (run(), paper.made, run.recorder.records) == (["a", "b", "c"], 0, 0)
    assert (run(), paper.made, run.recorder.records) == (["a b c"], 1, 1)
    assert (run(), paper.made) == (["a b c"], 1)


def test_what_is_exchanged_is_recorded_anew(paper):
    run = Sequence(paper, ["a", "b"])
    run(), run()
    run.uses = [object()]
    assert run() == ["wait", "a", "b"]  # until the old record is done with, for it may be running
    assert (run(), paper.made) == (["a b"], 2)
    run.uses.append(run.uses[0])
    assert run() == ["wait", "a", "b"]
    run.recorder.forget()
    assert run() == ["a", "b"]


def test_steps_that_say_that_they_are_not_recorded(paper):
    run = Sequence(paper, ["data", "a", "b", "python", "c"], apart=("data", "python"))
    run()
    assert run() == run() == ["data", "a b", "python", "c"]
    assert run.recorder.records == 2
    assert run.recorder.apart == {}


def test_steps_that_turn_out_not_to_be_recordable(paper, caplog):
    caplog.set_level("INFO")
    run = Sequence(paper, ["a", "b!", "c", "d!", "e"])
    run()
    assert run() == run() == ["a", "b!", "c", "d!", "e"]
    assert run.recorder.records == 3
    assert run.recorder.apart == dict.fromkeys(("b!", "d!"), "read: not while launches are recorded")
    assert caplog.messages == [f"{x} is not recorded (read: not while launches are recorded)" for x in ("b!", "d!")]


def test_a_record_that_cannot_be_ended_is_done_without(paper, caplog):
    caplog.set_level("INFO")
    run = Sequence(paper, ["a", "b"])
    run()
    record = paper.record

    def fail(work):
        record(work)
        raise RuntimeError("cudaErrorStreamCaptureInvalidated")

    paper.record = fail
    assert run() == run() == ["a", "b"]
    assert caplog.messages == ["Launches cannot be recorded (cudaErrorStreamCaptureInvalidated)"]


def test_a_step_that_changes_what_the_others_use(paper):
    run = Sequence(paper, ["grow", "a", "b"], apart=("grow",))
    run()
    assert run() == ["grow", "a b"]
    run.grows = True
    assert run() == ["grow", "wait", "a", "b"]
    run.grows = False
    assert run() == ["grow", "a", "b"]
    assert run() == ["grow", "a b"]
