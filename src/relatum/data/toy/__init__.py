"""The toy world: procedural scenes with captions, edits with exact targets and masks, and an eye that reads scenes back.

Everything is decided by words and numbers that are kept as facts, so what a model makes of it can be checked against the truth.
"""

from .edits import KINDS, Edit, draw_edit
from .grammar import caption, motion_caption, motion_negatives, negatives
from .motion import DIRECTIONS, SPEEDS, MovingScene, direction_of, draw_motion, film, flow, frames, speed_of, velocity_of, visible
from .readers import SPLITS, ToyEdits, ToyScenes, scene_of_row
from .reading import SceneAccuracy, SeenObject, read_ground, read_scene, scene_accuracy
from .render import changed, render
from .scene import COLORS, GROUND_COLORS, HELD_OUT, PLACES, SHAPES, SIZES, TEXTURES, Ground, Object, Scene, Stream, draw_scene
from .videos import ToyVideos, motion_of_row, true_flows

__all__ = [
    "COLORS",
    "DIRECTIONS",
    "GROUND_COLORS",
    "HELD_OUT",
    "KINDS",
    "PLACES",
    "SHAPES",
    "SIZES",
    "SPEEDS",
    "SPLITS",
    "TEXTURES",
    "Edit",
    "Ground",
    "MovingScene",
    "Object",
    "Scene",
    "SceneAccuracy",
    "SeenObject",
    "Stream",
    "ToyEdits",
    "ToyScenes",
    "ToyVideos",
    "caption",
    "changed",
    "direction_of",
    "draw_edit",
    "draw_motion",
    "draw_scene",
    "film",
    "flow",
    "frames",
    "motion_caption",
    "motion_negatives",
    "motion_of_row",
    "negatives",
    "read_ground",
    "read_scene",
    "render",
    "scene_accuracy",
    "scene_of_row",
    "speed_of",
    "true_flows",
    "velocity_of",
    "visible",
]
