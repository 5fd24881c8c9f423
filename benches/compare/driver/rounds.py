"""In which order the servers are measured."""

import concurrent.futures
import threading


class Rounds:
    """Measures workloads, round by round, until it is stopped."""

    def __init__(self, kept, conditions, is_ours, given):
        self.kept, self.conditions, self.is_ours, self.given = kept, conditions, is_ours, given
        self.stopped = threading.Event()

    def stop(self):
        """Begins no further measurement; what is being measured still counts."""
        self.stopped.set()

    def is_stopped(self):
        return self.stopped.is_set()

    def names(self, workload, round):
        """Who is measured in this round, in its order."""
        names = [name for name in workload.servers if self.is_ours(name) or round < self.given.peer_rounds]
        # Who comes first changes, so that a drift of the machine hits all alike.
        return names[::-1] if round % 2 == 1 else names

    def measure(self, workload, sample, show):
        """`sample` measures the server that it is given by name; `show` is told of each sample, when it is kept."""
        of = min(self.given.rounds, workload.rounds_max)
        rounds = [self.names(workload, round) for round in range(of)]
        series = self.kept.begin(workload.id, self.conditions, rounds, self.given.goes_on)
        shown = threading.Lock()

        def take(round, name, delay):
            if self.stopped.wait(delay):
                return
            taken = {"round": round, "server": name, **sample(name)}
            with shown:
                series.add(taken)
                show(workload, round, of, taken)

        for round, names in enumerate(rounds):
            if series.has(round) or self.is_stopped():
                continue
            at_once = len(names) if workload.apart_s else 1
            with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
                taking = [pool.submit(take, round, name, i * workload.apart_s) for i, name in enumerate(names)]
            for taken in taking:
                taken.result()
