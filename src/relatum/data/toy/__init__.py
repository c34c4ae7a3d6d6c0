"""The toy world: procedural scenes with captions, edits with exact targets and masks, and an eye that reads scenes back.

Everything is decided by words and numbers that are kept as facts, so what a model makes of it can be checked against the truth.
"""

from .claims import Claim, claim_of, is_true
from .clips import MotionClip, ToyClips
from .edits import KINDS, Edit, draw_edit
from .grammar import caption, false_scenes, motion_caption, motion_negatives, negatives
from .motion import DIRECTIONS, SPEEDS, MovingScene, direction_of, draw_motion, film, flow, frames, speed_of, velocity_of, visible
from .readers import SPLITS, ToyEdits, ToyScenes, scene_of_row
from .reading import SceneAccuracy, SeenObject, read_ground, read_scene, scene_accuracy
from .render import changed, render
from .scene import COLORS, GROUND_COLORS, HELD_OUT, PLACES, SHAPES, SIZES, TEXTURES, Ground, Object, Scene, Stream, draw_scene
from .videos import ToyVideos, motion_of_row, true_flows
from .winoworld import QUESTIONS, Question, draw_question

__all__ = [
    "COLORS",
    "DIRECTIONS",
    "GROUND_COLORS",
    "HELD_OUT",
    "KINDS",
    "PLACES",
    "QUESTIONS",
    "SHAPES",
    "SIZES",
    "SPEEDS",
    "SPLITS",
    "TEXTURES",
    "Claim",
    "Edit",
    "Ground",
    "MotionClip",
    "MovingScene",
    "Object",
    "Question",
    "Scene",
    "SceneAccuracy",
    "SeenObject",
    "Stream",
    "ToyClips",
    "ToyEdits",
    "ToyScenes",
    "ToyVideos",
    "caption",
    "changed",
    "claim_of",
    "direction_of",
    "draw_edit",
    "draw_motion",
    "draw_question",
    "draw_scene",
    "false_scenes",
    "film",
    "flow",
    "frames",
    "is_true",
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
