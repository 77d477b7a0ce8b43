"""MESS, the Multi-domain Evaluation of Semantic Segmentation (Blumenstiel et al., NeurIPS 2023).

Its 22 data sets are registered and prepared by the package ``mess-benchmark``, an optional extra:
``pip install escnet-d2[mess]``, then ``python -m mess.prepare_all_datasets``. Here stands which
they are, and how its tables group them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass

from detectron2.data import DatasetCatalog

_MODULE = "mess.datasets"
GENERAL, EARTH = "General", "Earth Monitoring"
MEDICAL, ENGINEERING = "Medical Sciences", "Engineering"
AGRICULTURE = "Agriculture and Biology"
DOMAINS = (GENERAL, EARTH, MEDICAL, ENGINEERING, AGRICULTURE)


@dataclass(frozen=True)
class MessDataset:
    """One of the 22 data sets.

    Attributes:
        title: its name in MESS's tables.
        domain: one of ``DOMAINS``.
        names: its registrations; PAXRay has four, whose mean is its score.
    """

    title: str
    domain: str
    names: tuple[str, ...]


MESS_DATASETS = (
    MessDataset("BDD100K", GENERAL, ("bdd100k_sem_seg_val",)),
    MessDataset("Dark Zurich", GENERAL, ("dark_zurich_sem_seg_val",)),
    MessDataset("MHP v1", GENERAL, ("mhp_v1_sem_seg_test",)),
    MessDataset("FoodSeg103", GENERAL, ("foodseg103_sem_seg_test",)),
    MessDataset("ATLANTIS", GENERAL, ("atlantis_sem_seg_test",)),
    MessDataset("DRAM", GENERAL, ("dram_sem_seg_test",)),
    MessDataset("iSAID", EARTH, ("isaid_sem_seg_val",)),
    MessDataset("ISPRS Potsdam", EARTH, ("isprs_potsdam_sem_seg_test_irrg",)),
    MessDataset("WorldFloods", EARTH, ("worldfloods_sem_seg_test_irrg",)),
    MessDataset("FloodNet", EARTH, ("floodnet_sem_seg_test",)),
    MessDataset("UAVid", EARTH, ("uavid_sem_seg_val",)),
    MessDataset("Kvasir-Instrument", MEDICAL, ("kvasir_instrument_sem_seg_test",)),
    MessDataset("CHASE DB1", MEDICAL, ("chase_db1_sem_seg_test",)),
    MessDataset("CryoNuSeg", MEDICAL, ("cryonuseg_sem_seg_test",)),
    MessDataset(
        "PAXRay-4",
        MEDICAL,
        tuple(
            f"paxray_sem_seg_test_{part}" for part in ("lungs", "bones", "mediastinum", "diaphragm")
        ),
    ),
    MessDataset("Corrosion CS", ENGINEERING, ("corrosion_cs_sem_seg_test",)),
    MessDataset("DeepCrack", ENGINEERING, ("deepcrack_sem_seg_test",)),
    MessDataset("PST900", ENGINEERING, ("pst900_sem_seg_test",)),
    MessDataset("ZeroWaste-f", ENGINEERING, ("zerowaste_sem_seg_test",)),
    MessDataset("SUIM", AGRICULTURE, ("suim_sem_seg_test",)),
    MessDataset("CUB-200", AGRICULTURE, ("cub_200_sem_seg_test",)),
    MessDataset("CWFID", AGRICULTURE, ("cwfid_sem_seg_test",)),
)
MESS_NAMES = tuple(name for dataset in MESS_DATASETS for name in dataset.names)


def register_mess_datasets(names: Iterable[str]) -> list[str]:
    """Registers MESS's data sets if one of them is named and not registered yet.

    Importing ``mess.datasets`` registers them all, below the ``$DETECTRON2_DATASETS`` of that
    moment.

    Args:
        names: data sets that are wanted, of MESS or others.

    Returns:
        Those of ``names`` that are MESS's.

    Raises:
        ValueError: MESS is wanted but ``mess-benchmark`` is not installed, or fails to import, or
            does not have a data set that it should have.
    """
    wanted = [name for name in names if name in MESS_NAMES]
    if all(name in DatasetCatalog for name in wanted):
        return wanted
    try:
        importlib.import_module(_MODULE)
    except ImportError as error:
        raise ValueError(
            f"{wanted[0]} is a data set of MESS, which needs its package: "
            f"pip install 'escnet-d2[mess]' ({error})."
        ) from error
    missing = [name for name in wanted if name not in DatasetCatalog]
    if missing:
        raise ValueError(f"mess-benchmark is installed but does not register {', '.join(missing)}.")
    return wanted
