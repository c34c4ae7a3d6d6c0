"""`relatum animate`: one picture, one caption, one trained model; a film comes out."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..atomic import make_folder
from ..core.errors import DataError, RecipeError
from ..core.registry import task as tasks
from ..core.shapes import Latents
from ..engine.rollout import Rolling, along, decoded, roll_out, rolled
from ..engine.sample import Sampling
from ..engine.sample_svd import Animating, animate_pictures
from ..imaging import decode, fit
from ..models.families.stable_diffusion import StableDiffusion, open_stable_diffusion
from ..models.families.stable_video_diffusion import is_video_diffusion, open_stable_video_diffusion
from ..models.folder import find_pipeline
from ..tasks.animation import Animation
from ..tasks.base import Task
from ..tasks.frames import Frames
from ..video.write import FILMS, write_film
from .opening import device
from .single import check_text, check_tries, model_path

STEP, FASTEST = 0.2, 50.0  # seconds between frames where nothing is said; frames a second that a GIF can show

__all__ = ["Projection", "animate"]


@dataclass(frozen=True)
class Projection:
    """What is written. fps: frames a second as it plays; None is the pace of the scene. rate: frames a second of the scene, any
    number, taken from the great circles between latents; None takes the frames as they were made. count: samples side by side."""

    output: Path
    fps: float | None = None
    rate: float | None = None
    count: int = 1
    resolution: int | None = None

    def __post_init__(self) -> None:
        if self.output.suffix.lower() not in FILMS:
            raise RecipeError(f"animate: {self.output.name!r} ends in none of {', '.join(FILMS)}")
        if self.fps is not None and not 0 < self.fps <= 120:
            raise RecipeError(f"animate: fps is {self.fps}, expected above 0, at most 120")
        if self.rate is not None and not 0 < self.rate <= 240:
            raise RecipeError(f"animate: rate is {self.rate}, expected above 0, at most 240 frames a second")


def animate(
    model: str,
    images: Sequence[Path],
    captions: Sequence[str],
    film: Projection,
    sampling: Sampling,
    rolling: Rolling,
    seed: int = 0,
) -> int:
    """Writes the film; gives its number of frames, the first picture included.

    images: the newest first; where the model takes more frames than there are, the oldest is repeated (a scene at rest).
    captions: one, or one a step; the last one stays; none for a Stable Video Diffusion. RecipeError for what the model does not
    take; DataError for files.
    """
    check_tries("animate", film.count, film.resolution)
    if is_video_diffusion(find_pipeline(model_path(model))):
        return _continued(model, images, captions, film, sampling, rolling, seed)
    if not captions:
        raise RecipeError("animate: no caption; give --caption")
    for caption in captions:
        check_text("animate", caption)
    job = task_of(model)
    if len(images) > job.past:
        raise RecipeError(f"animate: {len(images)} pictures, but the model continues {job.past}; give the newest ones")
    make_folder(film.output.parent)
    opened = open_stable_diffusion(model_path(model), job.past, features=job.features).to(device())
    if opened.widened:
        raise RecipeError(f"{model} has not been trained on frames; train it first (relatum train)")
    size = film.resolution or int(opened.unet.config.sample_size) * opened.codec.factor  # type: ignore[union-attr, arg-type]
    first = [fit(decode(path, str(path)), size) for path in images]
    path = _rolled(opened, job, first, captions, film, sampling, rolling, seed)
    step = rolling.offset or STEP
    if film.rate is not None:
        length = rolling.steps * step
        path = along(path, torch.arange(int(length * film.rate + 1e-6) + 1) / (film.rate * step))
    videos = decoded(path, opened.codec)
    videos[:, :, 0] = first[0]
    pace = min(film.rate or 1 / step, FASTEST) if film.fps is None else film.fps
    write_film(film.output, beside(videos), pace)
    return videos.shape[2]


def _continued(
    model: str,
    images: Sequence[Path],
    captions: Sequence[str],
    film: Projection,
    sampling: Sampling,
    rolling: Rolling,
    seed: int,
) -> int:
    """The film of a Stable Video Diffusion, made as a whole, its first frame too; its number of frames is steps + 1.

    The model is told the pace of `offset`, and what a run folder says of the noise on the picture and of motion.
    """
    refused = {
        "captions, it reads no text; leave --caption out": bool(captions),
        "more than one picture": len(images) > 1,
        "--rate, its frames are those that it makes": film.rate is not None,
        "--noise, it starts from noise once": rolling.noise != Rolling.noise,
        "--refine, it makes all frames at once": rolling.refine > 0,
    }
    for what in (words for words, found in refused.items() if found):
        raise RecipeError(f"animate: {model} is a Stable Video Diffusion, which takes no {what}")
    _, job = _task_in(model)
    known = {"noise_aug_strength": job.usual_noise, "motion_bucket_id": job.motion_bucket_id} if isinstance(job, Animation) else {}
    known |= {} if rolling.given_noise is None else {"noise_aug_strength": rolling.given_noise}
    step = rolling.offset or STEP
    settings = Animating.of(sampling, fps=1 / step, **known)
    make_folder(film.output.parent)
    opened = open_stable_video_diffusion(model_path(model)).to(device())
    size = film.resolution or int(opened.unet.config.sample_size) * opened.codec.factor  # type: ignore[union-attr, arg-type]
    first = fit(decode(images[0], str(images[0])), size).expand(film.count, -1, -1, -1)
    videos = animate_pictures(opened, settings, seed=seed, ids=range(film.count), pictures=first, frames=rolling.steps + 1)
    write_film(film.output, beside(videos), min(1 / step, FASTEST) if film.fps is None else film.fps)
    return videos.shape[2]


def _rolled(
    model: StableDiffusion,
    job: Frames,
    first: Sequence[Tensor],
    captions: Sequence[str],
    film: Projection,
    sampling: Sampling,
    rolling: Rolling,
    seed: int,
) -> Tensor:
    """Latents of the whole film, (count t c h w), the given frame first."""
    latents = [model.codec.latents(model.codec.encode(picture[None]), None) for picture in first]
    given = torch.stack([*latents, *latents[-1:] * (job.past - len(latents))], 1).expand(film.count, -1, -1, -1, -1)
    tokens = [model.text.encode([caption] * film.count) for caption in captions]
    seconds = torch.full((film.count,), rolling.offset or STEP)
    ids = list(range(film.count))
    frames = roll_out(model, job, sampling, rolling, seed=seed, ids=ids, tokens=tokens, given=given, offset=seconds)
    start: Latents = given[:, 0]
    return torch.cat([start[:, None].cpu(), rolled(frames).cpu()], 1).to(given.device)


def task_of(model: str) -> Frames:
    """The task that a run folder was trained on; of a pipeline folder what its input channels tell.

    RecipeError where it was another task, or where only a run folder can tell.
    """
    kind, job = _task_in(model)
    if isinstance(job, Frames):
        return job
    if job is not None:
        raise RecipeError(f'{model} was trained on task {kind!r}; animate takes models of task "frames"')
    origin = find_pipeline(model_path(model), None, None, False)
    unet = origin.config("unet")
    if unet.get("time_cond_proj_dim"):
        raise RecipeError(f"{model} is told numbers that only its run folder explains; give the run folder")
    channels = int(unet.get("out_channels", 4))
    past = int(unet.get("in_channels", 4)) // channels - 1
    if past < 1:
        raise RecipeError(f"{model} is a text-to-image model; train it on frames first (relatum train)")
    return Frames(past=past)


def _task_in(model: str) -> tuple[str, Task | None]:
    """What a run folder was trained on, and its name; None where it is a pipeline."""
    resolved = Path(model) / "recipe.resolved.toml"
    if not resolved.is_file():
        return "", None
    try:
        table = tomllib.loads(resolved.read_text(encoding="utf-8")).get("task", {})
    except (OSError, ValueError) as error:
        raise DataError(f"{resolved}: cannot be read ({error})") from error
    return str(table.get("kind")), tasks.build(table, f"{resolved}: task")


def beside(videos: Tensor) -> Tensor:
    """(n 3 t h w) as one video (t 3 h n*w), four white pixels between."""
    gap = torch.ones(videos.shape[2], 3, videos.shape[3], 4)
    parts = [part for video in videos for part in (video.transpose(0, 1), gap)]
    return torch.cat(parts[:-1], 3)
