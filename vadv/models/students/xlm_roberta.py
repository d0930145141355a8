"""XLM-RoBERTa: RoBERTa with another vocabulary."""

from __future__ import annotations

from dataclasses import replace

from vadv.models.students import roberta

KIND = replace(roberta.KIND, sizes={})
