"""The table at the end of a run."""

from collections import Counter
from typing import Final

from tests.chaos.faults import Struck
from tests.chaos.invariants import Invariant
from tests.chaos.run import Result
from tests.chaos.sabotage import WrongDesign
from tests.chaos.schedule import CONSUMERS, DISTURBANCES, PARTS, Kind

_SHOWN: Final = 5


def table(result: Result) -> str:
    """Say what was done to each part, what became of the changes, and whether every invariant held."""
    return "\n".join([*_parts(result), "", *_counts(result), "", *_verdict(result)])


def sabotage_row(design: WrongDesign, result: Result) -> str:
    """Say in one line of a table what became of a wrong design."""
    found = Counter(violation.invariant for violation in result.violations)
    broken = ", ".join(f"{invariant.name.lower()} {count}" for invariant, count in sorted(found.items()))
    verdict = "noticed" if design.breaks else "held"
    if not design.is_as_expected(result.violations):
        verdict = f"NOT {verdict.upper()}"
    drained = "" if result.drained_after else "; never drained"
    return f"{design.name:<22}{verdict:<13}{broken or 'nothing broken'}{drained}"


def recoveries(result: Result) -> list[tuple[Struck, float]]:
    """Give, for each blow, the seconds until the trail had all that was acknowledged before the part was back."""
    recorded = {(entry.task_id, entry.task_version): entry.recorded_at.timestamp() for entry in result.evidence.entries}

    def recovery(struck: Struck) -> float:
        arrivals = [
            recorded.get((change.task_id, change.version or 0), 0.0)
            for change in result.ledger.acknowledged
            if struck.at <= change.at <= struck.healed
        ]
        return max(0.0, max([struck.healed, *arrivals]) - struck.at)

    return [(one, recovery(one)) for one in result.struck if one.fault.kind in DISTURBANCES]


def _parts(result: Result) -> list[str]:
    plan = result.plan
    blows = recoveries(result)
    counts = Counter((one.part, one.fault.kind) for one, _ in blows)
    lines = [
        f"Chaos, seed {plan.seed}: {plan.seconds:.0f} s at {plan.rate:.0f} changes/s, {plan.kills} blows",
        "",
        f"{'PART':<20}{'KILLED':>8}{'FROZEN':>8}{'STOPPED':>9}{'SLOWEST RECOVERY':>19}",
    ]
    for part in PARTS:
        numbers = [counts[part, kind] for kind in (Kind.KILL, Kind.FREEZE, Kind.STOP)]
        slowest = f"{max(took for one, took in blows if one.part == part):.1f} s" if any(numbers) else "-"
        lines.append(f"{part:<20}{numbers[0]:>8}{numbers[1]:>8}{numbers[2]:>9}{slowest:>19}")
    totals = [
        sum(count for (_, kind), count in counts.items() if kind is wanted)
        for wanted in (Kind.KILL, Kind.FREEZE, Kind.STOP)
    ]
    struck, longest = max(blows, key=lambda blow: blow[1])
    lines.append(f"{'all':<20}{totals[0]:>8}{totals[1]:>8}{totals[2]:>9}{f'{longest:.1f} s':>19}")
    return [*lines, "", f"The slowest one followed the {struck.fault.kind} of {struck.part}."]


def _counts(result: Result) -> list[str]:
    ledger, evidence = result.ledger, result.evidence
    found = Counter(violation.invariant for violation in result.violations)
    injected = {kind: sum(one.records for one in result.struck if one.fault.kind is kind) for kind in Kind}
    published = len({event.event_id for event in evidence.events})
    poison = set(evidence.poison)
    letters = [
        sum(letter.consumer == name and letter.place in poison for letter in evidence.letters) for name in CONSUMERS
    ]
    drained = "never" if result.drained_after is None else f"{result.drained_after:.1f} s after the last blow"
    rows = [
        ("changes acknowledged", f"{len(ledger.acknowledged)} (503: {ledger.refused}, no answer: {ledger.lost})"),
        ("changes committed", f"{sum(evidence.versions.values())} of {len(evidence.versions)} tasks"),
        ("audited", str(len(evidence.entries))),
        ("notified", str(len(evidence.notified))),
        ("published", f"{published}, and {len(evidence.events) - published} duplicates"),
        ("injected", f"{injected[Kind.REPLAY]} replayed, {injected[Kind.REWIND]} rewound, {len(poison)} poison"),
        ("dead-lettered", f"{letters[0]} and {letters[1]} of {len(poison)} poison, {found[Invariant.HEALTHY]} healthy"),
        ("missing or doubled", str(found[Invariant.AUDITED] + found[Invariant.KEPT] + found[Invariant.NOTIFIED])),
        ("out of order", str(found[Invariant.ORDERED])),
        ("drained", drained),
    ]
    return [f"{name:<22}{value}" for name, value in rows]


def _verdict(result: Result) -> list[str]:
    if result.held:
        return [f"Every invariant held ({len(Invariant)} of {len(Invariant)})."]
    lines = []
    for invariant in Invariant:
        details = [one.detail for one in result.violations if one.invariant is invariant]
        if details:
            lines.append(f"VIOLATED: {invariant} ({len(details)})")
            lines += [f"  {detail}" for detail in details[:_SHOWN]]
    if result.drained_after is None:
        lines.append("VIOLATED: everything arrives in the end")
    return lines
