"""What a spec would do with real records: how many the guard accepts, and why not the others.

Nothing is learned and nothing is written; the sentence for people is made by who asks.
"""

from __future__ import annotations

from collections.abc import Iterable

from headrace.errors import Violation
from headrace.models.guard import REASONS, Guard, Refusal
from headrace.models.spec import Spec
from headrace.ports import Record
from headrace.views import DryRun, Position, Refusals

MAX_EXAMPLES = 3
MAX_GROUPS = 50  # reason and field, the most frequent ones


def examine(spec: Spec, topic: str, records: Iterable[tuple[int, Record]]) -> DryRun:
    """Puts each record, given with its partition, before the spec's guard.

    Refusals are grouped by reason and field, the most frequent first, each with the positions of
    its first three records.
    """
    guard = Guard(spec)
    groups: dict[tuple[str, str], list[Position]] = {}
    counts: dict[tuple[str, str], int] = {}
    texts: dict[tuple[str, str], str] = {}
    read = labelled = 0
    for partition, record in records:
        read += 1
        refusal = guard.admit(record)
        if not isinstance(refusal, Refusal):
            labelled += refusal.y is not None
            continue
        group = (refusal.code, refusal.path)
        counts[group] = counts.get(group, 0) + 1
        texts.setdefault(group, _general(refusal))
        examples = groups.setdefault(group, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(Position(topic, partition, record.offset))
    often = sorted(counts, key=lambda group: (-counts[group], group))[:MAX_GROUPS]
    refused = tuple(
        Refusals(
            code=group[0], text=texts[group], count=counts[group], examples=tuple(groups[group])
        )
        for group in often
    )
    accepted = read - sum(counts.values())
    note = "" if read else "there is no record to examine yet"
    if spec.label is not None and accepted and not labelled:
        note = f"none of them has a label at {spec.label.path}: nothing would be learned"
    return DryRun(read=read, accepted=accepted, refused=refused, note=note)


def key_violation(dry_run: DryRun) -> Violation | None:
    """Why a spec must not be deployed on this topic: most records' keys differ from its path.

    Then the path names the wrong field, or the topic is keyed by something else, and nearly all
    of its events would end in quarantine.
    """
    wrong = [group for group in dry_run.refused if group.code in ("key_mismatch", "key_missing")]
    count = sum(group.count for group in wrong)
    if 2 * count <= dry_run.read:
        return None
    example = wrong[0].examples[0]
    where = f"{example.topic}/{example.partition}/{example.offset}"
    text = (
        f"{count} of {dry_run.read} recent records have a key that differs from this field, or none"
        f" (the one at {where}, say)"
    )
    hint = "for now an agent reads one topic that is keyed by its key: name the field that is it"
    return Violation("$.source.key", text, hint)


def _general(refusal: Refusal) -> str:
    """The refusal's text where it holds for all of its group, else the reason's own."""
    telling = ("missing", "wrong_type", "not_finite", "out_of_range", "too_long")
    return refusal.text if refusal.code in telling else REASONS[refusal.code]
