"""Metrics that know how sure they are, on samples or on anybody's arrays. Every file of this folder is imported, so that adding a
metric is adding a file."""

import importlib
import pkgutil

from ..pretrained import Extractor, open_extractor
from .base import Estimate, MeanMetric, Metric, Samples
from .clip import cosine_similarity, directional_similarity
from .distance import (
    Moments,
    frechet_debiased,
    frechet_distance,
    frechet_from_moments,
    frechet_null,
    frechet_null_permuted,
    kernel_distance,
    kernel_distance_subsets,
    kernel_estimate,
    weighted_frechet,
    weighted_kernel,
)
from .evaluate import Evaluation, Evaluator
from .evaluate_folder import evaluate
from .evaluate_videos import evaluate_videos
from .flicker import FlickerReading, motion_flicker
from .pixels import psnr, ssim
from .reading import Reading, comparable
from .safety import wilson

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")

__all__ = [
    "Estimate",
    "Evaluation",
    "Evaluator",
    "Extractor",
    "FlickerReading",
    "MeanMetric",
    "Metric",
    "Moments",
    "Reading",
    "Samples",
    "comparable",
    "cosine_similarity",
    "directional_similarity",
    "evaluate",
    "evaluate_videos",
    "frechet_debiased",
    "frechet_distance",
    "frechet_from_moments",
    "frechet_null",
    "frechet_null_permuted",
    "kernel_distance",
    "kernel_distance_subsets",
    "kernel_estimate",
    "motion_flicker",
    "open_extractor",
    "psnr",
    "ssim",
    "weighted_frechet",
    "weighted_kernel",
    "wilson",
]
