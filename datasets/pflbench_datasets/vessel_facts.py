"""What is known of the six vessel releases: counts, recipes, licences, citations, and how to get each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pflbench.api import Download

# site -> images for training, for testing; the paper's table, in its order
COUNTS: Mapping[str, tuple[int, int]] = {
    "CHASEDB1": (20, 8),
    "DR-HAGIS": (34, 6),
    "DRIVE": (20, 20),
    "HRF": (15, 30),
    "LES-AV": (17, 5),
    "ORVS": (41, 8),
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {
        "rounds": 100,
        "epochs": 4,
        "batch": 4,
        "lr": 1e-3,
        "lr_decay": 0.99,
        "base_width": 64,
        "image_height": 256,
        "image_width": 256,
    },
    "quick": {
        "rounds": 30,
        "epochs": 4,
        "batch": 4,
        "lr": 2e-3,
        "lr_decay": 0.97,
        "base_width": 16,
        "image_height": 128,
        "image_width": 128,
    },
}

LICENCES: Mapping[str, str] = {
    "CHASEDB1": "CC BY 4.0",
    "DR-HAGIS": "unclear: no licence was found; ask its authors before passing it on",
    "DRIVE": "research and education only; must not be redistributed",
    "HRF": "CC BY 4.0",
    "LES-AV": "scientific use only, not commercial; do not redistribute",
    "ORVS": "unclear: its authors ask to be cited and name no licence",
}

CITATIONS: Mapping[str, str] = {
    "CHASEDB1": "Fraz et al., An ensemble classification-based approach applied to retinal blood vessel "
    "segmentation, IEEE TBME 59(9), 2012",
    "DR-HAGIS": "Holm et al., DR HAGIS: a fundus image database for the automatic extraction of retinal "
    "surface vessels from diabetic patients, J. Med. Imaging 4(1), 2017",
    "DRIVE": "Staal et al., Ridge-based vessel segmentation in color images of the retina, IEEE TMI 23(4), 2004",
    "HRF": "Budai et al., Robust vessel segmentation in fundus images, Int. J. Biomed. Imaging, 2013",
    "LES-AV": "Orlando et al., Towards a glaucoma risk index based on simulated hemodynamics from fundus "
    "images, MICCAI 2018",
    "ORVS": "Sarhan et al., Transfer learning through weighted loss function and group normalization for "
    "vessel segmentation from retinal images, ICPR 2020",
}

ADDRESSES: Mapping[str, str] = {
    "CHASEDB1": "https://researchdata.kingston.ac.uk/96/",
    "DR-HAGIS": "https://zenodo.org/records/10847157",
    "DRIVE": "https://drive.grand-challenge.org/",
    "HRF": "https://www5.cs.fau.de/research/data/fundus-images/",
    "LES-AV": "https://figshare.com/articles/dataset/LES-AV_dataset/11857698",
    "ORVS": "https://github.com/AbdullahSarhan/ICPRVessels",
}

# none of the three publishes a sha256; Kingston may ask a browser to prove that it is one, then go by hand
DOWNLOADS: Mapping[str, Download] = {
    "CHASEDB1": Download("https://researchdata.kingston.ac.uk/96/1/CHASEDB1.zip", "CHASEDB1.zip"),
    "HRF": Download("https://www5.cs.fau.de/fileadmin/research/datasets/fundus-images/all.zip", "HRF-all.zip"),
    "LES-AV": Download("https://ndownloader.figshare.com/files/21732282", "LES-AV.zip"),
}

_CLONE = "git clone https://github.com/AbdullahSarhan/ICPRVessels (no account)"

INSTRUCTIONS: Mapping[str, str] = {
    "CHASEDB1": "Open https://researchdata.kingston.ac.uk/96/ (no account; if it is gone: https://researchinnovation."
    "kingston.ac.uk/en/datasets/chasedb1-retinal-vessel-reference-dataset-4/), save CHASEDB1.zip, then: "
    "pflbench data import vessel --from CHASEDB1.zip",
    "DR-HAGIS": "Open https://zenodo.org/records/10847157 (no account), save DRHAGIS.zip, then: "
    "pflbench data import vessel --from DRHAGIS.zip. "
    f"Without its field-of-view masks it is in ICPRVessels too: {_CLONE}, then: "
    "pflbench data import vessel --from ICPRVessels",
    "DRIVE": "Make an account at https://drive.grand-challenge.org/, join the challenge, accept its terms, save the "
    "training and the test archive into one folder DRIVE, then: pflbench data import vessel --from DRIVE. "
    "The test archive of today has no labels, so that DRIVE has nothing to test on; the paper's 20/20 needs the "
    f"older release, or its copy in ICPRVessels: {_CLONE}, then: pflbench data import vessel --from ICPRVessels. "
    "DRIVE's terms forbid redistribution: whether you may use a copy is for you to settle.",
    "HRF": "Open https://www5.cs.fau.de/research/data/fundus-images/ (no account), save the whole dataset, all.zip, "
    "then: pflbench data import vessel --from all.zip",
    "LES-AV": "Open https://figshare.com/articles/dataset/LES-AV_dataset/11857698 (no account), save LES-AV.zip, "
    "then: pflbench data import vessel --from LES-AV.zip",
    "ORVS": f"{_CLONE}, then: pflbench data import vessel --from ICPRVessels. The clone holds CHASEDB1, DR-HAGIS, "
    "DRIVE and HRF as well, in the paper's partition; for all six sites add: --from LES-AV.zip",
}
