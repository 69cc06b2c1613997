"""Retrieval as SHREC17 measures it: for every query a ranked list of shapes, judged by their class.

Here a network's list holds the test shapes it gives the query's class, the most confident first, the query among them,
at most 1000. Per query, over the list's length n and the R shapes of the query's class:

    P@N = hits / n,   R@N = hits / R,   F1 = 2 P R / (P + R),   AP = sum over hits of (hits so far / rank) / R

micro: mean over queries; macro: mean over the classes of the mean over a class's queries.
Source: Savva et al., SHREC'17 Track: Large-Scale 3D Shape Retrieval from ShapeNet Core55, 2017. The track's NDCG, which
grades sub-classes, is left out: ModelNet10 has none.
"""

from __future__ import annotations

import torch
from torch import Tensor

LIMIT = 1000


def retrieval(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """'P@N', 'R@N', 'F1' and 'mAP', each 'micro' and 'macro'. logits (shape, class), labels (shape)."""
    confidence, answers = logits.softmax(dim=1).max(dim=1)
    ranked = {int(a): _ranked(confidence, answers == a) for a in answers.unique()}
    per_query = torch.stack(
        [_measures(labels[ranked[int(a)]] == y, labels, y) for a, y in zip(answers, labels, strict=True)]
    )
    macro = torch.stack([per_query[labels == label].mean(dim=0) for label in labels.unique()]).mean(dim=0)
    names = ("P@N", "R@N", "F1", "mAP")
    micro = {f"{name} micro": value for name, value in zip(names, per_query.mean(dim=0).tolist(), strict=True)}
    return micro | {f"{name} macro": value for name, value in zip(names, macro.tolist(), strict=True)}


def _ranked(confidence: Tensor, chosen: Tensor) -> Tensor:
    members = chosen.nonzero()[:, 0]
    return members[confidence[members].argsort(descending=True, stable=True)][:LIMIT]


def _measures(hits: Tensor, labels: Tensor, label: Tensor) -> Tensor:
    """P@N, R@N, F1 and AP of a list: hits (rank) says whether each shape is of the query's class."""
    relevant = (labels == label).sum().double()
    found, ranks = hits.double().cumsum(0), torch.arange(1, len(hits) + 1, dtype=torch.float64)
    precision, recall = found[-1] / len(hits), found[-1] / relevant
    f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
    return torch.stack([precision, recall, f1, (found / ranks * hits).sum() / relevant])
