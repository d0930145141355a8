"""Scores of predictions, in numpy alone: the same functions serve training, evaluation, reports and users' arrays."""

from vadv.metrics.ranking import precision_scope, recall_at_k, retrieval
from vadv.metrics.regression import sentiment, seven_classes

__all__ = ["precision_scope", "recall_at_k", "retrieval", "sentiment", "seven_classes"]
