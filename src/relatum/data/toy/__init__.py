"""The toy world: procedural scenes with captions, edits with exact targets and masks, and an eye that reads scenes back.

Everything is decided by words and numbers that are kept as facts, so what a model makes of it can be checked against the truth.
"""

from .edits import KINDS, Edit, draw_edit
from .grammar import caption, negatives
from .readers import SPLITS, ToyEdits, ToyScenes, scene_of_row
from .reading import SceneAccuracy, SeenObject, read_ground, read_scene, scene_accuracy
from .render import changed, render
from .scene import COLORS, GROUND_COLORS, HELD_OUT, PLACES, SHAPES, SIZES, TEXTURES, Ground, Object, Scene, Stream, draw_scene

__all__ = [
    "COLORS",
    "GROUND_COLORS",
    "HELD_OUT",
    "KINDS",
    "PLACES",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "TEXTURES",
    "Edit",
    "Ground",
    "Object",
    "Scene",
    "SceneAccuracy",
    "SeenObject",
    "Stream",
    "ToyEdits",
    "ToyScenes",
    "caption",
    "changed",
    "draw_edit",
    "draw_scene",
    "negatives",
    "read_ground",
    "read_scene",
    "render",
    "scene_accuracy",
    "scene_of_row",
]
