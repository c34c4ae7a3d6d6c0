"""Pipeline folders in diffusers' layout: found, looked through and refused with a reason before any weight is read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import DataError, RecipeError
from .bundled import resolve

__all__ = ["SHARED_KEY", "PipelineFolder", "find_pipeline"]

# A model_index.json may name a sibling folder that holds the components that it lacks itself (the bundled toy models do).
SHARED_KEY = "_relatum_shared"


@dataclass(frozen=True)
class PipelineFolder:
    """path: the local folder. index: its model_index.json."""

    path: Path
    index: dict[str, Any]

    @property
    def pipeline(self) -> str:
        """The class name of the diffusers pipeline that it was saved from."""
        return str(self.index.get("_class_name"))

    def component(self, name: str) -> Path:
        """The folder of a component, in the shared sibling where it is not here; DataError where it is in neither."""
        places = [self.path / name]
        if shared := self.index.get(SHARED_KEY):
            if not isinstance(shared, str) or Path(shared).name != shared:
                raise DataError(
                    f"{self.path / 'model_index.json'}: {SHARED_KEY} is {shared!r}, expected the name of a folder beside"
                )
            places.append(self.path.parent / shared / name)
        for place in places:
            if place.is_dir():
                return place
        raise DataError(f"the pipeline at {self.path} has no {name}: expected a folder {places[-1]}")

    def config(self, name: str, file: str = "config.json") -> dict[str, Any]:
        """A component's configuration."""
        return _read(self.component(name) / file)

    def load(self, cls: Any, name: str, **settings: Any) -> Any:
        """A component as `cls` of diffusers or transformers; DataError where it cannot be. settings: of its from_pretrained."""
        folder = self.component(name)
        try:
            return cls.from_pretrained(str(folder), local_files_only=True, **settings)
        except (OSError, ValueError, RuntimeError) as error:
            pickled = [*folder.glob("*.bin")] and not [*folder.glob("*.safetensors")]
            only = "; its weights are pickled, which is not read" if pickled else ""
            raise DataError(f"{folder} cannot be loaded as {cls.__name__}{only}: {error}") from error

    def has(self, name: str) -> bool:
        """Whether the index names a component that is not null."""
        entry = self.index.get(name)
        return isinstance(entry, list) and len(entry) == 2 and entry[1] is not None


def find_pipeline(
    path_or_id: str, revision: str | None = None, variant: str | None = None, offline: bool = False
) -> PipelineFolder:
    """A local folder, a bundled model ("relatum:toy") or a hub id, which is downloaded as safetensors unless `offline`."""
    name = resolve(path_or_id)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            found = ", ".join(sorted(p.name for p in path.iterdir())[:6]) or "nothing"
            raise RecipeError(f"{path} is not a diffusers pipeline: it has no model_index.json (found {found})")
        return PipelineFolder(path, _read(path / "model_index.json"))
    if path.is_file():
        raise RecipeError(
            f"{path} is a single file; expected a diffusers folder (diffusers' from_single_file and save_pretrained make one)"
        )
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise RecipeError(f"no folder {name!r}, and it is no hub id, which would look like 'owner/name'")
    return _download(name, revision, variant, offline)


def _download(name: str, revision: str | None, variant: str | None, offline: bool) -> PipelineFolder:
    from diffusers import DiffusionPipeline
    from huggingface_hub.constants import HF_HUB_OFFLINE

    local = offline or HF_HUB_OFFLINE
    try:
        path = Path(
            DiffusionPipeline.download(name, revision=revision, variant=variant, use_safetensors=True, local_files_only=local)
        )
    except (OSError, ValueError) as error:
        where = "in the local cache (offline)" if local else "on the hub or in the local cache"
        raise RecipeError(
            f"model {name!r} (revision {revision or 'main'}, variant {variant}) was not found {where}: {error}"
        ) from error
    return PipelineFolder(path, _read(path / "model_index.json"))


def _read(file: Path) -> dict[str, Any]:
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{file} is missing") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    if not isinstance(table, dict):
        raise DataError(f"{file}: expected a table")
    return table
