"""Composing, validating and building configurations, and launching commands. The only package that uses Hydra."""

from src.config.building import build
from src.config.composing import CONF, ROOT, folder_flags, groups, jobs, options, quote_rounds
from src.config.config import Config, compose
from src.config.deciding import carried_over, deciding
from src.config.directories import refuse_other_run
from src.config.ending import complain, ended, interrupted
from src.config.launching import launch, new_directory
from src.config.reading import load, load_choices, load_overrides
from src.config.runs import overlay, recorded, refuse_changes, resume, store, written
from src.config.sweeping import SWEEP_FILES, is_sweep, recorded_arguments

__all__ = [
    "CONF",
    "ROOT",
    "SWEEP_FILES",
    "Config",
    "build",
    "carried_over",
    "complain",
    "compose",
    "deciding",
    "ended",
    "folder_flags",
    "groups",
    "interrupted",
    "is_sweep",
    "jobs",
    "launch",
    "load",
    "load_choices",
    "load_overrides",
    "new_directory",
    "options",
    "overlay",
    "quote_rounds",
    "recorded",
    "recorded_arguments",
    "refuse_changes",
    "refuse_other_run",
    "resume",
    "store",
    "written",
]
