"""From samples to tables."""

import statistics


def median(values):
    return statistics.median(values)


def spread(values, write):
    if len(values) == 1:
        return write(values[0])
    return f"{write(median(values))} ({write(min(values))}–{write(max(values))})"


def number(unit):
    if unit == "µs":
        return lambda value: f"{value:.2f}" if value < 100 else f"{value:,.0f}"
    return lambda value: f"{value:,.0f}"


def ratio(value):
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def good(samples, name, field="figure"):
    """A server's figures by round."""
    of_server = (sample for sample in samples if sample["server"] == name)
    return {sample["round"]: sample[field] for sample in of_server if sample.get(field) is not None}


def paired(samples, name, base):
    """The ratios of two servers, round by round."""
    ours, theirs = good(samples, name), good(samples, base)
    return [ours[round] / theirs[round] for round in sorted(ours) if theirs.get(round)]


def reasons(samples, name):
    return sorted({sample["error"] for sample in samples if sample["server"] == name and "error" in sample})


def verdict(workload, samples):
    target = workload.target
    subject = "polecat-stored" if "polecat-stored" in workload.servers else "polecat"
    failed = reasons(samples, subject)
    if failed:
        return f"**failed**: {failed[0]}"
    values = list(good(samples, subject).values())
    if not values:
        return "not measured"
    if target.times:
        peers = [name for name in workload.servers if name not in ("polecat",) and not name.startswith("floor")]
        by_peer = {name: paired(samples, subject, name) for name in peers}
        measured = {name: median(ratios) for name, ratios in by_peer.items() if ratios}
        if not measured:
            return "not measured"
        nearest = min(measured, key=measured.get)
        is_met, said = measured[nearest] >= target.times, f"{ratio(measured[nearest])} of {nearest}"
    elif target.of:
        ratios = paired(samples, subject, target.of)
        if not ratios:
            return "not measured"
        is_met = median(ratios) <= target.most
        said = f"{spread(ratios, ratio)} over {len(ratios)} pairs"
    else:
        is_met, said = median(values) <= target.most, spread(values, number(workload.unit))
    return f"{said}: **{'met' if is_met else 'not met'}**"


def section(workload, measured, labels):
    samples = measured["samples"]
    write = number(workload.unit)
    what = {"µs": "server CPU, µs", "B": "bytes", "/s": "deliveries per second", "wake-ups": "wake-ups"}
    lines = [f"## {workload.title}", ""]
    lines += [f"Target: {workload.target.text}. polecat: {verdict(workload, samples)}.", ""]
    if workload.note:
        lines += [workload.note, ""]
    lines += [
        f"| `{workload.id}` | {what[workload.unit]} | of the floor | of polecat | per second | p99, µs | rounds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    footnotes = []
    for name in workload.servers:
        values = list(good(samples, name).values())
        failed = reasons(samples, name)
        if failed:
            footnotes.append(f"{labels(name)}: {'; '.join(failed)}.")
        if not values:
            lines.append(f"| {labels(name)} | — | | | | | |")
            continue
        cells = [labels(name), spread(values, write)]
        for base in ("floor", "polecat"):
            ratios = paired(samples, name, base)
            cells.append(spread(ratios, ratio) if ratios and name != base else "")
        for field in ("per_second", "p99_us"):
            more = list(good(samples, name, field).values())
            cells.append(f"{median(more):,.0f}" if more else "")
        cells.append(str(len(values)))
        lines.append(f"| {' | '.join(cells)} |")
    if footnotes:
        lines += ["", *footnotes]
    return [*lines, "", f"Commit {measured['conditions']['commit']}, {measured['date']}.", ""]


def render(workloads, results, machine, versions, labels):
    lines = [
        "# Results of the comparison",
        "",
        "Written by `benches/compare/run`; what is compared, and how, is in [compare/README.md](compare/README.md).",
        "A figure is the median of the rounds, with the smallest and the largest. A ratio is the median of the",
        "ratios of pairs, each from one round.",
        "",
        *[f"- {line}" for line in machine],
        *[f"- {label}: {version}" for label, version in versions.items() if version],
        "",
        "| workload | target | polecat |",
        "| --- | --- | --- |",
    ]
    measured = [workload for workload in workloads if workload.id in results]
    for workload in measured:
        said = verdict(workload, results[workload.id]["samples"])
        lines.append(f"| {workload.title} | {workload.target.text} | {said} |")
    lines.append("")
    for workload in measured:
        lines += section(workload, results[workload.id], labels)
    return "\n".join(lines)
