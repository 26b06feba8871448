"""Procedural scenes: pictures with exact masks and noun phrases, the same for the same seed."""

from __future__ import annotations

from conceptseg.data.scenes.contact_sheet import contact_sheet
from conceptseg.data.scenes.scene import SPLITS, Scene, SceneObject, render_scene
from conceptseg.data.scenes.writer import make_scenes

__all__ = ["SPLITS", "Scene", "SceneObject", "contact_sheet", "make_scenes", "render_scene"]
