"""What a run that is cut off leaves, and how it is continued: `python3 -m unittest driver.test_rounds`."""

import argparse
import pathlib
import tempfile
import types
import unittest

from .kept import Kept
from .report import render
from .rounds import Rounds
from .servers import Unavailable, run
from .workloads import Target

WORKLOAD = types.SimpleNamespace(
    id="echo", title="Echo", servers=["floor", "polecat", "axum"], rounds_max=100, apart_s=0,
    target=Target("at most 1.10 of the floor", 1.10, "floor"), unit="µs", note="",
)
# The order of each round is that of the one before, turned round; the peer is in the first two only.
WHOLE = [(0, "floor"), (0, "polecat"), (0, "axum"), (1, "axum"), (1, "polecat"), (1, "floor"), (2, "floor"), (2, "polecat")]


class CutOff(Exception):
    """Stands for the end of the process."""


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name) / "samples.json"

    def measure(self, goes_on=False, cut_off_after=100, stop_after=100, **conditions):
        """Measures as a process of its own would. Returns whom it has measured."""
        given = argparse.Namespace(rounds=3, peer_rounds=2, goes_on=goes_on)
        rounds = Rounds(
            Kept(self.path), {"commit": "c", "seconds": 1, **conditions}, lambda name: name != "axum", given
        )
        measured = []

        def sample(name):
            if len(measured) == cut_off_after:
                raise CutOff
            measured.append(name)
            if len(measured) == stop_after:
                rounds.stop()
            return {"figure": float(len(measured))}

        try:
            rounds.measure(WORKLOAD, sample, lambda *_: None)
        except CutOff:
            pass
        return measured

    def kept(self):
        return [(sample["round"], sample["server"]) for sample in Kept(self.path).workloads["echo"]["samples"]]

    def test_a_run_that_is_cut_off_leaves_what_it_has_and_is_continued(self):
        self.assertEqual(len(self.measure(cut_off_after=4)), 4)
        self.assertEqual(self.kept(), WHOLE[:4])
        text = render([WORKLOAD], Kept(self.path).workloads, [], {}, str)
        self.assertIn("over 1 pairs", text)
        # The round that was cut off is measured anew, since its figures belong together.
        self.assertEqual(self.measure(goes_on=True), [name for _, name in WHOLE[3:]])
        self.assertEqual(self.kept(), WHOLE)
        self.assertEqual(self.measure(goes_on=True), [])
        self.assertEqual(self.kept(), WHOLE)

    def test_what_is_stopped_finishes_the_measurement_under_way(self):
        self.assertEqual(len(self.measure(stop_after=5)), 5)
        self.assertEqual(self.kept(), WHOLE[:5])

    def test_figures_of_different_conditions_are_not_mixed(self):
        self.measure()
        self.assertEqual(len(self.measure(goes_on=True, seconds=2, cut_off_after=2)), 2)
        self.assertEqual(self.kept(), WHOLE[:2])
        self.measure()
        self.assertEqual(len(self.measure(cut_off_after=1)), 1, "nothing is taken over unless it is asked for")

    def test_an_old_result_stays_until_there_is_a_new_one(self):
        self.measure()
        self.measure(cut_off_after=0)
        self.assertEqual(self.kept(), WHOLE)

    def test_a_program_that_is_not_there_makes_a_peer_unavailable(self):
        with self.assertRaisesRegex(Unavailable, "no-such-program"):
            run(["no-such-program", "--version"])
