"""What is said about a search in MLflow: tags, parameters and Markdown descriptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paredown.search.study.display import Outline, describe, name_of, summarize
from paredown.search.study.evaluation import Evaluation
from paredown.search.study.pareto import Front
from paredown.search.study.rows import (
    RATIO_NOTE,
    VOLUME_NOTE,
    FrontRow,
    front_rows,
    references_of,
)
from paredown.spaces.system.foreign_text import as_code, as_code_block, as_markdown

KEY_TAG = "paredown.key"
KIND_TAG = "paredown.kind"
RUNG_TAG = "paredown.rung"
SEARCH_TAG = "paredown.search"
FOLDER_TAG = "paredown.run_folder"
PARETO_TAG = "pareto"
PARENT_TAG = "mlflow.parentRunId"
NOTE_TAG = "mlflow.note.content"

# MLflow refuses longer tags (MAX_TAG_VAL_LENGTH in mlflow/utils/validation.py, 3.17).
LONGEST_TAG = 8000


def child_tags(evaluation: Evaluation, parent_run_id: str) -> dict[str, str]:
    """Tags of an evaluation's run when it is created, not yet marked as on the front."""
    return {
        PARENT_TAG: parent_run_id,
        KEY_TAG: evaluation.key,
        KIND_TAG: evaluation.kind,
        PARETO_TAG: "false",
    }


def child_params(evaluation: Evaluation, outline: Outline) -> dict[str, str]:
    """Few and short: enough to sort and colour by; the whole candidate is an artefact."""
    summary = summarize(evaluation.candidate, outline)
    params = {
        "key": evaluation.key,
        "label": evaluation.label,
        "architecture": evaluation.candidate.architecture,
        "weight_bits": f"{summary.weight_bits:.4g}",
        "int8_share": f"{summary.int8_share:.3g}",
        "sparsity": f"{summary.sparsity:.3g}",
        "rank_fraction": f"{summary.rank_fraction:.3g}",
        "grouped_share": f"{summary.grouped_share:.3g}",
        "width_share": f"{summary.width_share:.3g}",
        "dropped": str(summary.dropped),
    }
    return {name: value for name, value in params.items() if value}


def child_note(evaluation: Evaluation, outline: Outline, run_id: str) -> str:
    """Markdown: the candidate in a line and the command that exports it."""
    title = evaluation.label or "candidate"
    described = as_markdown(describe(evaluation.candidate, outline)[: LONGEST_TAG // 4])
    lines = [f"**{as_markdown(title)}** {as_code(evaluation.key)}", "", described, ""]
    if evaluation.failure is not None:
        lines += ["Failed:", "", as_code_block(evaluation.failure.text[:2000])]
    else:
        lines += ["Export it:", "", as_code_block(f"paredown export --mlflow-run {run_id}")]
    return "\n".join(lines)[:LONGEST_TAG]


def parent_note(
    front: Front,
    evaluations: Sequence[Evaluation],
    children: Mapping[str, str],
    experiment_id: str,
    problems: Sequence[str] = (),
) -> str:
    """Markdown: the front as a table whose keys link to their runs, cut to what MLflow keeps."""
    failures = sum(e.is_failed for e in evaluations)
    references = references_of(evaluations, front.rung)
    found = front_rows(front.members, front.goals, references)
    head = [
        f"**{len(front.members)} models on the front** of {len(evaluations)} evaluations"
        + (f", {failures} failed" if failures else "")
        + ". In the runs table, filter by `tags.pareto = \"true\"` and open the search's row. A model's "
        "name leads to its run, which has its bundle.",
        "",
        "| model | " + " | ".join(map(as_markdown, found.titles)) + " |",
        "|---|" + "---|" * len(front.goals),
    ]
    rows = [_row(row, children, experiment_id) for row in found.rows]
    legend = (
        f"{RATIO_NOTE}. The first {len(references)} rows are references; " if references else ""
    )
    legend += f"{VOLUME_NOTE}. "
    tail = [
        "",
        f"{legend}`report.html` among the artifacts explains everything.",
        *map(as_markdown, problems),
    ]
    used = sum(len(line) + 1 for line in (*head, *tail)) + 40
    kept: list[str] = []
    for row in rows:
        used += len(row) + 1
        if used > LONGEST_TAG:
            tail.insert(1, f"and {len(rows) - len(kept)} more")
            break
        kept.append(row)
    return "\n".join((*head, *kept, *tail)).rstrip()


def _row(row: FrontRow, children: Mapping[str, str], experiment_id: str) -> str:
    name = as_markdown(name_of(row.evaluation))
    run_id = children.get(row.evaluation.key)
    link = f"[{name}](#/experiments/{experiment_id}/runs/{run_id})" if run_id else name
    cells = [
        f"{value} ({comparison})" if comparison else value
        for value, comparison in zip(row.values, row.comparisons, strict=True)
    ]
    return f"| {link} | " + " | ".join(cells) + " |"
