"""The comparators by name."""

from __future__ import annotations

from vadv.comparators.cca import fit_cca, fit_cluster_cca
from vadv.comparators.chance import fit_random
from vadv.comparators.comparator import Comparator
from vadv.comparators.deep_cca import fit_cluster_dcca, fit_dcca
from vadv.comparators.dscmr import fit_dscmr
from vadv.comparators.triplet import fit_triplet

_ALL = (
    Comparator(key="random", title="Random", source="random vectors", fit=fit_random),
    Comparator(key="cca", title="CCA", source="Hotelling 1936", fit=fit_cca, random=False),
    Comparator(key="c-cca", title="C-CCA", source="Rasiwasia et al. 2014", fit=fit_cluster_cca, random=False),
    Comparator(key="dcca", title="DCCA-style", source="after Andrew et al. 2013", fit=fit_dcca),
    Comparator(key="c-dcca", title="C-DCCA-style", source="after Yu et al. 2019", fit=fit_cluster_dcca),
    Comparator(key="dscmr", title="DSCMR-style", source="after Zhen et al. 2019", fit=fit_dscmr),
    Comparator(key="tnn-c-cca", title="TNN-C-CCA-style", source="after Zeng et al. 2020", fit=fit_triplet),
)

COMPARATORS = {comparator.key: comparator for comparator in _ALL}
"""In the order of Table 4."""
