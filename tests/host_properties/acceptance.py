"""Whether a run of a program, as it was observed, is one that the reference interpreter can make."""

from tests.host_properties.interpreter import EndedError, Labels, Observed, Run, Scope, together
from tests.host_properties.programs import Branch
from wfe_postgres import WorkflowStatus

Decisions = tuple[str, ...]


def mismatch(program: Branch, observed: Observed) -> str | None:
    """Why the observation is not a run of the program that has come to its rest; `None` if it is one.

    Follows the log. What leaves no token is assumed to have happened as late as possible.
    """
    furthest = (-1, "")
    untried: list[Decisions] = [()]
    tried: set[tuple[str, ...]] = set()
    while untried:
        decisions = untried.pop()
        if (position := tuple(sorted(decisions))) in tried:
            continue
        tried.add(position)
        run, labels, status = replayed(program, observed, decisions)
        following = observed.log[len(run.log) :]
        if not following and status is observed.status and _knows_all_children(run):
            return None
        if following and following[0] in labels:
            untried.append((*decisions, following[0]))
        else:
            untried += [(*decisions, it) for it in sorted(labels) if it.startswith("?")]
        furthest = max(furthest, (len(decisions), _text(decisions, following, labels, status)))
    return f"{observed.status}: {furthest[1]}; children: {dict(observed.children)}; events: {observed.events}"


def replayed(program: Branch, observed: Observed, decisions: Decisions) -> tuple[Run, Labels, WorkflowStatus | None]:
    """What can come after these decisions, and the status if nothing can."""
    run = Run(observed)
    process = together(Scope(run, observed.path), program)
    try:
        labels = next(process)
        for label in decisions:
            if not label.startswith("?"):
                run.log.append(label)
            labels = process.send(label)
    except StopIteration:
        return run, frozenset(), WorkflowStatus.COMPLETE
    except EndedError as end:
        return run, frozenset(), end.status
    return run, labels, None if labels else WorkflowStatus.RUNNABLE


def _knows_all_children(run: Run) -> bool:
    return all(len(statuses) <= run.started[key] for key, statuses in run.observed.children.items())


def _text(decisions: Decisions, following: Decisions, labels: Labels, status: WorkflowStatus | None) -> str:
    after, found = ", ".join(decisions) or "the start", ", ".join(following) or "nothing"
    return f"after {after}: expected {', '.join(sorted(labels)) or status or 'nothing'}; found {found}"
