"""What was measured, in a file that is whole at any moment: a run that is cut off leaves all that it has."""

import datetime
import json
import os


class Kept:
    """The samples of all workloads, and the versions of the servers. Each sample is written when it is there."""

    def __init__(self, path):
        self.path = path
        content = json.loads(path.read_text()) if path.exists() else {}
        self.workloads = content.get("workloads", {})
        self.versions = content.get("versions", {})

    def begin(self, workload, conditions, names_of_rounds, goes_on):
        """Begins to measure a workload. With `goes_on`, whole rounds that an earlier run has measured under the
        same conditions stay. The others are measured anew: a ratio is of two figures that were taken soon one
        after the other. What is replaced stays in the file until the first new sample is there."""
        before = self.workloads.get(workload)
        samples = []
        if goes_on and before and before["conditions"] == conditions:
            taken = {(sample["round"], sample["server"]) for sample in before["samples"]}
            whole = {
                round
                for round, names in enumerate(names_of_rounds)
                if all((round, name) in taken for name in names)
            }
            samples = [sample for sample in before["samples"] if sample["round"] in whole]
        return Series(self, workload, {"conditions": conditions, "samples": samples})

    def add_version(self, label, version):
        self.versions[label] = version

    def write(self):
        # Wherever it is cut off, the file has the old content or the new one.
        new = self.path.with_suffix(".new")
        with open(new, "w") as file:
            json.dump({"versions": self.versions, "workloads": self.workloads}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.path)


class Series:
    """The samples of one workload, in a run."""

    def __init__(self, kept, workload, content):
        self.kept, self.workload, self.content = kept, workload, content
        self.rounds = {sample["round"] for sample in content["samples"]}

    def has(self, round):
        """Whether an earlier run has measured this round."""
        return round in self.rounds

    def add(self, sample):
        self.content["samples"].append(sample)
        self.content["date"] = datetime.date.today().isoformat()
        self.kept.workloads[self.workload] = self.content
        self.kept.write()
